/* The ballot page by keyboard. Everything here is a shortcut to a control that works without it.
   Keys come from the table in the page's own help, never fire in a text field, and a vote needs a
   choice and then Enter: no key votes alone. */
"use strict";

const IDLE_MS = 30_000; // reading without a touch for longer is being away
const DRAFT_MS = 700; // of no typing before a draft is sent
const NOT_DRAFTED = ["key", "active_ms", "csrfmiddlewaretoken", "seen_0", "seen_1"];
const SCALE = ["A3", "A2", "A1", "tie", "B1", "B2", "B3"];
const CYCLE = { A: ["A2", "A3", "A1"], B: ["B2", "B3", "B1"] };

let activeMs = 0;
let lastTick = performance.now();
let lastTouch = lastTick;
let half = { step: "", mark: "" }; // of a marked scale: what is said so far
let announce = ""; // what the server said of a vote that an outbox sent
let keptAt = 0;
let draftTimer = 0;

const page = () => document.getElementById("ballot");
const find = (selector) => page()?.querySelector(selector);
const all = (selector) => [...(page()?.querySelectorAll(selector) ?? [])];
const form = () => find("[data-verdict]");
const choice = () => find("input[name=choice]:checked")?.value ?? "";

/* The scale of a pair. Where it is marked, a choice is a step and how good the best one is. */
const marked = () => Boolean(find(".scale.marked"));
const step = () => choice().split(".")[0] || half.step;
const markSaid = () => choice().split(".")[1] || half.mark;

function choose(newStep, newMark = markSaid()) {
  if (!find("[data-scale]")) return;
  half = { step: newStep, mark: newMark };
  const whole = !marked() || newStep === "bad" ? newStep : newStep && newMark ? `${newStep}.${newMark}` : "";
  for (const input of all("input[name=choice]")) input.checked = input.value === whole;
  const focus = find("input[name=choice]:checked") ?? find(`[data-step="${newStep}"] input`);
  focus?.focus({ preventScroll: true });
  changed();
}

function pick(side, firmly) {
  const cycle = CYCLE[side];
  choose(firmly ? cycle[1] : cycle[(cycle.indexOf(step()) + 1) % cycle.length]);
}

function slide(by) {
  const at = SCALE.indexOf(step());
  if (at === -1) pick(by < 0 ? "A" : "B", false);
  else choose(SCALE[Math.min(Math.max(at + by, 0), SCALE.length - 1)]);
}

function mark(value) {
  const alone = find(`input[name=mark][value="${value}"]`);
  if (alone) alone.checked = true;
  if (marked()) choose(step() === "bad" ? "" : step(), value);
  changed();
}

function allBad() {
  const box = find("[data-all-bad]");
  if (!box) return choose("bad");
  box.checked = !box.checked;
  box.dispatchEvent(new Event("change", { bubbles: true }));
}

/* The panes show what the scale says. */
function showChoice() {
  const said = step();
  for (const pane of all("[data-pane]")) {
    pane.classList.toggle("better", said.length === 2 && said[0] === pane.dataset.pane);
    pane.classList.toggle("bad", said === "bad" || Boolean(find("[data-all-bad]:checked")));
  }
  for (const column of all("[data-step]")) column.classList.toggle("begun", column.dataset.step === said);
  for (const cell of all(".cell")) cell.classList.toggle("begun", !choice() && cell.dataset.mark === half.mark);
}

function changed() {
  showChoice();
  keepDraft();
}

function toggle(details) {
  if (!details) return;
  details.open = !details.open;
  if (details.open) details.querySelector("button, textarea, a")?.focus();
}

function current() {
  return document.activeElement?.closest?.("[data-pane]") ?? find(".pane.picked") ?? find("[data-pane]");
}

function submit() {
  if (!form()) return;
  const lacks = lacking();
  if (!lacks) return form().requestSubmit();
  say(lacks);
  toast(lacks, "hint");
  find(".scale, .ranking")?.classList.add("asked-for");
}

function lacking() {
  if (all("[data-seen]").some((one) => one.value.endsWith(".0"))) return "Wait until both answers have begun, or skip.";
  if (find("[data-scale]") && !choice()) {
    return marked() && step() ? "Say how good the best one is, too: good, ok or bad." : "Choose A, B, tie or both bad first.";
  }
  if (find("[data-ranking]") && !find("[data-all-bad]").checked && all("[data-place]").some((place) => !place.value)) {
    return "Give each answer a place first.";
  }
  return "";
}

function say(text) {
  document.getElementById("live").textContent = text;
}

function closeAll() {
  for (const details of all("details.menu[open], .note[open], .guide[open]")) details.open = false;
  if (document.activeElement?.matches("textarea, input")) document.activeElement.blur();
}

