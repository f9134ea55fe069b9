// The form of a blend: what a slider says, and only the fields that the method reads.
const form = document.querySelector("[data-blend]");
const ROLES = ["added to", "has learnt something", "learnt it from this one"];

function tell() {
  const method = form.elements.method.value;
  const shares = [...form.querySelectorAll(".share input")];
  const chosen = shares.filter((_, n) => form.elements[`policy-${n + 1}`].value);
  const total = chosen.reduce((sum, one) => sum + Number(one.value), 0);
  shares.forEach((one, n) => {
    const counts = chosen.includes(one) && total > 0;
    const said = counts ? `${Math.round((100 * one.value) / total)} %` : "–";
    one.closest(".share").querySelector("output").value = said;
    one.setAttribute("aria-valuetext", said);
    one.closest(".share").hidden = method === "vector" || Number(form.elements.steps.value) > 0;
    form.querySelector(`[data-role="${n + 1}"]`).textContent = method === "vector" ? ROLES[n] ?? "" : "";
    one.closest("li").hidden = method === "vector" && n > 2;
  });
  for (const one of form.querySelectorAll("[data-only]")) one.hidden = one.dataset.only !== method;
}

if (form) {
  form.addEventListener("input", tell);
  tell();
}
