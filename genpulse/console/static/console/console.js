// The page's wires: keyboard, copying, what a screen reader is told, and events from the socket to the cards.
import { changed, lost, painted, tick } from "./cards.js";
import { listen } from "./socket.js";

const WORDS = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  offline: "Offline: this page catches up later",
  crowded: "Too many open pages: close some for live changes",
};
const page = document.body;
const at = (selector) => document.querySelector(selector);

function say(text) {
  at("#said").textContent = text;
}

function show(state) {
  const line = at("#line");
  line.dataset.state = state;
  line.querySelector(".word").textContent = WORDS[state];
}

function warn(text) {
  const words = document.createElement("p");
  const close = document.createElement("button");
  words.textContent = text;
  close.textContent = "Close";
  close.className = "small";
  close.dataset.dismiss = "";
  at("#problem").replaceChildren(words, close);
}

function localize(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const when = new Date(time.dateTime);
    const today = when.toDateString() === new Date().toDateString();
    const clock = { hour: "2-digit", minute: "2-digit" };
    time.textContent = when.toLocaleString([], today ? clock : { ...clock, day: "numeric", month: "short" });
  }
}

// The list of tasks renews itself, but never under the hands of somebody who uses it.
let listIsOld = false;
function listIsInUse() {
  const list = at("#tasks");
  return list.contains(document.activeElement) || list.querySelector("details[open]") !== null;
}
function renewList() {
  if (!listIsOld || listIsInUse()) return;
  listIsOld = false;
  htmx.trigger(at("#tasks"), "refresh");
}
page.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.requestConfig.elt.id !== "tasks" || !listIsInUse()) return;
  event.detail.shouldSwap = false; // it was asked for before the list was used
  listIsOld = true;
});

function cardsIn(root) {
  return root.matches(".card") ? [root] : root.querySelectorAll(".card");
}

function happened(event) {
  if (event.type.startsWith("wallet.")) htmx.trigger(page, "wallet");
  if (!event.task_id || !event.type.startsWith("task.")) return;
  const news = changed(event);
  if (news) say(news);
  if (event.seq) listIsOld = true;
}

function caughtUpFromNothing() {
  lost();
  listIsOld = true;
  htmx.trigger(page, "wallet");
}

async function copy(button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(at(button.dataset.copy).textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at(button.dataset.copy));
    button.textContent = "Press Ctrl C";
  }
  say(button.textContent);
  setTimeout(() => { button.textContent = label; }, 2000);
}

page.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.closest("#ask")) {
    event.preventDefault();
    at("#ask").requestSubmit();
  }
  if (event.key === "Escape") at("#problem").replaceChildren();
});
page.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.copy) copy(button);
  if (button && "dismiss" in button.dataset) at("#problem").replaceChildren();
});

// A card that is swapped while its button has the focus would drop it on the floor. It waits on the card itself
// while there is no button.
let focused = null;
page.addEventListener("htmx:beforeSwap", (event) => {
  const card = event.detail.target;
  const active = document.activeElement;
  if (!card?.matches(".card") || active === card) return;
  focused = card.contains(active) ? active.dataset.act ?? "" : null;
});
page.addEventListener("htmx:afterSettle", (event) => {
  const card = event.target.closest?.(".card");
  if (!card || focused === null || document.activeElement !== page) return;
  const same = focused && card.querySelector(`[data-act="${focused}"]`);
  (same || card).focus({ preventScroll: true });
});
// Only what has just been loaded: other new cards may not listen yet, and would miss that they are to be renewed.
page.addEventListener("htmx:load", (event) => {
  localize(event.target.parentElement ?? page);
  for (const card of cardsIn(event.target)) painted(card, say);
});
page.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.verb === "post" && event.target.id !== "preview") at("#problem").replaceChildren();
});
page.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.id !== "ask" || !event.detail.successful) return;
  listIsOld = true;
  const count = at(".run").querySelectorAll(".card").length;
  say(count > 1 ? `${count} tasks submitted` : "Task submitted");
});
page.addEventListener("htmx:sendError", () => warn("The server cannot be reached. Nothing was lost; try again when it is back."));
page.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status >= 500) warn("The server cannot answer just now. Try again in a moment.");
});

localize(page);
for (const card of cardsIn(page)) painted(card, say);
setInterval(() => { tick(); renewList(); }, 1000);
listen({ cursor: page.dataset.since, headers: JSON.parse(page.getAttribute("hx-headers")), show, happened, lost: caughtUpFromNothing });