const ACTIONS = {
  "pick-a": () => pick("A", false),
  "pick-b": () => pick("B", false),
  "much-a": () => pick("A", true),
  "much-b": () => pick("B", true),
  left: () => slide(-1),
  right: () => slide(1),
  tie: () => choose("tie"),
  bad: allBad,
  "mark-good": () => mark("3"),
  "mark-ok": () => mark("2"),
  "mark-bad": () => mark("1"),
  edit: () => toggle(current()?.querySelector("[data-correct]")),
  note: () => (find("[data-note]") ? toggle(find("[data-note]")) : find("#comment")?.focus()),
  submit,
  undo: () => find("[data-undo]")?.click(),
  previous: () => find("[data-previous]")?.click(),
  skip: () => toggle(find("[data-skip]")),
  flag: () => toggle(find("[data-flag]")),
  guidelines: () => toggle(find("[data-guide]")),
  raw: () => toggleView("raw"),
  diff: () => toggleView("diff"),
  scroll: () => toggleView("scroll"),
  stacked: () => toggleView("stacked"),
  help: () => find("[data-keys-dialog]").showModal(),
};

/* Whose key this is, by the table in the page's help. */
function actionOf(event) {
  const where = find("[data-scale]") ? "pair" : "rank";
  const name = keyName(event);
  const row = all("[data-keys-dialog] [data-action]").find(
    (one) => ["any", where].includes(one.dataset.where) && one.dataset.keys.split(" ").includes(name),
  );
  return row?.dataset.action;
}

function keyName(event) {
  const key = event.key === " " ? "space" : event.key.toLowerCase();
  const shifted = event.shiftKey && (key.length > 1 || /\p{L}/u.test(key));
  return (event.altKey ? "alt+" : "") + (shifted ? "shift+" : "") + key;
}

function onKey(event) {
  if (!page() || event.defaultPrevented || event.metaKey || event.isComposing || event.repeat) return;
  const key = event.key.toLowerCase();
  if (key === "escape") return closeAll();
  if (find("dialog[open]")) return;
  if (event.ctrlKey) {
    if (key === "z" && !typing(event.target)) act(event, ACTIONS.undo);
    if (key === "enter") act(event, submit); // also from within a text field
    return;
  }
  if (typing(event.target)) return;
  if (chooseReason(event, key) || rateByDigit(event, key)) return;
  if (key === "enter" && event.target.matches("button:not(.answer-chip), a, summary")) return;
  if (key.startsWith("arrow") && event.target.closest(".rating, .mark, .ends") && !event.altKey) return;
  const action = ACTIONS[actionOf(event)];
  if (action) act(event, action);
}

/* With reasons open their numbers choose. */
function chooseReason(event, key) {
  const reason = find(":is([data-skip], [data-flag])[open]")?.querySelectorAll("button[name=reason]")[Number(key) - 1];
  if (reason) act(event, () => reason.click());
  return Boolean(reason);
}

/* A number rates where the focus is, and the focus goes on to the next scale. */
function rateByDigit(event, key) {
  let rating = event.target.closest("[data-rating]");
  const alone = !find("[data-scale], [data-ranking], .ends");
  if (!rating && alone) rating = all("[data-rating]").find((one) => !one.querySelector(":checked"));
  const input = /^\d$/.test(key) && rating?.querySelector(`input[value="${key}"]`);
  if (!input) return false;
  act(event, () => {
    input.checked = true;
    input.focus({ preventScroll: true });
    changed();
    const next = all("[data-rating]")[all("[data-rating]").indexOf(rating) + 1];
    next?.querySelector("input:checked, input")?.focus();
  });
  return true;
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

/* Drafts: the server keeps them; what it could not take waits in this browser. */
function fields() {
  const data = new URLSearchParams(new FormData(form()));
  for (const name of NOT_DRAFTED) data.delete(name);
  for (const area of all("textarea.in-place")) {
    const original = area.closest(".pane").querySelector(".raw").textContent.replace(/\r\n?/g, "\n");
    if (area.value === original) data.delete(area.name);
  }
  return data;
}

function keepDraft() {
  if (!form()) return;
  clearTimeout(draftTimer);
  draftTimer = setTimeout(sendDraft, DRAFT_MS);
}

async function sendDraft() {
  draftTimer = 0;
  const asked = form();
  if (!asked) return;
  const body = fields();
  const place = `draft:${page().dataset.ballot}`;
  let said = "";
  let waits = true;
  try {
    const answer = await fetch(asked.dataset.draft, {
      method: "POST", body, headers: { "X-CSRFToken": asked.csrfmiddlewaretoken.value },
    });
    waits = answer.redirected || (!answer.ok && answer.status !== 409);
    if (answer.redirected) said = "Signed out; your draft is kept in this browser";
    else if (!answer.ok) said = answer.status === 409 ? await answer.text() : "Draft kept in this browser";
  } catch {
    said = "Offline; your draft is kept in this browser";
  }
  store(place, waits ? body.toString() : null);
  if (form() !== asked) return; // answered meanwhile
  keptAt = said ? 0 : Date.now();
  showKept(said);
}

function showKept(said = "") {
  const place = find("[data-kept]");
  if (!place || !(said || keptAt)) return;
  const seconds = Math.round((Date.now() - keptAt) / 1000);
  const ago = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
  place.textContent = said || `Draft saved ${ago} ago`;
}

function store(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    /* storage may be switched off */
  }
}

