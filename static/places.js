/* Marks on places of an answer's raw text: select by pointer, or word by word with the arrow keys,
   then choose a label. Places are counted in code points, as the server counts them. */
"use strict";

let chosen = null; // {n, start, end} of the selection that waits for a label

const spanField = () => find("input[name=spans]");
const spans = () => JSON.parse(spanField()?.value || "[]");
const rawOf = (n) => all(".pane")[n].querySelector(".raw");
const points = (text) => [...text].length;

function keepSpans(list) {
  spanField().value = JSON.stringify(list);
  drawSpans();
  changed();
}

function drawSpans() {
  if (!spanField()) return;
  page().append(find("[data-labels]")); // out of the bar, to stand beside what is selected
  all(".pane").forEach((pane, n) => {
    const raw = rawOf(n);
    const text = [...raw.textContent];
    const mine = spans().map((span, at) => ({ ...span, at })).filter((span) => span.n === n).sort((a, b) => a.start - b.start);
    let from = 0;
    const parts = [];
    for (const span of mine) {
      const start = Math.max(span.start, from);
      parts.push(text.slice(from, start).join(""));
      const mark = document.createElement("mark");
      mark.dataset.label = span.label;
      mark.textContent = text.slice(start, Math.max(start, span.end)).join("");
      parts.push(mark);
      from = Math.max(from, span.end);
    }
    raw.replaceChildren(...parts, text.slice(from).join(""));
    pane.querySelector(".places-marked").replaceChildren(...mine.map((span) => line(span, text)));
  });
}

function line(span, text) {
  const item = document.createElement("li");
  const words = document.createElement("q");
  words.textContent = text.slice(span.start, span.end).join("");
  const label = document.createElement("span");
  label.className = "span-label";
  label.dataset.label = span.label;
  label.textContent = find(`button[data-label="${span.label}"]`)?.lastChild.textContent.trim() ?? span.label;
  const note = document.createElement("input");
  Object.assign(note, { value: span.note ?? "", placeholder: "Note", maxLength: 300 });
  note.setAttribute("aria-label", `Note on “${words.textContent}”`);
  note.dataset.spanNote = span.at;
  const remove = document.createElement("button");
  Object.assign(remove, { type: "button", className: "button quiet", textContent: "Remove" });
  remove.setAttribute("aria-label", `Remove the mark on “${words.textContent}”`);
  remove.dataset.spanRemove = span.at;
  item.append(label, words, note, remove);
  return item;
}

/* The selection as a place of one answer, or null. */
function selected() {
  const range = getSelection().rangeCount ? getSelection().getRangeAt(0) : null;
  const raw = range && !range.collapsed && closest(range.commonAncestorContainer, ".raw");
  if (!raw || raw.closest(".pane").querySelector("[data-spans][data-waits]")) return null;
  const before = document.createRange();
  before.selectNodeContents(raw);
  before.setEnd(range.startContainer, range.startOffset);
  const text = range.toString();
  const start = points(before.toString()) + points(text) - points(text.trimStart());
  const end = start + points(text.trim());
  return end > start ? { n: all(".raw").indexOf(raw), start, end } : null;
}

function closest(node, selector) {
  return (node.nodeType === Node.TEXT_NODE ? node.parentElement : node).closest(selector);
}

function offer() {
  const labels = find("[data-labels]");
  if (!labels) return;
  chosen = selected();
  labels.hidden = !chosen;
  if (!chosen) return;
  const box = getSelection().getRangeAt(0).getBoundingClientRect();
  const top = box.bottom + 8 + labels.offsetHeight > innerHeight - 120 ? box.top - labels.offsetHeight - 8 : box.bottom + 8;
  labels.style.top = `${Math.max(8, top)}px`;
  labels.style.left = `${Math.max(8, Math.min(box.left, innerWidth - labels.offsetWidth - 8))}px`;
}

function label(name) {
  if (!chosen) return;
  const at = spans().length;
  keepSpans([...spans(), { ...chosen, label: name, note: "" }]);
  chosen = null;
  find("[data-labels]").hidden = true;
  getSelection().removeAllRanges();
  find(`[data-span-note="${at}"]`)?.focus();
  say("Marked. A note, or Escape to go on.");
}

function startMarking(pane = current()) {
  if (!spanField()) return;
  if (pane.querySelector("[data-spans][data-waits]")) return toast("This answer is still being written; mark its places when it has ended.", "hint");
  if (!view.raw) toggleView("raw");
  const raw = pane.querySelector(".raw");
  raw.tabIndex = 0;
  raw.focus();
  getSelection().setBaseAndExtent(raw.firstChild ?? raw, 0, raw.firstChild ?? raw, 0);
  getSelection().modify("extend", "forward", "word");
  offer();
  say("Arrow keys choose a word, Shift and an arrow key takes more, a number labels it.");
}

function onPlaceKey(event) {
  if (!spanField() || typing(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = chosen && find("[data-labels]").querySelectorAll("button")[Number(event.key) - 1];
  if (number) return act(event, () => label(number.dataset.label));
  if (!event.target.matches(".raw") || !["ArrowLeft", "ArrowRight"].includes(event.key)) return;
  act(event, () => {
    const way = event.key === "ArrowRight" ? "forward" : "backward";
    const selection = getSelection();
    if (event.shiftKey) selection.modify("extend", way, "word");
    else if (way === "forward") {
      selection.collapseToEnd();
      selection.modify("move", "forward", "word");
      selection.modify("move", "backward", "word");
      selection.modify("extend", "forward", "word");
    } else {
      selection.collapseToStart();
      selection.modify("move", "backward", "word");
      selection.modify("extend", "forward", "word");
    }
    offer();
  });
}

ACTIONS.mark = () => startMarking();
document.addEventListener("keydown", onPlaceKey, true);
document.addEventListener("pointerup", () => setTimeout(offer));
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-label], [data-span-remove], [data-mark-places]");
  if (!button || !page()) return;
  if (button.matches("button[data-label]")) label(button.dataset.label);
  if (button.dataset.spanRemove) keepSpans(spans().filter((_, at) => at !== Number(button.dataset.spanRemove)));
  if (button.matches("[data-mark-places]")) startMarking(button.closest(".pane"));
});
document.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button[data-label]")) event.preventDefault(); // the selection stays
});
document.addEventListener("input", (event) => {
  const at = event.target.dataset?.spanNote;
  if (at === undefined) return;
  const list = spans();
  list[Number(at)].note = event.target.value;
  spanField().value = JSON.stringify(list);
  keepDraft();
});
document.addEventListener("ballot:begin", drawSpans);
