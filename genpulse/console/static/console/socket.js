// One WebSocket with everything that happens to the user: a ticket for each, and after a cut a resume from the last cursor.
const CHANNELS = { action: "subscribe", channels: ["user"], events: ["task.*", "wallet.*"], id: "all" };
const SLOWEST = 15_000; // milliseconds between two attempts
const SILENCE = 50_000; // heartbeats come every 20 s
const REVOKED = 4401;
const CROWDED = 4429;

// show(state), happened(event), lost(): events cannot be replayed any more. `headers` carry the CSRF token.
export function listen({ cursor, headers, show, happened, lost }) {
  let socket = null;
  let failures = 0;
  let timer = 0;
  let silence = 0;
  let start = cursor; // where this connection begins
  let complete = false; // before that an event does not stand for all that came before it

  async function connect() {
    clearTimeout(timer);
    if (socket) return;
    const opening = { close() {} };
    socket = opening;
    try {
      const answer = await fetch("/api/v1/ws-ticket", { method: "POST", headers });
      if (answer.status === 401) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      const { url } = await answer.json();
      if (socket === opening) open(url);
    } catch {
      if (socket === opening) again();
    }
  }

  function open(url) {
    complete = false;
    socket = new WebSocket(new URL(url, location.href.replace(/^http/, "ws")));
    socket.onopen = () => socket.send(JSON.stringify(CHANNELS));
    socket.onmessage = (message) => hear(JSON.parse(message.data));
    socket.onclose = (closed) => {
      if (closed.code === REVOKED) location.reload();
      else again(closed.code === CROWDED ? "crowded" : undefined);
    };
  }

  function hear(message) {
    clearTimeout(silence);
    silence = setTimeout(drop, SILENCE);
    if (message.type === "event") {
      if (complete) cursor = message.event.id ?? cursor;
      happened(message.event);
    } else if (message.type === "subscribed") {
      socket.send(JSON.stringify({ action: "resume", cursor, id: "resume" }));
    } else if (message.type === "resumed") {
      cursor = message.cursor;
      ready();
    } else if (message.type === "error" && message.code === "cursor_expired") {
      cursor = start;
      lost();
      ready();
    } else if (message.type === "hello") {
      start = message.cursor;
    }
  }

  function ready() {
    complete = true;
    failures = 0;
    show("live");
  }

  function again(state) {
    clearTimeout(silence);
    socket = null;
    show(state ?? (navigator.onLine ? "reconnecting" : "offline"));
    const pause = Math.min(SLOWEST, 500 * 2 ** failures++);
    timer = setTimeout(connect, pause * (0.5 + Math.random() / 2));
  }

  // Without waiting for a closing handshake that may never come.
  function drop() {
    if (!socket) return;
    socket.onclose = null;
    socket.close();
    again();
  }

  addEventListener("online", connect);
  addEventListener("offline", drop);
  connect();
}
