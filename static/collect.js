/* The ballot page by keyboard. Everything here is a shortcut to a control that works without it.
   Keys never fire in a text field, and a vote needs a choice and then Enter: no key votes alone. */
"use strict";

const IDLE_MS = 30_000; // reading without a touch for longer is being away
const SCALE = ["A3", "A2", "A1", "tie", "B1", "B2", "B3"];
const CYCLE = { A: ["A2", "A3", "A1"], B: ["B2", "B3", "B1"] };

let activeMs = 0;
let lastTick = performance.now();
let lastTouch = lastTick;
let raw = false;

const page = () => document.getElementById("ballot");
const find = (selector) => page()?.querySelector(selector);
const choice = () => find("input[name=choice]:checked")?.value;

function choose(value) {
  const input = find(`input[name=choice][value="${value}"]`);
  if (!input) return;
  input.checked = true;
  input.focus({ preventScroll: true });
  mark();
}

function pick(side, firmly) {
  const cycle = CYCLE[side];
  const at = cycle.indexOf(choice());
  choose(firmly ? cycle[1] : cycle[(at + 1) % cycle.length]);
}

function slide(by) {
  const at = SCALE.indexOf(choice());
  if (at === -1) pick(by < 0 ? "A" : "B", false);
  else choose(SCALE[Math.min(Math.max(at + by, 0), SCALE.length - 1)]);
}

/* The panes show what the scale says. */
function mark() {
  const value = choice() ?? "";
  for (const pane of page().querySelectorAll("[data-pane]")) {
    pane.classList.toggle("better", value.length === 2 && value[0] === pane.dataset.pane);
    pane.classList.toggle("bad", value === "bad");
  }
  keepDraft();
}

function toggle(details) {
  if (!details) return;
  details.open = !details.open;
  if (details.open) details.querySelector("button")?.focus();
}

function showRaw() {
  for (const element of page().querySelectorAll(".pane .raw")) element.hidden = !raw;
  for (const element of page().querySelectorAll(".pane .rendered")) element.hidden = raw;
  find("[data-raw]").setAttribute("aria-pressed", String(raw));
}

function submit() {
  const form = find("[data-verdict]");
  if (find("input[name=choice]") && !choice()) {
    say("Choose A, B, tie or both bad first.");
    find(".scale").classList.add("asked-for");
    return;
  }
  form.requestSubmit();
}

function say(text) {
  document.getElementById("live").textContent = text;
}

function closeAll() {
  for (const details of page().querySelectorAll("details[open]")) details.open = false;
  if (document.activeElement?.matches("textarea, input")) document.activeElement.blur();
}

const KEYS = {
  a: (event) => pick("A", event.shiftKey),
  1: () => pick("A", false),
  b: (event) => pick("B", event.shiftKey),
  2: () => pick("B", false),
  arrowleft: () => slide(-1),
  arrowright: () => slide(1),
  t: () => choose("tie"),
  0: () => choose("tie"),
  x: () => choose("bad"),
  enter: submit,
  s: () => toggle(find("[data-skip]")),
  u: () => find("[data-undo]")?.click(),
  g: () => toggle(find("[data-guide]")),
  r: () => find("[data-raw]").click(),
  "?": () => find("[data-keys-dialog]").showModal(),
};

function onKey(event) {
  if (!page() || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "escape") return closeAll();
  if (find("dialog[open]") || document.querySelector("details.menu[open] :focus") === event.target) {
    return reasonKey(event, key);
  }
  if (event.ctrlKey) {
    if (key === "z" && !typing(event.target)) act(event, KEYS.u);
    return;
  }
  if (typing(event.target) || (key === "enter" && event.target.matches("button, a, summary"))) return;
  if (Object.hasOwn(KEYS, key)) act(event, KEYS[key]);
}

/* With the skip reasons open their numbers choose. */
function reasonKey(event, key) {
  const reason = find("[data-skip][open]")?.querySelectorAll("button[name=reason]")[Number(key) - 1];
  if (reason) act(event, () => reason.click());
  else if (key === "s" && find("[data-skip][open]")) act(event, KEYS.s);
  else if (key === "g" && find("[data-guide][open]")) act(event, KEYS.g);
}

function act(event, action) {
  event.preventDefault();
  action(event);
}

function typing(target) {
  return target.matches("textarea, select, [contenteditable], input:not([type=radio], [type=checkbox])");
}

/* Time with the page in sight and the person at it. */
function tick() {
  const now = performance.now();
  if (!document.hidden && now - lastTouch < IDLE_MS) activeMs += now - lastTick;
  lastTick = now;
}

function touch() {
  tick();
  lastTouch = performance.now();
}

/* A draft outlives a sign-in that ran out; it is dropped once the server has the vote. */
function keepDraft() {
  try {
    sessionStorage.setItem("draft", JSON.stringify({
      ballot: page().dataset.ballot, choice: choice(), comment: find("#comment").value,
    }));
  } catch {
    /* a draft is a comfort, not a promise */
  }
}

function restoreDraft() {
  try {
    const draft = JSON.parse(sessionStorage.getItem("draft") ?? "{}");
    if (draft.ballot !== page().dataset.ballot) return;
    if (draft.choice) find(`input[name=choice][value="${draft.choice}"]`).checked = true;
    if (draft.comment) {
      find("#comment").value = draft.comment;
    }
  } catch {
    /* see keepDraft */
  }
}

function begin() {
  if (!page()) return;
  activeMs = 0;
  lastTick = lastTouch = performance.now();
  for (const button of page().querySelectorAll("[data-raw], [data-keys]")) button.hidden = false;
  restoreDraft();
  mark();
  showRaw();
}

document.addEventListener("keydown", onKey);
for (const kind of ["keydown", "pointermove", "pointerdown", "scroll", "touchstart"]) {
  document.addEventListener(kind, touch, { passive: true, capture: true });
}
document.addEventListener("visibilitychange", tick);

document.addEventListener("change", (event) => {
  if (event.target.name === "choice") mark();
});
document.addEventListener("input", (event) => {
  if (event.target.id === "comment") keepDraft();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-raw]")) {
    raw = !raw;
    showRaw();
  }
  if (event.target.closest("[data-keys]")) KEYS["?"]();
});
document.addEventListener("htmx:configRequest", (event) => {
  tick();
  if (event.target.matches("[data-verdict]")) event.detail.parameters.set("active_ms", Math.round(activeMs));
});
document.addEventListener("submit", () => {
  tick();
  const field = find("input[name=active_ms]");
  if (field) field.value = Math.round(activeMs);
}, true);
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target?.id !== "ballot") return; // history swaps name no target
  begin();
  page().focus({ preventScroll: true });
  say(`${find("[data-echo]").textContent.trim()} Next comparison.`);
});
document.addEventListener("toggle", (event) => {
  if (event.target.matches(".note[open]")) find("#comment").focus();
}, true);
document.addEventListener("htmx:historyRestore", begin);
document.addEventListener("DOMContentLoaded", begin);
