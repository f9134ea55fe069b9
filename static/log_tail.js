/* The end of a job's output: it follows while one looks at its end, and rests when one scrolls up,
   so that what is read does not move. */
"use strict";

const NEAR = 24; // pixels from the end that count as the end

/* The box lies upside down (lab.css), so that its end is at 0 and stays in view by itself. */
function resting(holder) {
  const box = holder.querySelector(".log");
  return box !== null && Math.abs(box.scrollTop) > NEAR;
}

function tellLog(holder) {
  const state = document.querySelector("[data-log-state]");
  if (!state) return;
  const words = !holder.hasAttribute("hx-get") ? "" : resting(holder) ? "Paused while you read. Scroll to the end to follow." : "Live";
  if (state.textContent !== words) state.textContent = words;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.id === "job-log" && resting(event.target)) event.preventDefault();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const holder = event.detail.target;
  if (holder.id !== "job-log") return;
  const had = document.activeElement?.matches("#job-log .log");
  holder.dataset.focused = had ? "yes" : "";
  const before = holder.querySelector("pre")?.textContent;
  const fresh = new DOMParser().parseFromString(event.detail.serverResponse, "text/html");
  if (before !== undefined && before === fresh.querySelector("pre")?.textContent) event.detail.shouldSwap = false;
});

document.addEventListener("htmx:afterSwap", (event) => {
  const holder = event.detail.target;
  if (holder.id !== "job-log") return;
  if (holder.dataset.focused) holder.querySelector(".log")?.focus({ preventScroll: true });
});

document.addEventListener("scroll", (event) => {
  const holder = event.target.closest?.("#job-log");
  if (holder) tellLog(holder);
}, true);

document.addEventListener("DOMContentLoaded", () => {
  const holder = document.getElementById("job-log");
  if (holder) tellLog(holder);
});