function restoreDraft() {
  let kept = null;
  try {
    kept = localStorage.getItem(`draft:${page().dataset.ballot}`);
  } catch {
    /* storage may be switched off */
  }
  kept ??= outboxBody(page().dataset.ballot);
  if (!kept || !form()) return;
  for (const [name, value] of new URLSearchParams(kept)) {
    if (NOT_DRAFTED.includes(name)) continue;
    for (const field of form().querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
      if (field.type === "radio" || field.type === "checkbox") field.checked = field.value === value || field.checked;
      else field.value = value;
    }
  }
  find("[data-kept]").textContent = "Draft restored";
}

function begin() {
  if (!page()) return;
  activeMs = keptAt = 0;
  half = { step: "", mark: "" };
  lastTick = lastTouch = performance.now();
  for (const button of all("[data-view], [data-spans], [data-copy]")) button.hidden = false;
  restoreDraft();
  revealAgain();
  showChoice();
  showView();
  document.dispatchEvent(new Event("ballot:begin"));
}

/* Content that a campaign warns of stays revealed in this tab once a person has asked to see it. */
function revealAgain() {
  const warning = find("[data-warning]");
  if (!warning) return;
  const place = `revealed:${find(".where a").pathname}`;
  warning.open = sessionStorage.getItem(place) === "yes";
  warning.addEventListener("toggle", () => sessionStorage.setItem(place, warning.open ? "yes" : "no"));
}

/* The server's word on a vote that an outbox sent: on to the next one, if it was this page's. */
function onSent(event) {
  const { entry, answer } = event.detail;
  store(`draft:${entry.ballot}`, null);
  if (entry.page !== page()?.dataset.ballot || !form()) return;
  announce = answer.saved ?? answer.refused;
  const token = form().csrfmiddlewaretoken.value;
  htmx.ajax("POST", form().dataset.next, {
    target: "#ballot", swap: "outerHTML", headers: { "X-CSRFToken": token },
  });
}

addEventListener("pagehide", () => {
  if (draftTimer && form()) store(`draft:${page().dataset.ballot}`, fields().toString());
});
document.addEventListener("keydown", onKey);
for (const kind of ["keydown", "pointermove", "pointerdown", "scroll", "touchstart"]) {
  document.addEventListener(kind, touch, { passive: true, capture: true });
}
document.addEventListener("visibilitychange", tick);
document.addEventListener("outbox:sent", onSent);
setInterval(showKept, 1000);

document.addEventListener("change", (event) => {
  if (event.target.name === "choice") half = { step: "", mark: "" };
  if (event.target.closest("[data-verdict]")) changed();
});
document.addEventListener("input", (event) => {
  if (event.target.closest("[data-verdict]")) keepDraft();
});
document.addEventListener("click", (event) => {
  for (const name of Object.keys(view)) if (event.target.closest(`[data-${name}]`)) toggleView(name);
  if (event.target.closest(".menu [data-keys]")) ACTIONS.help();
});
document.addEventListener("htmx:configRequest", (event) => {
  if (!event.target.matches("[data-verdict]")) return;
  tick();
  event.detail.parameters.set("active_ms", Math.round(activeMs));
});
document.addEventListener("submit", () => {
  tick();
  const field = find("input[name=active_ms]");
  if (field) field.value = Math.round(activeMs);
}, true);
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!event.target.matches("[data-says]")) return;
  if (event.target.matches("[data-verdict]")) {
    clearTimeout(draftTimer);
    draftTimer = 0;
  }
  hold(event.target, page().dataset.ballot, event.detail.requestConfig.triggeringEvent?.submitter);
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.target.matches?.("[data-says]")) return;
  if (settled(event.detail.xhr)) {
    release(keyOf(event.target));
    if (event.target.matches("[data-verdict]")) store(`draft:${event.target.action.split("/").at(-2)}`, null);
  } else {
    closeAll();
    showUnsynced();
  }
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target?.id !== "ballot") return; // history swaps name no target
  if (announce) find("[data-echo]").append(Object.assign(document.createElement("p"), { className: "success", textContent: announce }));
  announce = "";
  begin();
  page().focus({ preventScroll: true });
  say(`${find("[data-echo]").textContent.trim()} Next comparison.`);
});
document.addEventListener("htmx:historyRestore", begin);
document.addEventListener("toggle", (event) => {
  if (event.target.matches(".note[open], .correct[open]")) event.target.querySelector("textarea").focus();
  if (event.target.matches(":is([data-skip], [data-flag])[open]") && draftTimer) {
    clearTimeout(draftTimer);
    sendDraft(); // what is typed comes back with an undo
  }
}, true);
document.addEventListener("DOMContentLoaded", begin);
