/* Two answers as they are written. The server is asked what has come since; each field `seen_` says
   how much of its answer is on the screen (attempt.characters), which is what a vote is stored on. Text comes in as text;
   the rendered answer takes its place when it is whole. A screen reader hears of ends only. */
"use strict";

const PACE_MS = 160; // between two looks; a lost network is asked more and more rarely
const SLOWEST_MS = 4000;
const WORDS = { waiting: "Waiting", writing: "Writing", done: "Finished", failed: "Broke off" };
const QUIET_MS = 15_000; // without a first word before the page says that it still waits

let live = null; // the page that is being looked at

const livePanes = () => [...document.querySelectorAll("#ballot[data-live] [data-pane]")];

function beginLive() {
  const page = document.querySelector("#ballot[data-live]");
  if (live) clearTimeout(live.timer);
  live = page && { url: page.dataset.live, pause: PACE_MS, begun: performance.now(), timer: 0, asking: false, stale: false };
  for (const pane of livePanes()) pane.querySelector(".pane-text").setAttribute("aria-busy", "true");
  if (live) look();
}

/* One question at a time: two would bring the same words twice. */
async function look() {
  const asked = live;
  clearTimeout(asked.timer);
  if (asked.asking) return;
  asked.asking = true;
  const [a, b] = livePanes().map((pane) => pane.querySelector("[data-seen]"));
  const query = new URLSearchParams({ a: a.value, b: b.value });
  let news = null;
  try {
    const answer = await fetch(`${asked.url}?${query}`, { headers: { Accept: "application/json" } });
    if (answer.ok && !answer.redirected) news = await answer.json();
  } catch {
    /* no network: the answers go on, and are shown when it is back */
  }
  asked.asking = false;
  if (live !== asked || !document.contains(a)) return;
  if (asked.stale) {
    asked.stale = false; // asked before an answer was begun anew: ask again
    return look();
  }
  asked.pause = news ? PACE_MS : Math.min(SLOWEST_MS, asked.pause * 2);
  if (news && !news.open) return closed();
  if (news) livePanes().forEach((pane, n) => showNews(pane, news.answers[n]));
  showNote();
  const over = livePanes().every((pane) => ["done", "failed"].includes(pane.dataset.state));
  if (!over) asked.timer = setTimeout(look, asked.pause);
}

const attemptOf = (seen) => Number(seen.value.split(".")[0]);

function showNews(pane, told) {
  const seen = pane.querySelector("[data-seen]");
  const streaming = pane.querySelector("[data-streaming]");
  const raw = pane.querySelector(".raw");
  if (attemptOf(seen) !== told.attempt) streaming.textContent = raw.textContent = "";
  if (told.more && streaming) {
    streaming.append(told.more);
    raw.append(told.more);
  }
  seen.value = `${told.attempt}.${told.upto}`;
  const before = pane.dataset.state;
  pane.dataset.state = told.state;
  const words = told.state === "writing" && !raw.textContent ? WORDS.waiting : WORDS[told.state];
  const label = pane.querySelector("[data-live-state]");
  if (label.textContent !== words) label.textContent = words;
  if (told.state === before) return;
  const letter = pane.dataset.pane;
  const trouble = pane.querySelector("[data-trouble]");
  trouble.hidden = told.state !== "failed";
  trouble.querySelector("p").textContent = told.trouble ?? "";
  if (["done", "failed"].includes(told.state)) pane.querySelector(".pane-text").removeAttribute("aria-busy");
  if (told.state === "done") finish(pane, told);
  if (before && told.state === "done") say(`Answer ${letter} finished.`);
  if (before && told.state === "failed") say(`Answer ${letter} broke off. ${told.trouble}`);
}

/* The rendered answer where the plain one stood; the pane keeps its height meanwhile. */
function finish(pane, told) {
  const streaming = pane.querySelector("[data-streaming]");
  if (!streaming || told.html === undefined) return;
  const text = pane.querySelector(".pane-text");
  text.style.minHeight = `${text.offsetHeight}px`;
  pane.querySelector(".rendered").innerHTML = told.html; // cleaned on the server, as every answer
  streaming.remove();
  const cut = pane.querySelector(".cut-off");
  cut.textContent = told.cut;
  cut.hidden = !told.cut;
  for (const waiting of pane.querySelectorAll("[data-waits]")) { // what is asked of a text that stands still
    waiting.removeAttribute("data-waits");
    waiting.hidden = false;
  }
  const area = pane.querySelector("textarea.in-place");
  if (area) [area.value, area.disabled] = [pane.querySelector(".raw").textContent, false];
  const words = pane.querySelector("[data-words]");
  if (words) [words.textContent, words.hidden] = [told.words, false];
}

function showNote() {
  const note = document.querySelector("[data-live-note]");
  const states = livePanes().map((pane) => pane.dataset.state);
  const going = states.filter((state) => !["done", "failed"].includes(state)).length;
  const begun = livePanes().some((pane) => pane.querySelector(".raw").textContent || pane.dataset.state === "done");
  let words = "You may judge before the end: saving stops the writing, and what you have seen is what is kept.";
  if (!going) words = states.includes("failed") ? "One answer broke off. Have it written again, or judge what there is, or skip." : "";
  else if (!begun && performance.now() - live.begun > QUIET_MS) words = "Still waiting for the first words. You may skip this one.";
  else if (!begun) words = "Two answers are about to be written.";
  if (note.textContent !== words) note.textContent = words;
  note.hidden = !words;
}

function closed() {
  const note = document.querySelector("[data-live-note]");
  note.hidden = false;
  note.textContent = "You have answered this comparison in another tab.";
}

async function writeAgain(button) {
  const pane = button.closest("[data-pane]");
  const seen = pane.querySelector("[data-seen]");
  const body = new URLSearchParams({ place: pane.dataset.pane.toLowerCase(), attempt: attemptOf(seen) });
  button.disabled = true;
  try {
    const answer = await fetch(button.dataset.again, { method: "POST", body, headers: { "X-CSRFToken": csrf() } });
    if (!answer.ok) toast("This answer cannot be written again. You may skip the comparison.");
    else pane.querySelector(".pane-text").focus({ preventScroll: true });
  } catch {
    toast("Offline; try again when the network is back.");
  }
  button.disabled = false;
  if (!live) return;
  live.stale = live.asking;
  look();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-again]");
  if (button) writeAgain(button);
});
document.addEventListener("ballot:begin", beginLive);
