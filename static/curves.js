/* What a person may do with the curves that charts.js draws: smooth them, and read and zoom them by
   keyboard. The figures under the cursor stand in the legend, which is announced. */
"use strict";

const SMOOTHING = "curve smoothing";

function remembered() {
  try {
    const value = Number(localStorage.getItem(SMOOTHING));
    return value > 0 && value < 1 ? value : 0;
  } catch {
    return 0; // storage may be switched off
  }
}

function smooth(range, value) {
  look.smoothing = value;
  range.value = value;
  range.nextElementSibling.textContent = value ? value.toFixed(2) : "off";
  for (const { plot, chart } of plots.values()) {
    const { min, max } = plot.scales.x;
    plot.setData(columns(chart), false);
    plot.setScale("x", { min, max });
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const range = document.querySelector("[data-smoothing]");
  if (!range) return;
  range.closest("label").hidden = false;
  document.getElementById("curve-keys").hidden = false;
  smooth(range, remembered());
  range.addEventListener("input", () => {
    smooth(range, Number(range.value));
    try {
      localStorage.setItem(SMOOTHING, range.value);
    } catch {
      /* kept for this page only */
    }
  });
});

function place(plot, steps, index) {
  plot.setCursor({ left: plot.valToPos(steps[index], "x"), top: plot.over.clientHeight / 2 });
}

/* The range of steps that is `factor` times as wide, around the cursor, within what there is. */
function zoom(plot, steps, around, factor) {
  const last = steps[steps.length - 1];
  const { min, max } = plot.scales.x;
  const width = Math.min(Math.max((max - min) * factor, 4), Math.max(last - steps[0], 1));
  const from = Math.min(Math.max(around - width / 2, steps[0]), last - width);
  plot.setScale("x", { min: from, max: from + width });
}

document.addEventListener("keydown", (event) => {
  const held = event.target.matches?.(".plot") && plots.get(event.target.closest("figure"));
  if (!held || event.ctrlKey || event.metaKey || event.altKey) return;
  const { plot, chart: { steps } } = held;
  const { min, max } = plot.scales.x;
  const first = steps.findIndex((step) => step >= min);
  const last = steps.findLastIndex((step) => step <= max);
  const at = Math.min(Math.max(plot.cursor.idx ?? last, first), last);
  const stride = event.shiftKey ? 10 : 1;
  switch (event.key) {
    case "ArrowLeft": place(plot, steps, Math.max(first, at - stride)); break;
    case "ArrowRight": place(plot, steps, Math.min(last, at + stride)); break;
    case "Home": place(plot, steps, first); break;
    case "End": place(plot, steps, last); break;
    case "+": case "=": zoom(plot, steps, steps[at], 0.5); break;
    case "-": zoom(plot, steps, steps[at], 2); break;
    case "0": case "Escape": plot.setScale("x", { min: steps[0], max: steps[steps.length - 1] }); break;
    default: return;
  }
  event.preventDefault();
});

document.addEventListener("focusout", (event) => {
  const held = event.target.matches?.(".plot") && plots.get(event.target.closest("figure"));
  if (held) held.plot.setCursor({ left: -10, top: -10 });
});
