/* The chat page as it looks: turns and answers from what chat.js knows of them. Nothing here asks the
   server. Text comes in as text; the rendered answer, cleaned on the server, takes its place at the end. */
"use strict";

const ENDED = ["done", "failed", "stopped"];
const LETTERS = "AB";
const isOver = (answer) => ENDED.includes(answer.state);
const isPair = (turn) => turn.answers.length > 1;
const isWhole = (turn) => turn.answers.every((one) => one.state === "done");

function part(root, name) {
  return root.querySelector(`[data-${name}]`);
}

function fromTemplate(name) {
  return document.getElementById(name).content.firstElementChild.cloneNode(true);
}

/* The element of a turn, made where it is missing. */
function turnElement(thread, n) {
  while (thread.children.length <= n) thread.append(fromTemplate("turn-template"));
  return thread.children[n];
}

function showTurn(element, turn, last) {
  const mine = element.querySelector(".chat-words");
  if (mine.textContent !== turn.words) mine.textContent = turn.words;
  part(element, "edit").hidden = !last || !turn.answers.every(isOver);
  const answers = element.querySelector(".chat-answers");
  answers.dataset.count = turn.answers.length;
  while (answers.children.length > turn.answers.length) answers.lastElementChild.remove();
  turn.answers.forEach((answer, place) => {
    if (!answers.children[place]) answers.append(answerElement());
    showAnswer(answers.children[place], turn, answer, place, last);
  });
  showVerdict(element.querySelector(".chat-verdict"), turn, last);
}

let made = 0;

function answerElement() {
  const element = fromTemplate("answer-template");
  made += 1;
  element.tabIndex = -1;
  for (const [n, label] of [...element.querySelectorAll(".chat-why label")].entries()) {
    label.htmlFor = `why-${made}-${n}`;
    label.parentElement.querySelector("input, textarea").id = label.htmlFor;
  }
  return element;
}

function nameOf(turn, place) {
  return isPair(turn) ? `answer ${LETTERS[place]}` : "the answer";
}

function showAnswer(element, turn, answer, place, last) {
  if (element.dataset.answer !== answer.id) {
    element.dataset.answer = answer.id;
    part(element, "streaming").textContent = "";
    part(element, "rendered").innerHTML = "";
    part(element, "why").hidden = true;
  }
  const over = isOver(answer);
  element.dataset.state = answer.state;
  element.classList.toggle("preferred", turn.verdict === ["first", "second"][place]);
  showHead(element, turn, answer, place);
  showText(element, answer, over);
  element.querySelector(".chat-text").setAttribute("aria-busy", String(!over));
  put(part(element, "cut"), answer.cut ?? "");
  const trouble = part(element, "trouble");
  trouble.hidden = !(answer.state === "failed" || (answer.state === "stopped" && !answer.text));
  trouble.firstElementChild.textContent = answer.trouble || "Stopped before a word had come.";
  const retry = part(element, "retry");
  retry.hidden = !last;
  retry.setAttribute("aria-label", `Try again to write ${nameOf(turn, place)}`);
  element.querySelector("footer").hidden = !over || !answer.text;
  if (over) showActs(element, turn, answer, place, last);
}

function showHead(element, turn, answer, place) {
  const title = element.querySelector("h2");
  const who = answer.policy || answer.asked_for || "";
  const letter = isPair(turn) ? LETTERS[place] : "";
  title.classList.toggle("lettered", !!letter);
  title.replaceChildren(...(letter ? [spanned("letter", letter)] : []), spanned("who", who || (turn.blind ? "hidden until you judge" : "…")));
  title.querySelector(".who").classList.toggle("hushed", !who);
  const alias = answer.policy && answer.asked_for && answer.asked_for !== answer.policy ? `asked as ${answer.asked_for}` : "";
  const words = { waiting: answer.lent ? "Waiting: the engine is lent to a job" : "Waiting", writing: answer.text ? "Writing" : answer.lent ? "Waiting: the engine is lent to a job" : "Thinking", failed: "Broke off", stopped: "Stopped", done: alias };
  put(part(element, "state"), words[answer.state] ?? "", false);
}

function spanned(name, words) {
  const span = document.createElement("span");
  span.className = name;
  span.textContent = words;
  return span;
}

function put(element, words, hide = true) {
  if (element.textContent !== words) element.textContent = words;
  if (hide) element.hidden = !words;
}

