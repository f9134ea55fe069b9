/* The chat page: the conversation lives in this tab (a reload finds it again), answers grow on the
   server and are asked for a few times a second. What was typed is never lost: a message that cannot be
   sent stays in its turn, with a button to try again. */
"use strict";

const POLL_MS = 150; // between two looks at what has come; a lost network is asked more rarely
const POLL_SLOWEST_MS = 4000;
const PATIENCE_MS = 12_000; // without a first word before the page says that it still waits
const DROPPED = "This answer is no longer on the server.";

const room = document.getElementById("chat");
const storeAs = room && `chat:${room.dataset.project}:${document.body.dataset.user}`;
let talk = null; // the conversation, as it is stored
let polling = { timer: 0, asking: false, pause: POLL_MS, begun: 0 };

function emptyTalk() {
  return { first: room.dataset.first, second: room.dataset.second, compare: false, blind: false, keep: room.dataset.keeps !== "0", settings: {}, draft: "", turns: [] };
}

function recall() {
  try {
    return { ...emptyTalk(), ...JSON.parse(sessionStorage.getItem(storeAs) ?? "{}") };
  } catch {
    return emptyTalk(); // storage is off, or holds what an earlier version of the page wrote
  }
}

function remember() {
  try {
    sessionStorage.setItem(storeAs, JSON.stringify(talk));
  } catch {
    /* kept for this page only */
  }
}

