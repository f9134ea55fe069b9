/* A ranking by drag, by keys and by stacking. The places chosen in the answers' own fields are the
   truth; the rail is drawn from them and writes them. */
"use strict";

let picked = "";

const letters = () => all("[data-pane]").map((pane) => pane.dataset.pane);
const placeOf = (letter) => find(`[data-pane="${letter}"] [data-place]`);

/* Tie groups of letters, best first. */
function groups() {
  const found = new Map();
  for (const letter of letters()) {
    const place = Number(placeOf(letter).value);
    if (place) found.set(place, [...(found.get(place) ?? []), letter]);
  }
  return [...found.keys()].sort((a, b) => a - b).map((place) => found.get(place));
}

function arrange(order) {
  const kept = order.filter((group) => group.length);
  for (const letter of letters()) {
    const at = kept.findIndex((group) => group.includes(letter));
    placeOf(letter).value = at === -1 ? "" : String(at + 1);
  }
  if (find("[data-all-bad]").checked) find("[data-all-bad]").checked = false;
  drawRail();
  changed();
}

const lifted = (letter) => groups().map((group) => group.filter((one) => one !== letter));

function pickAnswer(letter) {
  picked = letter;
  if (find("[data-ranking]") && !placeOf(letter).value) arrange([...groups(), [letter]]);
  for (const pane of all("[data-pane]")) pane.classList.toggle("picked", pane.dataset.pane === letter);
  find(`[data-pane="${letter}"]`).scrollIntoView({ block: "nearest" });
  if (find("[data-ranking]")) drawRail();
  say(`${letter} picked${inWords()}`);
}

function shift(by) {
  if (!picked || !find("[data-ranking]")) return;
  const before = groups();
  const at = before.findIndex((group) => group.includes(picked));
  if (at === -1) return;
  const order = lifted(picked);
  if (before[at].length > 1) order.splice(by < 0 ? at : at + 1, 0, [picked]);
  else {
    order.splice(at, 1);
    order.splice(Math.min(Math.max(at + by, 0), order.length), 0, [picked]);
  }
  arrange(order);
  say(`${picked} moved${inWords()}`);
}

function stack() {
  if (!picked || !find("[data-ranking]")) return;
  const at = groups().findIndex((group) => group.includes(picked));
  if (at < 1) return;
  const order = lifted(picked);
  order[at - 1].push(picked);
  arrange(order);
  say(`${picked} tied${inWords()}`);
}

function inWords() {
  const order = find("[data-ranking]") ? groups() : [];
  return order.length ? `: ${order.map((group) => group.join(" = ")).join(" > ")}` : "";
}

function end(name) {
  const input = picked && find(`[data-pane="${picked}"] input[name="${name}"]`);
  if (!input) return;
  input.checked = true;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function chip(letter) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "answer-chip";
  button.dataset.letter = button.textContent = letter;
  button.setAttribute("aria-pressed", String(letter === picked));
  button.setAttribute("aria-label", `Answer ${letter}`);
  return button;
}

function drawRail() {
  const rail = find("[data-rail]");
  if (!rail) return;
  const held = document.activeElement?.dataset?.letter;
  const order = groups();
  rail.replaceChildren(...order.map((group) => {
    const item = document.createElement("li");
    item.append(...group.map(chip));
    return item;
  }));
  const placed = order.flat();
  find("[data-tray]").replaceChildren(...letters().filter((one) => !placed.includes(one)).map(chip));
  find("[data-ranking]").hidden = false;
  find("[data-ranking]").classList.toggle("empty-rail", !order.length);
  for (const pane of all("[data-pane]")) pane.classList.toggle("better", Boolean(order[0]?.includes(pane.dataset.pane)));
  if (held) find(`.answer-chip[data-letter="${held}"]`)?.focus({ preventScroll: true });
}

/* Dragging: a chip between two places takes a place of its own, a chip on another ties with it. */
let drag = null;

function grab(event) {
  const held = event.target.closest?.(".answer-chip");
  if (!held || event.button) return;
  drag = { held, x: event.clientX, y: event.clientY, moved: false };
  held.setPointerCapture(event.pointerId);
}

function carry(event) {
  if (!drag) return;
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 5) return;
  drag.moved = true;
  drag.held.classList.add("dragged");
  drag.held.style.transform = `translate(${dx}px, ${dy}px)`;
  const drop = dropAt(event);
  for (const item of all("[data-rail] li")) {
    item.dataset.drop = drop?.item === item ? drop.side : "";
  }
}

function letGo(event) {
  if (!drag) return;
  const { held, moved } = drag;
  drag = null;
  const letter = held.dataset.letter;
  held.classList.remove("dragged");
  held.style.transform = "";
  if (!moved) return;
  picked = letter;
  const drop = dropAt(event);
  const items = all("[data-rail] li");
  const order = lifted(letter);
  if (!drop) order.push([letter]);
  else if (drop.side === "on") order[items.indexOf(drop.item)].push(letter);
  else order.splice(items.indexOf(drop.item) + (drop.side === "after" ? 1 : 0), 0, [letter]);
  arrange(inTray(event) ? lifted(letter) : order);
  say(`${letter} placed${inWords()}`);
}

const inTray = (event) => Boolean(under(event, "[data-tray]"));

function under(event, selector) {
  return document.elementsFromPoint(event.clientX, event.clientY).find((one) => one.matches(selector));
}

function dropAt(event) {
  const items = all("[data-rail] li");
  const item = under(event, "[data-rail] li");
  if (!item) {
    const next = items.find((one) => one.getBoundingClientRect().left > event.clientX);
    return next ? { item: next, side: "before" } : null;
  }
  const { left, width } = item.getBoundingClientRect();
  const share = (event.clientX - left) / width;
  return { item, side: share < 0.25 ? "before" : share > 0.75 ? "after" : "on" };
}

function onRankKey(event) {
  if (!find("[data-ranking], .ends") || typing(event.target) || event.ctrlKey || event.metaKey || find("dialog[open]")) return;
  if (event.target.closest("[data-rating]") || find(":is([data-skip], [data-flag])[open]") || event.defaultPrevented) return;
  const letter = event.altKey ? "" : /^[1-9]$/.test(event.key) ? letters()[Number(event.key) - 1] : "";
  if (letter) act(event, () => pickAnswer(letter));
}

Object.assign(ACTIONS, {
  "move-up": () => shift(-1), "move-down": () => shift(1), stack, best: () => end("best"), worst: () => end("worst"),
});

document.addEventListener("keydown", onRankKey, true);
document.addEventListener("pointerdown", grab);
document.addEventListener("pointermove", carry);
document.addEventListener("pointerup", letGo);
document.addEventListener("pointercancel", () => (drag = null));
document.addEventListener("click", (event) => {
  const held = event.target.closest?.(".answer-chip");
  if (held) pickAnswer(held.dataset.letter);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-place]")) drawRail();
  if (!event.target.matches(".ends input")) return;
  const other = event.target.name === "best" ? "worst" : "best";
  const same = find(`.ends input[name=${other}][value="${event.target.value}"]:checked`);
  if (same) same.checked = false;
  const [best, worst] = ["best", "worst"].map((name) => find(`.ends input[name=${name}]:checked`)?.closest("[data-pane]").dataset.pane);
  find("[data-ends]").textContent = best || worst ? `Best: ${best ?? "–"}. Worst: ${worst ?? "–"}.` : "Say which answer is the best and which is the worst.";
  for (const pane of all("[data-pane]")) pane.classList.toggle("better", pane.dataset.pane === best);
});
document.addEventListener("ballot:begin", () => {
  picked = "";
  drawRail();
});
