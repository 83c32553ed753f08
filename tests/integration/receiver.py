"""A webhook receiver on loopback that misbehaves on demand and remembers everything."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast


@dataclass(frozen=True)
class Call:
    headers: dict[str, str]
    raw: bytes
    status: int

    @property
    def body(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.raw))

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def signatures(self) -> list[str]:
        return self.headers["webhook-signature"].split(" ")

    def expected(self, secret: str, raw: bytes | None = None) -> str:
        """The signature this call should carry, computed from the public description."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + (raw or self.raw)
        key = base64.b64decode(secret.removeprefix("whsec_"))
        return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@dataclass
class Receiver:
    """`answer(body)` decides: a status, or (status, headers); None cuts the connection."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    answer: Callable[[dict[str, Any]], Any] = lambda body: 204
    busy: int = 0
    busiest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, kind: str) -> list[Call]:
        return [call for call in list(self.calls) if call.body["type"] == kind]

    def accepted(self) -> list[Call]:
        return [call for call in list(self.calls) if 200 <= call.status < 300]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with receiver.lock:
                receiver.busy += 1
                receiver.busiest = max(receiver.busiest, receiver.busy)
            try:
                self.respond()
            finally:
                with receiver.lock:
                    receiver.busy -= 1

        def respond(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.answer(json.loads(raw))
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            named = {name.lower(): value for name, value in self.headers.items()}
            receiver.calls.append(Call(named, raw, status or 0))
            if status is None:
                self.connection.close()
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            return

    server = Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