function newId() {
  const bytes = [...crypto.getRandomValues(new Uint8Array(16))]; // randomUUID is missing without TLS
  [bytes[6], bytes[8]] = [(bytes[6] & 15) | 64, (bytes[8] & 63) | 128];
  const hex = bytes.map((one) => one.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

/* A reply's JSON; what goes wrong is an Error with a sentence. */
async function talkTo(url, body) {
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-CSRFToken": csrf() } } : {};
  let reply;
  try {
    reply = await fetch(url, options);
  } catch {
    throw new Error("The server cannot be reached. Your words are still here; try again.");
  }
  if (reply.redirected || reply.status === 403) throw new Error("Your session has ended. Reload the page and sign in; your words are still here.");
  const json = reply.headers.get("Content-Type")?.includes("json");
  const told = json ? await reply.json() : {};
  if (!reply.ok) throw Object.assign(new Error(told.error ?? "The server had a problem. Try again."), { told: json });
  return told;
}

const lastTurn = () => talk.turns.at(-1);
const pendingAnswers = () => talk.turns.flatMap((turn) => turn.answers).filter((one) => one.id && !isOver(one));
const isBusy = () => talk.turns.some((turn) => !turn.answers.every(isOver));

/* The conversation before the n-th turn, as policies are told it: of two answers the one it goes on with. */
function messagesBefore(n) {
  const messages = talk.settings.system?.trim() ? [{ role: "system", content: talk.settings.system }] : [];
  for (const turn of talk.turns.slice(0, n)) {
    const answer = turn.answers[turn.goOn]?.text ? turn.answers[turn.goOn] : turn.answers.find((one) => one.text);
    if (answer) messages.push({ role: "user", content: turn.words }, { role: "assistant", content: answer.text });
  }
  return messages;
}

function wishOf(turn, seeded = true) {
  const { temperature, max_tokens, seed } = talk.settings;
  const number = (given) => (given === undefined || given === "" ? null : Number(given));
  return {
    turn: turn.id,
    messages: [...messagesBefore(talk.turns.indexOf(turn)), { role: "user", content: turn.words }],
    sides: turn.sides, blind: turn.blind, keep: turn.keep,
    temperature: number(temperature), max_tokens: number(max_tokens), seed: seeded ? number(seed) : null,
  };
}

function sendWords(words) {
  const sides = talk.compare ? [talk.first, talk.second] : [talk.first];
  const turn = { id: newId(), words, sides, blind: talk.compare && talk.blind, keep: talk.keep, verdict: null, goOn: 0, answers: [] };
  talk.turns.push(turn);
  askFor(turn, {});
}

/* Have a turn's answers begun; those that a refusal leaves say why, each with a button to try again. */
async function askFor(turn, more, seeded = true) {
  turn.answers = turn.sides.map((side) => ({ state: "waiting", text: "", upto: 0, asked_for: turn.blind ? "" : side }));
  turn.verdict = null;
  polling.begun = performance.now();
  draw(true);
  try {
    const told = await talkTo(room.dataset.ask, { ...wishOf(turn, seeded), ...more });
    turn.answers = told.answers.map((news) => ({ ...turn.answers[0], asked_for: "", ...taken({ text: "" }, news) }));
  } catch (error) {
    for (const answer of turn.answers) Object.assign(answer, { state: "failed", trouble: error.message, html: "" });
    announce(error.message);
  }
  draw(true);
  lookNow();
}

/* What news say of an answer, on top of what is known of it. */
function taken(answer, news) {
  const { more, at, ...rest } = news;
  return { ...answer, ...rest, text: [...answer.text].slice(0, at).join("") + more };
}

function lookNow() {
  clearTimeout(polling.timer);
  polling.pause = POLL_MS;
  if (pendingAnswers().length) look();
}

/* One question at a time: two would bring the same words twice. */
async function look() {
  clearTimeout(polling.timer);
  if (polling.asking) return;
  const asked = pendingAnswers();
  if (!asked.length) return;
  polling.asking = true;
  const query = new URLSearchParams(asked.map((one) => [one.id, one.upto]));
  try {
    const told = await talkTo(`${room.dataset.news}?${query}`);
    for (const answer of asked) hear(answer, told.answers.find((news) => news.id === answer.id));
    polling.pause = POLL_MS;
    polling.away = "";
  } catch (error) {
    polling.pause = Math.min(POLL_SLOWEST_MS, polling.pause * 2);
    polling.away = error.message;
  }
  polling.asking = false;
  draw();
  if (pendingAnswers().length) polling.timer = setTimeout(look, polling.pause);
}

function hear(answer, news) {
  if (news && answer.attempt !== undefined && news.attempt !== answer.attempt) return; // of before it was begun anew
  const was = answer.state;
  if (isOver(answer)) return; // stopped meanwhile
  Object.assign(answer, news ? taken(answer, news) : { state: "failed", trouble: DROPPED, html: "" });
  if (answer.state === was || !isOver(answer)) return;
  const turn = talk.turns.find((one) => one.answers.includes(answer));
  const name = isPair(turn) ? `Answer ${LETTERS[turn.answers.indexOf(answer)]}` : "The answer";
  if (answer.state === "done") announce(`${name} is finished.${isPair(turn) && isWhole(turn) ? " Which is better?" : ""}`);
  else announce(`${name} broke off. ${answer.trouble}`);
}

/* Have one answer written anew that broke off; the other one is left as it is. */
async function retry(turn, place) {
  const answer = turn.answers[place];
  if (!answer.id) return askFor(turn, {}); // under the same id, so that a lost reply begins nothing twice
  const before = { ...answer };
  Object.assign(answer, { state: "waiting", text: "", upto: 0, html: undefined, trouble: "", cut: "" });
  polling.begun = performance.now();
  draw();
  try {
    const told = await talkTo(room.dataset.ask, { ...wishOf(turn), again: answer.id });
    Object.assign(answer, taken({ text: "" }, told.answers[0]));
  } catch (error) {
    Object.assign(answer, before, { state: "failed", trouble: error.message });
    announce(error.message);
  }
  draw();
  lookNow();
}

function writeAgain() {
  const turn = lastTurn();
  if (!turn || isBusy()) return;
  const more = !isPair(turn) && turn.answers[0].state === "done" ? { instead_of: turn.answers[0].id } : {};
  turn.id = newId();
  askFor(turn, more, false); // with the same seed it would be the same
}

async function stopAll() {
  const open = pendingAnswers();
  if (!open.length) return;
  try {
    const told = await talkTo(room.dataset.stop, { answers: open.map((one) => one.id) });
    for (const answer of open) {
      const news = told.answers.find((one) => one.id === answer.id);
      if (news) Object.assign(answer, taken(answer, news));
    }
    announce("Stopped.");
  } catch (error) {
    toast(error.message);
  }
  draw();
}

function editLast() {
  const turn = lastTurn();
  if (!turn || isBusy()) return;
  const words = document.getElementById("words");
  talk.turns.pop();
  words.value = talk.draft = turn.words;
  draw();
  grow(words);
  words.focus();
}

/* What is said of answers: shown when it is stored. */
async function tell(body, words) {
  try {
    const told = await talkTo(room.dataset.say, body);
    announce(words);
    return told.answers;
  } catch (error) {
    toast(`Not saved. ${error.message}`);
    return null;
  }
}

async function judge(turn, verdict) {
  if (!turn || !isPair(turn) || !isWhole(turn)) return;
  const told = await tell({ turn: turn.id, verdict: verdict || null }, verdict ? "Saved." : "Taken back.");
  if (!told) return;
  turn.verdict = verdict || null;
  if (turn === lastTurn()) turn.goOn = verdict === "second" ? 1 : 0;
  turn.answers.forEach((answer, n) => Object.assign(answer, told[n]));
  if (verdict) turn.blind = false;
  draw();
  if (verdict) announce(`Saved. ${verdictWords(turn, turn === lastTurn())}`);
}

async function thumb(turn, place, score, words = {}) {
  const answer = turn?.answers[place];
  if (!answer?.id || !isOver(answer) || !answer.text) return;
  const back = answer.thumb === score && !Object.keys(words).length;
  const said = back ? { score: null } : { score, ...words };
  if (!(await tell({ answer: answer.id, ...said }, back ? "Taken back." : score ? "Saved: a good answer." : "Saved: not good."))) return;
  answer.thumb = back ? null : score;
  if (back) answer.comment = answer.correction = "";
  else Object.assign(answer, words);
  draw();
  const why = part(elementOf(turn, place), "why");
  why.hidden = back || Object.keys(words).length > 0;
  part(why, "comment").value = answer.comment ?? "";
  part(why, "correction").value = answer.correction ?? "";
}

async function copyAnswer(turn, place, button) {
  const answer = turn.answers[place];
  try {
    await navigator.clipboard.writeText(answer.text);
  } catch {
    return toast("This browser does not let the page copy. Select the text instead.");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 2000);
  talkTo(room.dataset.say, { answer: answer.id, did: "copied" }).catch(() => {}); // nobody waits for it
}

const elementOf = (turn, place) => turnElement(part(room, "thread"), talk.turns.indexOf(turn)).querySelectorAll(".chat-answer")[place];

/* Everything on the page as it is known; to the end of it where that was in sight. */
function draw(down = false) {
  const page = document.scrollingElement;
  const atEnd = down || page.scrollHeight - page.scrollTop - innerHeight < 80;
  const thread = part(room, "thread");
  talk.turns.forEach((turn, n) => showTurn(turnElement(thread, n), turn, n === talk.turns.length - 1));
  while (thread.children.length > talk.turns.length) thread.lastElementChild.remove();
  room.classList.toggle("begun", talk.turns.length > 0);
  room.classList.toggle("wide", talk.compare || talk.turns.some(isPair));
  part(room, "start").hidden = talk.turns.length > 0;
  part(room, "new").disabled = !talk.turns.length;
  showControls();
  remember();
  if (atEnd && talk.turns.length) page.scrollTop = page.scrollHeight;
}

function showControls() {
  const busy = isBusy();
  part(room, "send").hidden = busy;
  part(room, "stop-all").hidden = !busy;
  const compare = part(room, "compare");
  compare.setAttribute("aria-pressed", String(talk.compare));
  compare.textContent = talk.compare ? "One alone" : "Compare with…";
  part(room, "second-side").hidden = !talk.compare;
  part(room, "changed").hidden = !Object.values(talk.settings).some((one) => String(one ?? "").trim());
  put(part(room, "start-words"), talk.compare ? "Two policies answer side by side, and you say which is better." : "What you ask is answered by the policy above. Compare it with another one to say which is better.", false);
  const days = room.dataset.keeps;
  const keep = part(room, "keep-words");
  if (keep) put(keep, talk.keep ? `Kept for ${days} days with what you say of them. People may be asked, blind, which answers are better, and models may learn from their votes.` : "Not kept: this tab has the conversation, the server forgets it within an hour. What you say of answers is stored, but nobody can be asked about them.");
  const waiting = busy && !talk.turns.some((turn) => turn.answers.some((one) => one.text && !isOver(one)));
  const long = waiting && performance.now() - polling.begun > PATIENCE_MS && !pendingAnswers().some((one) => one.lent);
  put(part(room, "note"), (busy && polling.away) || (long ? "No word has come yet. The engine may be busy, or the gateway away. You may wait, or stop and try again." : ""));
}

function grow(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, innerHeight * 0.4)}px`;
}

function submitWords() {
  const area = document.getElementById("words");
  const words = area.value.trim();
  if (isBusy()) return announce("Wait for the answer, or stop it.");
  if (!words) return area.focus();
  area.value = talk.draft = "";
  grow(area);
  sendWords(words);
}

const CHAT_KEYS = {
  a: () => judge(lastTurn(), "first"),
  b: () => judge(lastTurn(), "second"),
  t: () => judge(lastTurn(), "tie"),
  x: () => judge(lastTurn(), "bad"),
  g: (place) => thumb(lastTurn(), place, 1),
  n: (place) => thumb(lastTurn(), place, 0),
  u: (place) => {
    const turn = lastTurn();
    if (turn?.verdict) return judge(turn, null);
    const at = turn?.answers.findIndex((one) => one.thumb === 0 || one.thumb === 1) ?? -1;
    if (at >= 0) thumb(turn, turn.answers[place].thumb == null ? at : place, turn.answers[turn.answers[place].thumb == null ? at : place].thumb);
  },
  r: writeAgain,
  e: editLast,
  s: stopAll,
  m: () => document.getElementById("words").focus(),
};

function pressed(event) {
  const field = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.target.id === "words") {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submitWords();
    }
    if (event.key === "Escape") ([...room.querySelectorAll(".chat-answer")].at(-1) ?? part(room, "thread")).focus();
    return;
  }
  if (field || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
  const act = CHAT_KEYS[event.key.toLowerCase()];
  if (!act || (!talk.turns.length && event.key !== "m")) return;
  event.preventDefault();
  const focused = event.target.closest?.(".chat-answer");
  act(focused && focused.closest(".chat-turn") === part(room, "thread").lastElementChild ? [...focused.parentElement.children].indexOf(focused) : 0);
}

function clicked(event) {
  const button = event.target.closest("button");
  if (!button) return;
  const section = button.closest(".chat-turn");
  const turn = section && talk.turns[[...section.parentElement.children].indexOf(section)];
  const element = button.closest(".chat-answer");
  const place = element ? [...element.parentElement.children].indexOf(element) : 0;
  const is = (name) => name in button.dataset;
  if (is("verdict")) judge(turn, button.dataset.verdict);
  else if (is("goOn")) [turn.goOn] = [Number(button.dataset.goOn)], draw();
  else if (is("thumb")) thumb(turn, place, Number(button.dataset.thumb));
  else if (is("copyAnswer")) copyAnswer(turn, place, button);
  else if (is("again")) writeAgain();
  else if (is("retry")) retry(turn, place);
  else if (is("edit")) editLast();
  else if (is("noWhy")) part(element, "why").hidden = true;
  else if (is("stopAll")) stopAll();
  else if (is("compare")) {
    talk.compare = !talk.compare;
    draw();
    if (talk.compare) document.getElementById("second").focus();
  } else if (is("new")) {
    stopAll();
    talk.turns = [];
    draw();
    document.getElementById("words").focus();
  }
}

function explained(event) {
  const form = event.target.closest("[data-why]");
  if (!form) return;
  event.preventDefault();
  const section = form.closest(".chat-turn");
  const turn = talk.turns[[...section.parentElement.children].indexOf(section)];
  const element = form.closest(".chat-answer");
  const place = [...element.parentElement.children].indexOf(element);
  const words = { comment: part(form, "comment").value.trim(), correction: turn.keep ? part(form, "correction").value.trim() : "" };
  thumb(turn, place, turn.answers[place].thumb ?? 0, words);
}

function beginChat() {
  talk = recall();
  room.hidden = false;
  const words = document.getElementById("words");
  for (const side of ["first", "second"]) {
    const select = document.getElementById(side);
    if (![...select.options].some((one) => one.value === talk[side])) talk[side] = room.dataset[side];
    select.value = talk[side];
    select.addEventListener("change", () => ((talk[side] = select.value), remember()));
  }
  for (const field of room.querySelectorAll("[data-setting]")) {
    field.value = talk.settings[field.dataset.setting] ?? "";
    field.addEventListener("input", () => ((talk.settings[field.dataset.setting] = field.value), showControls(), remember()));
  }
  for (const name of ["blind", "keep"]) {
    const box = part(room, name);
    if (!box) continue;
    box.checked = talk[name];
    box.addEventListener("change", () => ((talk[name] = box.checked), draw()));
  }
  words.value = talk.draft;
  words.addEventListener("input", () => ((talk.draft = words.value), grow(words), remember()));
  part(room, "composer").addEventListener("submit", (event) => (event.preventDefault(), submitWords()));
  room.addEventListener("click", clicked);
  room.addEventListener("submit", explained);
  document.addEventListener("keydown", pressed);
  for (const turn of talk.turns) for (const one of turn.answers) if (!one.id && !isOver(one)) Object.assign(one, { state: "failed", trouble: "The page was left before this was sent.", html: "" });
  draw(true);
  grow(words);
  words.focus({ preventScroll: true });
  lookNow();
}

if (room) beginChat();
