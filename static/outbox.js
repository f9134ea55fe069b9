/* Votes on their way. A vote is written here before it is sent and leaves only on the server's word,
   so neither a lost network nor a closed tab nor a session that ended can lose it. Each carries the
   key that makes sending it twice the same as once, and the person whose vote it is. */
"use strict";

const BOX = "outbox";
const RETRY_MS = 10_000;

const whose = () => document.body.dataset.user ?? "";

function box() {
  try {
    return JSON.parse(localStorage.getItem(BOX) ?? "{}");
  } catch {
    return {}; // storage may be switched off: then only this request carries the vote
  }
}

function fill(votes) {
  try {
    localStorage.setItem(BOX, JSON.stringify(votes));
  } catch {
    /* see box */
  }
  showUnsynced();
}

function hold(form, ballot) {
  const data = new URLSearchParams(new FormData(form));
  data.delete("csrfmiddlewaretoken");
  const entry = { url: form.getAttribute("action"), body: data.toString(), ballot, user: whose() };
  const votes = Object.values(box()).some((one) => one.ballot === ballot) ? without(ballot) : box();
  fill({ ...votes, [data.get("key")]: entry });
}

/* A ballot answered again before it was sent holds the newest answer only. */
function without(ballot) {
  return Object.fromEntries(Object.entries(box()).filter(([, one]) => one.ballot !== ballot));
}

function release(key) {
  const votes = box();
  delete votes[key];
  fill(votes);
}

function outboxBody(ballot) {
  return Object.values(box()).find((one) => one.ballot === ballot && one.user === whose())?.body ?? null;
}

/* Whether the server has taken or refused the vote, rather than not heard of it. */
function settled(answer) {
  const url = answer.responseURL ?? answer.url;
  if (url && new URL(url).pathname.startsWith("/accounts/login")) return false;
  return (answer.status >= 200 && answer.status < 300) || [409, 422].includes(answer.status);
}

function showUnsynced() {
  const mark = document.querySelector("[data-unsynced]");
  if (!mark) return;
  const votes = Object.values(box());
  mark.hidden = !votes.length || sending;
  const others = votes.some((one) => one.user !== whose());
  mark.textContent = `${votes.length} unsynced${others ? " (of another person)" : ""}`;
}

let sending = false; // by the form itself: not late yet

/* On a page that has just come, "no such ballot" is the server's word. Later somebody else may have
   signed in meanwhile, whose ballot it is not: then it stays for the next page. */
async function deliver(fresh = false) {
  for (const [key, entry] of Object.entries(box())) {
    if (entry.user !== whose()) continue;
    let reply;
    try {
      reply = await fetch(entry.url, {
        method: "POST",
        body: new URLSearchParams(entry.body),
        headers: { Accept: "application/json", "X-CSRFToken": csrf() },
      });
    } catch {
      break; // still no network
    }
    const gone = reply.status === 404 && fresh === true;
    if (reply.status === 404 && !gone) continue;
    if (!gone && !settled(reply)) break;
    const answer = reply.headers.get("Content-Type")?.includes("json")
      ? await reply.json() : { refused: "That comparison is no longer here." };
    release(key);
    if (answer.refused) toast(`Not saved: ${answer.refused}`);
    document.dispatchEvent(new CustomEvent("outbox:sent", { detail: { entry, answer } }));
  }
  showUnsynced();
}

function csrf() {
  return JSON.parse(document.body.getAttribute("hx-headers") ?? "{}")["X-CSRFToken"] ?? "";
}

document.addEventListener("htmx:beforeSend", (event) => {
  if (event.target.matches?.("[data-verdict]")) sending = true;
  showUnsynced();
});
document.addEventListener("htmx:afterRequest", () => (sending = false), true);
document.addEventListener("DOMContentLoaded", () => {
  showUnsynced();
  if (whose()) deliver(true);
});
addEventListener("online", () => deliver());
addEventListener("storage", showUnsynced);
setInterval(() => {
  if (!sending && Object.keys(box()).length) deliver();
}, RETRY_MS);
