/* Reading at length: a long prompt folds, a conversation starts at its end, the guidelines stay open
   beside the answers from one comparison to the next. */
"use strict";

let guided = false; // whether the person has the guidelines open

const prompt = () => document.querySelector(".ballot .prompt");

function fold() {
  const more = document.querySelector("[data-whole]");
  if (!prompt() || !more) return;
  const text = prompt().querySelector(".turns");
  const folds = text.scrollHeight > text.clientHeight + 4;
  more.hidden = !folds && !prompt().classList.contains("whole");
  text.tabIndex = folds ? 0 : -1;
  if (folds && text.children.length > 1) text.scrollTop = text.scrollHeight; // what is asked now
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
