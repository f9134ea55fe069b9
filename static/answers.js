/* The figures of the token under the pointer, or the one that the arrow keys have reached. Without
   scripts each token's title and the table of figures say the same. */
"use strict";

let plain = false; // whether answers are shown as text, which outlives a refreshed list

function point(heat, token) {
  heat.querySelector(".here")?.classList.remove("here");
  const says = heat.parentElement.querySelector(".heat-says");
  says.dataset.rest ??= says.textContent;
  if (!token) {
    says.textContent = says.dataset.rest;
    return;
  }
  token.classList.add("here");
  says.textContent = `“${token.textContent.trim()}” ${token.title}`;
}

document.addEventListener("pointerover", (event) => {
  const token = event.target.closest?.("[data-heat] .tok");
  if (token) point(token.parentElement, token);
});

document.addEventListener("pointerout", (event) => {
  const heat = event.target.closest?.("[data-heat]");
  if (heat && !heat.contains(event.relatedTarget)) point(heat, null);
});

document.addEventListener("keydown", (event) => {
  const heat = event.target.matches?.("[data-heat]") && event.target;
  if (!heat || event.ctrlKey || event.metaKey || event.altKey) return;
  const tokens = [...heat.children];
  const at = tokens.findIndex((one) => one.classList.contains("here"));
  const to = { ArrowRight: at + 1, ArrowLeft: at < 0 ? tokens.length - 1 : at - 1, Home: 0, End: tokens.length - 1 }[event.key];
  if (to === undefined || !tokens.length) return;
  point(heat, tokens[Math.min(Math.max(to, 0), tokens.length - 1)]);
  event.preventDefault();
});

document.addEventListener("focusout", (event) => {
  if (event.target.matches?.("[data-heat]")) point(event.target, null);
});

document.addEventListener("change", (event) => {
  if (event.target.id === "as-text") plain = event.target.checked;
});

document.addEventListener("htmx:afterSwap", () => {
  const box = document.getElementById("as-text");
  if (box) box.checked = plain;
});
