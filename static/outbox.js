/* Answers on their way: votes, skips, flags and undos. Each is written here before it is sent and
   leaves only on the server's word, so neither a lost network nor a closed tab nor a session that
   ended can lose it. Each carries what makes sending it twice the same as once (a vote, a skip and
   a flag their key, an undo the answer it names), and the person whose it is. */
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

function fill(entries) {
  try {
    localStorage.setItem(BOX, JSON.stringify(entries));
  } catch {
    /* see box */
  }
  showUnsynced();
}

/* `page` is the ballot that was on the screen. An undo names another one, which it brings back. */
function hold(form, page, button) {
  const data = new URLSearchParams(new FormData(form, button?.form === form ? button : null));
  data.delete("csrfmiddlewaretoken");
  const says = form.dataset.says;
  const ballot = says === "undo" ? data.get("ballot") : page;
  const entry = { says, url: form.getAttribute("action"), body: data.toString(), ballot, page, user: whose() };
  const kept = Object.entries(box()).filter(([, one]) => one.ballot !== ballot); // the newest only
  fill({ ...Object.fromEntries(kept), [keyOf(form)]: entry });
}

const keyOf = (form) => (form.dataset.says === "undo" ? `undo:${form.elements.ballot.value}` : form.elements.key.value);

function release(key) {
  const entries = box();
  delete entries[key];
  fill(entries);
}

/* The vote on a ballot that waits here, to fill its form again. */
function outboxBody(ballot) {
  const mine = Object.values(box()).find((one) => one.ballot === ballot && one.user === whose());
  return mine?.says === "vote" ? mine.body : null;
}

/* Whether the server has taken or refused it, rather than not heard of it. */
function settled(answer) {
  const url = answer.responseURL ?? answer.url;
  if (url && new URL(url).pathname.startsWith("/accounts/login")) return false;
  return (answer.status >= 200 && answer.status < 300) || [409, 422].includes(answer.status);
}

function showUnsynced() {
  const entries = Object.values(box());
  const mark = document.querySelector("[data-unsynced]");
  if (mark) {
    mark.hidden = !entries.length || sending;
    const others = whose() && entries.some((one) => one.user !== whose());
    mark.textContent = `${entries.length} unsynced${others ? " (of another person)" : ""}`;
  }
  const waiting = document.querySelector("[data-waiting]"); // where one signs in
  if (!waiting) return;
  waiting.hidden = !entries.length;
  const what = entries.length === 1 ? "One answer waits" : `${entries.length} answers wait`;
  waiting.textContent = `${what} in this browser and ${entries.length === 1 ? "is" : "are"} sent once you are signed in.`;
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
  if (event.target.matches?.("[data-says]")) sending = true;
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
