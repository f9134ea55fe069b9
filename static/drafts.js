/* What is said on its way: drafts as they are filled in, votes into the outbox before they are sent
   and out of it on the server's word. */
"use strict";

const DRAFT_MS = 700; // of no typing before a draft is sent
const NOT_DRAFTED = ["key", "active_ms", "csrfmiddlewaretoken", "seen_0", "seen_1", "reviewed"];

let announce = ""; // what the server said of a vote that an outbox sent
let keptAt = 0;
let draftTimer = 0;

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
document.addEventListener("outbox:sent", onSent);
setInterval(showKept, 1000);
document.addEventListener("input", (event) => {
  if (!inForm(event.target)) return;
  unreview();
  keepDraft();
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!event.target.matches("[data-says]")) return;
  if (event.target.matches("[data-verdict]")) {
    clearTimeout(draftTimer);
    draftTimer = 0;
  }
  hold(event.target, page().dataset.ballot, event.detail.requestConfig.triggeringEvent?.submitter);
});
// Before the swap takes the form away: what comes after it is told of what is left of the page.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  if (!event.target.matches?.("[data-says]") || !settled(event.detail.xhr)) return;
  release(keyOf(event.target));
  if (event.target.matches("[data-verdict]")) store(`draft:${event.target.action.split("/").at(-2)}`, null);
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.target.matches?.("[data-says]") || settled(event.detail.xhr)) return;
  closeAll();
  showUnsynced();
});
document.addEventListener("toggle", (event) => {
  const came = "came" in event.target.dataset; // open with the page: nobody has asked to write in it
  delete event.target.dataset.came;
  if (!came && event.target.matches(".note[open], .correct[open]")) event.target.querySelector("textarea").focus();
  if (event.target.matches(":is([data-skip], [data-flag])[open]") && draftTimer) {
    clearTimeout(draftTimer);
    sendDraft(); // what is typed comes back with an undo
  }
}, true);
