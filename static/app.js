/* Every page: the colour theme, menus that close, and a word when the network fails.
   Loaded before the body so that a stored theme never flashes; the pages work without it. */
"use strict";

const themes = ["system", "light", "dark"];

function storedTheme() {
  try {
    const theme = localStorage.getItem("theme");
    return themes.includes(theme) ? theme : "system";
  } catch {
    return "system"; // storage may be switched off
  }
}

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const toggle = document.querySelector("[data-theme-toggle]");
  if (toggle) {
    toggle.hidden = false;
    toggle.setAttribute("aria-label", `Theme: ${theme}`);
    toggle.title = `Theme: ${theme}`;
  }
}

function nextTheme() {
  const theme = themes[(themes.indexOf(storedTheme()) + 1) % themes.length];
  try {
    localStorage.setItem("theme", theme);
  } catch {
    /* kept for this page only */
  }
  showTheme(theme);
}

function toast(text, kind = "error") {
  const note = document.createElement("p");
  note.className = `toast ${kind}`;
  note.textContent = text;
  document.getElementById("toasts").replaceChildren(note);
  setTimeout(() => note.remove(), 9000);
}

function failure(status) {
  if (!status) return "Not saved: the server cannot be reached. What you chose is still here; try again.";
  if (status === 403) return "Not saved: your session has changed. Reload the page and try again.";
  if (status === 404) return "This is no longer here. Reload the page.";
  return "Not saved: the server had a problem. What you chose is still here; try again.";
}

/* On a narrow screen a bar of tabs scrolls; where one is, is in sight. */
function showWhereOneIs() {
  for (const bar of document.querySelectorAll(".places, .filters")) {
    const tab = bar.querySelector("[aria-current]");
    if (!tab || bar.scrollWidth <= bar.clientWidth) continue;
    const [inner, outer] = [tab.getBoundingClientRect(), bar.getBoundingClientRect()];
    bar.scrollLeft += inner.left - outer.left - (bar.clientWidth - inner.width) / 2;
  }
}

showTheme(storedTheme());

document.addEventListener("DOMContentLoaded", () => {
  showTheme(storedTheme());
  showWhereOneIs();
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-theme-toggle]")) nextTheme();
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const source = document.getElementById(copy.dataset.copy);
    navigator.clipboard?.writeText(source.value ?? source.textContent.trim());
    copy.textContent = "Copied";
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
});

// A poll saves nothing and comes again by itself, so its failure needs other words.
function complain(event, status) {
  const polls = event.target.getAttribute?.("hx-trigger")?.includes("every");
  if (event.target.matches?.("[data-says]") && (!status || status >= 500)) {
    return toast("Not sent yet: the server cannot be reached. What you said is kept here and goes by itself.");
  }
  if (event.target.matches?.("[data-says]") && status === 403) {
    return toast("Not sent yet: your session has changed. What you said is kept here; reload the page and it goes.");
  }
  toast(polls ? "Live updates are interrupted. Trying again…" : failure(status));
}

document.addEventListener("htmx:responseError", (event) => complain(event, event.detail.xhr.status));
document.addEventListener("htmx:sendError", (event) => complain(event, 0));
document.addEventListener("htmx:timeout", (event) => complain(event, 0));

// A session that ended meanwhile answers with the sign-in page: go there, do not paste it in here.
document.addEventListener("htmx:beforeSwap", (event) => {
  const url = event.detail.xhr.responseURL;
  if (url && new URL(url).pathname.startsWith("/accounts/login")) {
    event.detail.shouldSwap = false;
    const signIn = new URL(url);
    signIn.searchParams.set("next", location.pathname); // back to this page, whatever was asked
    location.assign(signIn);
  }
});
