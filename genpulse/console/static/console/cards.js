// What is known of each task between two renderings by the server. A stored event makes its cards ask for a new one;
// transient events (place in line, progress, preview, text) are painted at once and painted again onto every new card.
const known = new Map();
const MOST = 2000; // tasks remembered, also of other programs of the user

const cardsOf = (id) => document.querySelectorAll(`.card[data-task="${CSS.escape(id)}"]`);

function stateOf(id) {
  if (known.size > MOST) {
    for (const other of known.keys()) if (!cardsOf(other).length) known.delete(other);
  }
  if (!known.has(id)) known.set(id, { seq: 0, text: "", length: 0, attempt: null, ...nothing() });
  return known.get(id);
}

// Of one stay in the queue and the run after it. Not the text: its pieces are said once, and say themselves whose they are.
function nothing() {
  return { said: 0, progress: null, phase: null, position: null, readyAt: null, preview: null };
}

// What an event changes; answers words worth saying aloud, or nothing.
export function changed(event) {
  const state = stateOf(event.task_id);
  if (event.seq) {
    stored(state, event);
    for (const card of cardsOf(event.task_id)) renew(card, state);
    return null;
  }
  TRANSIENT[event.type]?.(state, event.data, event);
  const cards = [...cardsOf(event.task_id)];
  cards.forEach((card) => paint(card, state));
  return cards.length ? milestone(cards[0], state) : null;
}

function stored(state, event) {
  if (event.seq < state.seq) return; // told again
  state.seq = event.seq;
  if (event.type === "task.queued") Object.assign(state, nothing());
  if (event.type === "task.running") Object.assign(state, { position: null });
}

const TRANSIENT = {
  "task.position"(state, data, event) {
    state.position = data.position;
    state.readyAt = data.eta ? Date.now() + (new Date(data.eta.finish_at) - new Date(event.at)) : null;
  },
  "task.progress"(state, data) {
    state.progress = data.progress;
    state.phase = data.phase;
  },
  "task.preview"(state, data) {
    if (/^data:image\/(jpeg|webp|png);base64,/.test(data.data_url)) state.preview = data.data_url;
  },
  "task.delta"(state, data) {
    if (data.reset || data.attempt !== state.attempt) Object.assign(state, { text: "", length: 0, attempt: data.attempt });
    if (data.offset !== state.length) return; // the server sends everything again with `reset`
    state.text += data.text ?? "";
    state.length += [...(data.text ?? "")].length; // offsets count characters, not UTF-16 units
  },
};

function milestone(card, state) {
  const quarter = Math.floor((state.progress ?? 0) / 25);
  if (quarter <= state.said || quarter > 3) return null;
  state.said = quarter;
  return `${card.querySelector(".name").textContent}: ${quarter * 25} %`;
}

function renew(card, state) {
  if (Number(card.dataset.seq) < state.seq) htmx.trigger(card, "refresh");
}

// A card that has just come from the server: what is newer than it is added, and what it changed is said.
export function painted(card, say) {
  if (card.dataset.painted) return;
  card.dataset.painted = "yes";
  const state = stateOf(card.dataset.task);
  state.seq = Math.max(state.seq, Number(card.dataset.seq));
  if (state.status && state.status !== card.dataset.status) say(card.dataset.says);
  state.status = card.dataset.status;
  const finish = card.querySelector(".eta")?.dataset.finish;
  if (finish && state.readyAt === null) state.readyAt = new Date(finish).getTime();
  paint(card, state);
  renew(card, state);
}

function paint(card, state) {
  const bar = card.querySelector("progress");
  if (!bar) return; // it has ended
  if (state.progress !== null) bar.value = Math.max(state.progress, bar.value);
  if (state.phase) card.querySelector(".phase").textContent = state.phase;
  if (state.position !== null) {
    card.querySelector(".position").textContent = state.position;
    card.querySelector(".fact").hidden = false;
  }
  if (state.preview) show(card.querySelector(".preview"), (image) => { image.src = state.preview; });
  if (state.text && says(card, state)) show(card.querySelector(".text"), (text) => { text.textContent = state.text; text.scrollTop = text.scrollHeight; });
  remaining(card, state);
}

// What an earlier attempt has said is not shown on a card that waits for its next one, or has begun it.
function says(card, state) {
  return card.dataset.status !== "queued" && Number(card.dataset.attempt) === state.attempt;
}

function show(element, change) {
  change(element);
  element.hidden = false;
}

function remaining(card, state) {
  const eta = card.querySelector(".eta");
  if (!eta || state.readyAt === null) return;
  const seconds = Math.round((state.readyAt - Date.now()) / 1000);
  eta.hidden = seconds < 1;
  eta.querySelector("b").textContent = seconds < 90 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

// Once a second: times left.
export function tick() {
  for (const card of document.querySelectorAll(".card:has(progress)")) remaining(card, stateOf(card.dataset.task));
}

// Events were missed and cannot be had again: ask for every card.
export function lost() {
  for (const card of document.querySelectorAll(".card")) htmx.trigger(card, "refresh");
}
