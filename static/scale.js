/* The scale of a pair: one step, or a step and how good the best one is, by keys and by clicks. */
"use strict";

const SCALE = ["A3", "A2", "A1", "tie", "B1", "B2", "B3"];
const CYCLE = { A: ["A2", "A3", "A1"], B: ["B2", "B3", "B1"] };

let half = { step: "", mark: "" }; // of a marked scale: what is said so far

/* Where the scale is marked, a choice is a step and a mark. */
const marked = () => Boolean(find(".scale.marked"));
const step = () => choice().split(".")[0] || half.step;
const markSaid = () => choice().split(".")[1] || half.mark;

function choose(newStep, newMark = markSaid()) {
  if (!find("[data-scale]")) return;
  half = { step: newStep, mark: newMark };
  const whole = !marked() || newStep === "bad" ? newStep : newStep && newMark ? `${newStep}.${newMark}` : "";
  for (const input of all("input[name=choice]")) input.checked = input.value === whole;
  const focus = find("input[name=choice]:checked") ?? find(`[data-step="${newStep}"] input`);
  focus?.focus({ preventScroll: true });
  changed();
}

function pick(side, firmly) {
  const cycle = CYCLE[side];
  choose(firmly ? cycle[1] : cycle[(cycle.indexOf(step()) + 1) % cycle.length]);
}

function slide(by) {
  const at = SCALE.indexOf(step());
  if (at === -1) pick(by < 0 ? "A" : "B", false);
  else choose(SCALE[Math.min(Math.max(at + by, 0), SCALE.length - 1)]);
}

function mark(value) {
  const alone = find(`input[name=mark][value="${value}"]`);
  if (alone) alone.checked = true;
  if (marked()) choose(step() === "bad" ? "" : step(), value);
  changed();
}

function allBad() {
  const box = find("[data-all-bad]");
  if (!box) return choose("bad");
  box.checked = !box.checked;
  box.dispatchEvent(new Event("change", { bubbles: true }));
}

/* The panes show what the scale says. */
function showChoice() {
  const said = step();
  for (const pane of all("[data-pane]")) {
    pane.classList.toggle("better", said.length === 2 && said[0] === pane.dataset.pane);
    pane.classList.toggle("bad", said === "bad" || Boolean(find("[data-all-bad]:checked")));
  }
  for (const column of all("[data-step]")) column.classList.toggle("begun", column.dataset.step === said);
  for (const cell of all(".cell")) cell.classList.toggle("begun", !choice() && cell.dataset.mark === half.mark);
}
