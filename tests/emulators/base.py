"""The ground a vendor emulator stands on: strict routes, a journal of what arrived, faults on order.

    class Acme(Emulator):
        @route("POST", "/v1/images")
        def create(self, request: Request) -> Answer:
            return {"url": f"{self.url}/files/{request.json['prompt']}.png"}

        @route("GET", "/v1/jobs/{job}")
        def job(self, request: Request, job: str) -> Answer:
            return Response(404, {"error": "unknown job"})

    acme = as_fixture(Acme)

    def test_lost_answer(acme):
        acme.next("POST", "/v1/images", drop_answer())      # created, but nobody hears of it
        ...
        assert acme.count("POST", "/v1/images") == 1

A request that no route takes is answered 404 and fails the test at its end, as does an exception in a route.
"""

import contextlib
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request as it arrived. `path` is decoded and without query, `headers` are case-insensitive."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """An iterable of bytes as `body` is sent piece by piece, anything that is not text or bytes as JSON."""

    status: int = 200
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)


Answer = Response | dict[str, Any] | list[Any]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with one request; made by the functions below."""

    delay: float = 0
    handled: bool = True  # the route runs: the vendor did the work
    drop: bool = False
    silent: bool = False
    reply: Response | None = None
    raw: bytes | None = None
    cut: int | None = None


def drop_request() -> Fault:
    """The connection breaks before the vendor has looked at the request."""
    return Fault(handled=False, drop=True)


def drop_answer() -> Fault:
    """The vendor does the work, the connection breaks before it answers."""
    return Fault(drop=True)


def cut_answer(after: int = 10) -> Fault:
    """The vendor does the work, its answer breaks off after so many bytes of the body."""
    return Fault(cut=after)


def silence() -> Fault:
    """The vendor does the work and never answers; the connection stays open."""
    return Fault(silent=True)


def delayed(seconds: float) -> Fault:
    return Fault(delay=seconds)


