/* Reading: raw or rendered, what differs, scrolling together, one under the other. A long prompt
   folds, a conversation starts at its end, and the guidelines stay open beside the answers from one
   comparison to the next. */
"use strict";

let view = { raw: false, diff: false, scroll: false, stacked: false };

function showView() {
  for (const text of all(".pane-text")) {
    const diff = view.diff && !view.raw && text.querySelector(".diff")?.textContent;
    text.querySelector(".raw").hidden = !view.raw;
    text.querySelector(".rendered").hidden = view.raw || Boolean(diff);
    text.querySelector(".diff").hidden = !diff;
  }
  for (const name of Object.keys(view)) find(`[data-${name}]`)?.setAttribute("aria-pressed", String(view[name]));
  find(".panes")?.classList.toggle("together", view.scroll);
  find(".panes")?.classList.toggle("stacked", view.stacked);
}

function toggleView(name) {
  if (!find(`[data-${name}]`)) return;
  view[name] = !view[name];
  if (name === "diff" && view.diff) view.raw = false;
  if (name === "raw" && view.raw) view.diff = false;
  if (view.diff && !find(".diff").textContent) find("[data-diff]").dispatchEvent(new Event("differ"));
  showView();
  say({ raw: view.raw ? "Raw text" : "Rendered text", diff: view.diff ? "Differences shown" : "Differences hidden",
    scroll: view.scroll ? "Answers scroll together" : "The page scrolls",
    stacked: view.stacked ? "Answers one under the other" : "Answers side by side" }[name]);
}

let scrolling = null; // the pane that the person scrolls
function scrollTogether(event) {
  if (!view.scroll || !event.target.matches?.(".pane-text") || (scrolling && scrolling !== event.target)) return;
  scrolling = event.target;
  const share = scrolling.scrollTop / Math.max(1, scrolling.scrollHeight - scrolling.clientHeight);
  for (const other of all(".pane-text")) {
    if (other !== scrolling) other.scrollTop = share * (other.scrollHeight - other.clientHeight);
  }
  requestAnimationFrame(() => requestAnimationFrame(() => (scrolling = null)));
}

let guided = false; // whether the person has the guidelines open

const prompt = () => document.querySelector(".ballot .prompt");

function fold() {
  const more = document.querySelector("[data-whole]");
  if (!prompt() || !more) return;
  const text = prompt().querySelector(".turns");
  const folds = text.scrollHeight > text.clientHeight + 4;
  more.hidden = !folds && !prompt().classList.contains("whole");
  text.tabIndex = folds ? 0 : -1;
  showEdges();
}

function showEdges() {
  const text = prompt()?.querySelector(".turns");
  if (!text) return;
  prompt().classList.toggle("above", text.scrollTop > 4);
  prompt().classList.toggle("below", text.scrollHeight - text.clientHeight - text.scrollTop > 4);
}

function showWhole() {
  const whole = prompt().classList.toggle("whole");
  const more = document.querySelector("[data-whole]");
  more.textContent = whole ? "Fold the prompt" : "Whole prompt";
  more.setAttribute("aria-expanded", String(whole));
  showEdges();
}

function beginReading() {
  const text = prompt()?.querySelector(".turns");
  if (text?.children.length > 1) text.scrollTop = text.scrollHeight; // what is asked now
  fold();
  const guide = document.querySelector("[data-guide]");
  if (guide && guided) guide.open = true;
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-whole]")) showWhole();
  if (event.target.closest("[data-guide-close]")) {
    const guide = document.querySelector("[data-guide]");
    guide.open = false;
    guide.querySelector("summary").focus();
  }
});
document.addEventListener("toggle", (event) => {
  if (event.target.matches("[data-guide]")) guided = event.target.open;
}, true);
document.addEventListener("scroll", (event) => {
  if (event.target.matches?.(".turns")) showEdges();
}, { passive: true, capture: true });
addEventListener("resize", fold);
document.addEventListener("ballot:begin", beginReading);
document.addEventListener("DOMContentLoaded", beginReading); // of an answered one, too
document.addEventListener("htmx:oobAfterSwap", showView);
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.target.matches?.("[data-diff]") || !event.detail.successful || find(".diff mark")) return;
  toast("The answers are the same, word for word.", "hint");
});
document.addEventListener("scroll", scrollTogether, { passive: true, capture: true });
