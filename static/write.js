/* Ctrl+Enter sends a message, and sending it twice is prevented here as well as on the server. */
"use strict";

document.addEventListener("keydown", (event) => {
  const form = event.target.closest?.("[data-write]");
  if (form && event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
});
document.addEventListener("submit", (event) => {
  const button = event.target.matches("[data-write]") && event.target.querySelector("[type=submit]");
  if (button) setTimeout(() => (button.disabled = true));
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("[data-write] [type=submit]")) button.disabled = false;
});