/* What is on the screen only grows, so a reader's selection stays. */
function showText(element, answer, over) {
  const streaming = part(element, "streaming");
  const rendered = part(element, "rendered");
  if (over && answer.html !== undefined) {
    if (rendered.hidden || !rendered.innerHTML) rendered.innerHTML = answer.html;
    [streaming.hidden, rendered.hidden] = [true, !answer.html];
    return;
  }
  [streaming.hidden, rendered.hidden] = [false, true];
  const shown = streaming.textContent;
  if (answer.text.startsWith(shown)) streaming.append(answer.text.slice(shown.length));
  else streaming.textContent = answer.text;
  streaming.hidden = !answer.text;
}

function showActs(element, turn, answer, place, last) {
  const name = nameOf(turn, place);
  for (const thumb of element.querySelectorAll("[data-thumb]")) {
    thumb.setAttribute("aria-pressed", String(answer.thumb === Number(thumb.dataset.thumb)));
    thumb.setAttribute("aria-label", `${thumb.dataset.thumb === "1" ? "Good" : "Not good"}: ${name}`);
  }
  part(element, "copy-answer").setAttribute("aria-label", `Copy ${name}`);
  part(element, "again").hidden = isPair(turn) || !last;
  part(element, "correcting").hidden = !turn.keep;
  const seconds = (ms) => `${(ms / 1000).toFixed(ms < 9950 ? 1 : 0)} s`;
  const facts = [];
  if (answer.tokens) facts.push(`${answer.tokens} token${answer.tokens === 1 ? "" : "s"}`);
  if (answer.ms) facts.push(seconds(answer.ms));
  if (answer.first_ms) facts.push(`first word after ${seconds(answer.first_ms)}`);
  put(part(element, "facts"), facts.join(" · "));
}

function showVerdict(element, turn, last) {
  const shown = isPair(turn) && isWhole(turn);
  element.hidden = !shown;
  if (!shown) return;
  const key = JSON.stringify([turn.verdict, turn.goOn, last, turn.answers.map((one) => [one.id, one.policy])]);
  if (element.dataset.key === key) return;
  element.dataset.key = key;
  const focused = element.contains(document.activeElement);
  const words = document.createElement("p");
  words.textContent = verdictWords(turn, last);
  element.replaceChildren(words, ...(turn.verdict ? afterVerdict(turn, last) : beforeVerdict(last)));
  if (focused) element.querySelector("button")?.focus();
}

function verdictWords(turn, last) {
  const named = (place) => `${LETTERS[place]}${turn.answers[place].policy ? `, ${turn.answers[place].policy}` : ""}`;
  const on = last ? `Both go on with ${LETTERS[turn.goOn]}.` : `The conversation went on with ${LETTERS[turn.goOn]}.`;
  if (turn.verdict === "first") return `You prefer ${named(0)}. ${on}`;
  if (turn.verdict === "second") return `You prefer ${named(1)}. ${on}`;
  if (turn.verdict === "tie") return `A tie. ${on}`;
  if (turn.verdict === "bad") return `Both are bad. ${on}`;
  const names = turn.blind ? ", and you see who wrote which" : "";
  return last ? `Which is better? Both go on with the one you prefer${names}.` : `Not judged. ${on}`;
}

function beforeVerdict(last) {
  const choices = [["first", "Prefer A", "A"], ["tie", "Tie", "T"], ["bad", "Both bad", "X"], ["second", "Prefer B", "B"]];
  const buttons = choices.map(([verdict, words, key]) => {
    const button = pushButton(words, key);
    button.dataset.verdict = verdict;
    if (verdict === "first" || verdict === "second") button.classList.add("prefer");
    return button;
  });
  if (!last) return buttons;
  const again = pushButton("Write both again");
  again.dataset.again = "";
  again.classList.add("quiet");
  return [...buttons, again];
}

function afterVerdict(turn, last) {
  const buttons = [];
  if (last && !["first", "second"].includes(turn.verdict)) {
    const other = pushButton(`Go on with ${LETTERS[1 - turn.goOn]}`);
    other.dataset.goOn = 1 - turn.goOn;
    buttons.push(other);
  }
  const undo = pushButton("Take back", "U");
  undo.dataset.verdict = "";
  return [...buttons, undo];
}

function pushButton(words, key) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button";
  button.append(words);
  if (key) {
    const kbd = document.createElement("kbd");
    kbd.textContent = key;
    kbd.setAttribute("aria-hidden", "true");
    button.append(kbd);
  }
  return button;
}

function announce(words) {
  document.getElementById("live").textContent = words;
}
