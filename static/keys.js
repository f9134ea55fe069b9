/* The ballot page by keyboard. Keys come from the table in the page's own help, never fire in a text
   field, and a vote needs a choice and then Enter: no key votes alone. */
"use strict";

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
  edit: () => toggle(current()?.querySelector("[data-correct]:not([hidden])")),
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

document.addEventListener("keydown", onKey);