def answered(status: int, body: Any = b"", **headers: str) -> Fault:
    """The vendor refuses: this answer, the route does not run. `retry_after="2"` becomes `retry-after: 2`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(handled=False, reply=Response(status, body, named))


def garbage(raw: bytes = b"\x16\x03\x01 this is not HTTP\r\n\r\n") -> Fault:
    """The vendor does the work; these bytes come instead of an HTTP answer."""
    return Fault(raw=raw)


def route(method: str, path: str) -> Callable[[Any], Any]:
    """`/v1/jobs/{job}`: a name in braces is one path segment, passed by name; `{job*}` takes slashes too."""

    def mark(function: Any) -> Any:
        pattern = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", path)
        function.route = method, re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern))
        return function

    return mark


class Emulator:
    """A vendor on loopback. Thread-safe counters; use as context manager or through `as_fixture`."""

    def __init__(self) -> None:
        self.journal: list[Request] = []
        self.unexpected: list[str] = []
        self.errors: list[BaseException] = []
        self.connections = 0
        self.high_water = 0  # most requests in flight at once
        self.closing = threading.Event()
        self._in_flight = 0
        self._lock = threading.Lock()
        self._scripts: dict[tuple[str, str], deque[Fault | None]] = {}
        self._routes = [
            (*function.route, function)
            for name in dir(type(self))
            if hasattr(function := getattr(type(self), name), "route")
        ]
        self._server = _Server(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.cut_all()
        self._server.server_close()

    def next(self, method: str, path: str, *faults: Fault | None) -> None:
        """The coming requests of this method and exact path meet these faults, one each; None: none."""
        with self._lock:
            self._scripts.setdefault((method, path), deque()).extend(faults)

    def calls(self, method: str = "", path: str = "") -> list[Request]:
        """The journal, or the part with this method and (exact) path."""
        with self._lock:
            return [
                request
                for request in self.journal
                if method in {"", request.method} and path in {"", request.path}
            ]

    def count(self, method: str = "", path: str = "") -> int:
        return len(self.calls(method, path))

    def verify(self) -> None:
        """Nothing came that should not, no route failed."""
        assert not self.unexpected, f"no route for {self.unexpected}"
        if self.errors:
            raise self.errors[0]

    @contextlib.contextmanager
    def _received(self, request: Request) -> Iterator[Fault]:
        with self._lock:
            self.journal.append(request)
            self._in_flight += 1
            self.high_water = max(self.high_water, self._in_flight)
            script = self._scripts.get((request.method, request.path))
            fault = (script.popleft() if script else None) or Fault()
        try:
            yield fault
        finally:
            with self._lock:
                self._in_flight -= 1

    def _answer(self, request: Request) -> Response:
        for method, pattern, function in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return self._run(function, request, match.groupdict())
        self.unexpected.append(f"{request.method} {request.path}")
        return Response(404, {"error": "no such route"})

    def _run(self, function: Any, request: Request, parts: dict[str, str]) -> Response:
        try:
            answer = function(self, request, **parts)
        except Exception as error:
            self.errors.append(error)
            return Response(500, {"error": "the emulator failed"})
        return answer if isinstance(answer, Response) else Response(body=answer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, emulator: Emulator, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.emulator = emulator
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.emulator.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def cut_all(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        query = parse_qs(parts.query, keep_blank_values=True)
        request = Request(self.command, unquote(parts.path), query, self.headers, body)
        emulator = self.server.emulator
        with emulator._received(request) as fault:
            emulator.closing.wait(fault.delay)
            answer = emulator._answer(request) if fault.handled else Response()
            self._send(fault.reply or answer, fault)

    def _send(self, answer: Response, fault: Fault) -> None:
        if fault.silent:
            self.server.emulator.closing.wait()
        if fault.drop or fault.silent:
            self.close_connection = True
        elif fault.raw is not None:
            self.wfile.write(fault.raw)
            self.close_connection = True
        else:
            self._write(answer, fault.cut)

    def _write(self, answer: Response, cut: int | None) -> None:
        pieces, length, kind = _encoded(answer.body)
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", length)
        # Several small writes meet Nagle and delayed acknowledgements: 40 ms each.
        head = [f"HTTP/1.1 {answer.status} Emulated"]
        headers = {"Content-Type": kind, framing[0]: framing[1]} | answer.headers
        head += [f"{name}: {value}" for name, value in headers.items()]
        start = "\r\n".join([*head, "", ""]).encode()
        left = cut
        for piece in pieces:
            part = piece if left is None else piece[:left]
            left = None if left is None else left - len(part)
            framed = part if length is not None else b"%x\r\n%s\r\n" % (len(part), part)
            self.wfile.write(start + (framed if part else b""))
            start = b""
            if left == 0:
                self.close_connection = True
                return
        self.wfile.write(start + (b"" if length is not None else b"0\r\n\r\n"))


def _encoded(body: Any) -> tuple[Iterable[bytes], str | None, str]:
    """Pieces, length (None: chunked), content type."""
    if isinstance(body, str):
        body = body.encode()
    if isinstance(body, bytes):
        return [body], str(len(body)), "application/octet-stream"
    if isinstance(body, dict | list):
        text = json.dumps(body).encode()
        return [text], str(len(text)), "application/json"
    return body, None, "text/event-stream"


def sse(*events: Any, done: bool = True) -> Response:
    """An event stream with one event for each object or text, `[DONE]` at the end."""

    def pieces() -> Iterator[bytes]:
        for event in (*events, *["[DONE]"] * done):
            text = event if isinstance(event, str) else json.dumps(event)
            yield f"data: {text}\n\n".encode()

    return Response(body=pieces())


def as_fixture(emulator: type[Emulator]) -> Any:
    """A pytest fixture that runs the emulator and verifies it at the end of the test."""
    import pytest  # the demo runs emulators where no test tools are installed

    @pytest.fixture
    def running() -> Iterator[Emulator]:
        with emulator() as server:
            yield server
        server.verify()

    return running
