/* The ballot page: what it begins with, what a form lacks, and the next one in its place. Everything
   here is a shortcut to a control that works without it. The files beside it hold the scale of a
   pair, keys, drafts, rankings, marked places, live answers. */
"use strict";

const page = () => document.getElementById("ballot");
const find = (selector) => page()?.querySelector(selector);
const all = (selector) => [...(page()?.querySelectorAll(selector) ?? [])];
const form = () => find("[data-verdict]");
// A field that a swap takes away with words in it says once more that it has changed.
const inForm = (field) => Boolean(form()?.contains(field));
const choice = () => find("input[name=choice]:checked")?.value ?? "";

function changed() {
  unreview();
  showChoice();
  keepDraft();
}

function toggle(details) {
  if (!details) return;
  details.open = !details.open;
  if (details.open) details.querySelector("button, textarea, a")?.focus();
}

function current() {
  return document.activeElement?.closest?.("[data-pane]") ?? find(".pane.picked") ?? find("[data-pane]");
}

function submit() {
  form()?.requestSubmit();
}

/* What a form lacks, in words, and where that is said; nothing for a whole one. The server asks for
   the same, and more. */
function lacking() {
  const bad = choice() === "bad" || Boolean(find("[data-all-bad]:checked"));
  if (all("[data-seen]").some((one) => one.value.endsWith(".0"))) return ["Wait until both answers have begun, or skip."];
  if (find("[data-scale]") && !choice()) {
    return [marked() && step() ? "Say how good the best one is, too: good, ok or bad." : "Choose A, B, tie or both bad first."];
  }
  if (find("[data-ranking]") && !bad && all("[data-place]").some((place) => !place.value)) {
    return ["Give each answer a place first."];
  }
  if (find(".ends") && !bad && all(".ends input:checked").length < 2) return ["Say which answer is the best and which is the worst."];
  if (find(".mark") && !bad && !find(".mark input:checked")) return ["Say how good the best answer is.", find(".mark input")];
  const unrated = bad ? null : all("[data-rating]").find((one) => !one.querySelector(":checked"));
  if (unrated) return [`Rate each answer first; ${unrated.querySelector("legend").innerText.trim()} is missing.`, unrated.querySelector("input")];
  const words = find("textarea[required]");
  if (words && !words.value.trim()) return ["Say why in words; this campaign asks for it.", words];
  return [];
}

function refuse(event) {
  const [lacks, where] = event.target.matches("[data-verdict]") ? lacking() : [];
  if (!lacks) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  say(lacks);
  toast(lacks, "hint");
  find(".scale, .ranking")?.classList.add("asked-for");
  where?.focus();
}

function say(text) {
  document.getElementById("live").textContent = text;
}

function closeAll() {
  for (const details of all("details.menu[open], .note[open], .guide[open]")) details.open = false;
  if (document.activeElement?.matches("textarea, input")) document.activeElement.blur();
}

function begin() {
  if (!page()) return;
  keptAt = 0;
  if (form()) form().noValidate = true; // what is missing is said in words of our own
  half = { step: "", mark: "" };
  beginTime();
  for (const details of all(".note[open], .correct[open]")) details.dataset.came = "";
  for (const button of all("[data-view], [data-spans]:not([data-waits]), [data-copy]")) button.hidden = false;
  restoreDraft();
  revealAgain();
  showChoice();
  showView();
  document.dispatchEvent(new Event("ballot:begin"));
}

/* Content that a campaign warns of stays revealed in this tab once a person has asked to see it. */
function revealAgain() {
  const warning = find("[data-warning]");
  if (!warning) return;
  const place = `revealed:${find(".where a").pathname}`;
  warning.open = sessionStorage.getItem(place) === "yes";
  warning.addEventListener("toggle", () => sessionStorage.setItem(place, warning.open ? "yes" : "no"));
}

/* What was read back is no longer what the form says. */
function unreview() {
  find("[data-review]")?.remove();
  const button = find(".submit");
  if (button?.dataset.first) button.firstChild.data = `${button.dataset.first} `;
}

document.addEventListener("change", (event) => {
  if (event.target.name === "choice") half = { step: "", mark: "" };
  if (inForm(event.target)) changed();
});
document.addEventListener("click", (event) => {
  for (const name of Object.keys(view)) if (event.target.closest(`[data-${name}]`)) toggleView(name);
  if (event.target.closest(".menu [data-keys]")) ACTIONS.help();
});
document.addEventListener("submit", refuse, true);
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target?.id !== "ballot") return; // history swaps name no target
  if (announce) find("[data-echo]").append(Object.assign(document.createElement("p"), { className: "success", textContent: announce }));
  announce = "";
  begin();
  const asked = find("[data-review], .wrong");
  (asked ?? page()).focus({ preventScroll: true });
  if (asked) setTimeout(() => asked.scrollIntoView({ block: "nearest" })); // htmx goes to the top first
  say(asked ? (asked.querySelector("h2") ?? asked).innerText.trim() : `${find("[data-echo]").textContent.trim()} Next comparison.`);
});
document.addEventListener("htmx:historyRestore", begin);
document.addEventListener("DOMContentLoaded", begin);
