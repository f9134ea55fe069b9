/* How long a person was at a comparison: with the page in sight and not away. A vote that came sooner
   than its texts can be read is saved like any other, and now and then a word says so. */
"use strict";

const IDLE_MS = 30_000; // reading without a touch for longer is being away
const CHARACTERS_A_WORD = 6; // as the server counts them, see quality/speed.py
const SAID_EVERY = 5; // hasty votes: at each it would be nagging

let activeMs = 0;
let lastTick = performance.now();
let lastTouch = lastTick;
let hasty = false; // whether the vote that is being sent is
let hastyVotes = 0;

function tick() {
  const now = performance.now();
  if (!document.hidden && now - lastTouch < IDLE_MS) activeMs += now - lastTick;
  lastTick = now;
}

function touch() {
  tick();
  lastTouch = performance.now();
}

function beginTime() {
  activeMs = Number(find("input[name=active_ms]")?.value) || 0; // of a form that has come back
  lastTick = lastTouch = performance.now();
}

function tooFast() {
  if (!page().dataset.pace) return false;
  const [least, word] = page().dataset.pace.split(" ").map(Number);
  const characters = all(".raw").reduce((sum, one) => sum + one.textContent.length, 0);
  return activeMs / 1000 < Math.max(least, (word * characters) / CHARACTERS_A_WORD);
}

for (const kind of ["keydown", "pointermove", "pointerdown", "scroll", "touchstart"]) {
  document.addEventListener(kind, touch, { passive: true, capture: true });
}
document.addEventListener("visibilitychange", tick);
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
  if (event.target.matches("[data-verdict][data-says]")) hasty = tooFast();
});
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (!event.target.matches?.("[data-verdict][data-says]") || event.detail.xhr.status !== 200) return;
  if (hasty && hastyVotes++ % SAID_EVERY === 0) {
    toast("That was quicker than these answers can be read. It is saved; take the time you need, and undo what was too quick.", "hint");
  }
});
