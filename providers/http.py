"""The guarded session adapters speak HTTP with: `call.http`.

    reply = call.http.post("/images/generations", json=body, paid=True)
    url = reply.object()["data"][0]["url"]

It knows the executor's base URL and sends the credential to that origin (scheme, host, port) and nowhere else. It
never retries. Errors arrive as `ProviderError`, a call taken back by the engine as `Aborted`. A session belongs to one
attempt; `abort` may be called from any thread and ends a blocked read at once.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, TypedDict, Unpack, cast
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

from urllib3 import BaseHTTPResponse, encode_multipart_formdata
from urllib3.exceptions import HTTPError

from providers import faults
from providers.base import (
    Aborted,
    AbortReason,
    AfterUnknown,
    ExecutorInfo,
    Provider,
    ProviderError,
)
from providers.connections import (
    CONNECTIONS,
    IDLE_LIMIT,
    WATCHDOG,
    Connections,
    Dialling,
    Origin,
    Wire,
)

MAX_BYTES = 10_000_000  # of an answer, unless the caller knows better
PIECE = 65_536
PAID_IDLE_LIMIT = 4.0  # seconds; common servers drop idle connections after 5, and a paid request must not race that
LONGEST = 86_400.0  # seconds of silence, for calls without a deadline
LATE = "deadline"
# A compressed answer could be a bomb, and media never shrinks.
STANDARD = {"User-Agent": "genpulse", "Accept": "*/*", "Accept-Encoding": "identity"}

Form = Sequence[tuple[str, str | tuple[str, bytes, str]]]  # name, text or (filename, bytes, type)


class Options(TypedDict, total=False):
    """What a request may carry."""

    json: Any
    form: Form  # sent as multipart/form-data
    body: bytes
    query: Mapping[str, str | int | Sequence[str]]
    headers: Mapping[str, str]  # never the credential: the session adds it
    timeout: float  # seconds for the whole exchange, within the call's deadline
    paid: bool  # costs money and is not idempotent: `sending` is recorded before the first byte
    max_bytes: int
    redirects: int  # of a GET, default 0


@dataclass(frozen=True)
class Reply:
    """A whole answer. Header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    paid: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")

    @property
    def raw(self) -> str:
        """The body for operators, scrubbed and cut."""
        return faults.scrub(self.text[: 2 * faults.RAW_LIMIT], *self.secrets)

    def json(self) -> Any:
        """The body as strict JSON. Anything else is `transient`/`bad_response`; after a paid create `unknown_outcome`."""
        try:
            return json.loads(self.content, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise faults.bad_response(paid=self.paid, raw=self.raw) from None

    def object(self) -> dict[str, Any]:
        """As `json`, and it has to be an object."""
        data = self.json()
        if not isinstance(data, dict):
            raise faults.bad_response(paid=self.paid, raw=self.raw)
        return data

    @property
    def readable(self) -> bool:
        """The body is JSON."""
        try:
            self.json()
        except ProviderError:
            return False
        return True


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an http(s) address. Raises ValueError for anything that two parsers could read differently."""
    if any(c in url for c in "\\\r\n\t ") or not url.isprintable():
        raise ValueError("not a plain URL")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("want http(s)://host without user information")
    host = parts.hostname.encode("idna").decode("ascii").rstrip(".")
    return Origin(parts.scheme, host, parts.port or {"http": 80, "https": 443}[parts.scheme])


def same_origin(one: str, other: str) -> bool:
    """Both are plain http(s) addresses of one scheme, host and port."""
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False


def address_of(base_url: str, path: str) -> str:
    """`path` below `base_url`, or itself when it is an address of the same origin. Raises ValueError."""
    absolute = path.lower().startswith(("http://", "https://"))
    url = path if absolute else f"{base_url}/{path.lstrip('/')}"
    if origin_of(url) != origin_of(base_url):
        raise ValueError("another origin")
    if ".." in unquote(urlsplit(url).path).split("/"):
        raise ValueError("a path that climbs")
    return url


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises ValueError when from https to http."""
    target = urljoin(url, location)
    if origin_of(target).scheme == "http" and origin_of(url).scheme == "https":
        raise ValueError("downgrade")
    return target


@dataclass(eq=False)
class Session:
    """One attempt's way to one executor. Thread-safe; `deadline` is monotonic seconds."""

    base_url: str
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)  # replaced in everything shown
    deadline: float = float("inf")
    sending: Callable[[], None] = lambda: None
    explain: Callable[[Reply], ProviderError | None] = lambda _: None
    after_unknown: AfterUnknown = "verify"
    connections: Connections = field(default=CONNECTIONS, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        self._lock = threading.Lock()
        self._wires: set[Wire] = set()
        self._aborted: AbortReason | None = None

    def bind(self, provider: Provider, executor: ExecutorInfo) -> ExecutorInfo:
        """Speak as `provider` wants it, with the executor's credential. Returns `executor`.

        session = Session(base_url, deadline=..., sending=...)
        executor = session.bind(provider, ExecutorInfo(http=session, base_url=base_url, credential=Secret(key)))
        """
        self.explain, self.after_unknown = provider.explain, provider.retry_submit
        if executor.credential is not None:
            self.secrets = (executor.credential.reveal(),)
            self.auth = provider.auth_headers(executor, executor.credential)
            if any(not value.isascii() or not value.isprintable() for value in self.auth.values()):
                raise faults.standard("bad_credentials")
        return executor

    @property
    def origin(self) -> str:
        """`scheme://host:port` of the executor, for vendors whose paths leave the base URL."""
        scheme, host, port = origin_of(self.base_url)
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def get(self, path: str, **options: Unpack[Options]) -> Reply:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> Reply:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> Reply:
        return self.request("DELETE", path, **options)

    def request(self, method: str, path: str, **options: Unpack[Options]) -> Reply:
        """Send and read the whole answer.

        `path` is joined to the base URL, or is an absolute address of the same origin. A status outside 200-299 is
        raised as what `explain` makes of it, else by its status.
        """
        with self.stream(method, path, **options) as answer:
            return answer.read(options.get("max_bytes", MAX_BYTES))

    @contextmanager
    def stream(self, method: str, path: str, **options: Unpack[Options]) -> Iterator["Answer"]:
        """As `request`, with the answer read piece by piece inside the block."""
        url = self._address(path)
        with self._exchange(options) as answer:
            for hops in range(options.get("redirects", 0), -1, -1):
                answer.send(method, url, options)
                if not (hops and method == "GET" and answer.redirect):
                    break
                url = answer.follow(url)
            if not 200 <= answer.status < 300:
                raise self._refusal(answer.read(options.get("max_bytes", MAX_BYTES)))
            yield answer

    def abort(self, reason: AbortReason = "canceled") -> None:
        """Take the call back: cut what is on the wire and refuse what would follow. From any thread, idempotent."""
        with self._lock:
            self._aborted = self._aborted or reason
            wires = list(self._wires)
        for wire in wires:
            wire.cut(reason)

    @property
    def aborted(self) -> AbortReason | None:
        return self._aborted

    def _address(self, path: str) -> str:
        try:
            return address_of(self.base_url, path)
        except ValueError:
            # Never show the address: it may come from a vendor's answer.
            raise ProviderError(
                "not_available", "The address of the executor cannot be used."
            ) from None

    @contextmanager
    def _exchange(self, options: Options) -> Iterator["Answer"]:
        limit = min(self.deadline, time.monotonic() + options.get("timeout", float("inf")))
        answer = Answer(self, Wire(), limit, paid=options.get("paid", False))
        with self._lock:
            if self._aborted:
                raise Aborted(self._aborted)
            self._wires.add(answer.wire)
        try:
            with WATCHDOG.watching(limit, lambda: answer.wire.cut(LATE)):
                yield answer
        finally:
            answer.close()
            with self._lock:
                self._wires.discard(answer.wire)

    def _refusal(self, reply: Reply) -> ProviderError:
        problem = self.explain(reply) or faults.from_status(reply.status, reply.headers)
        if reply.paid:
            problem = faults.after_paid(
                problem, reply.status, readable=reply.readable, after_unknown=self.after_unknown
            )
        if (
            reply.headers.get("x-should-retry", "").lower() == "false"
            and problem.kind == "transient"
        ):
            problem.retries = 0
        problem.raw = problem.raw or f"HTTP {reply.status}\n{reply.raw}"
        problem.status = reply.status
        return problem


class Answer:
    """An answer that is still on the wire. `status` and `headers` are there, the body comes as it is read."""

    def __init__(self, session: Session, wire: Wire, limit: float, *, paid: bool) -> None:
        self.wire = wire
        self.paid = paid
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._session = session
        self._limit = limit
        self._origin = Origin("", "", 0)
        self._connection: Dialling | None = None
        self._response: BaseHTTPResponse | None = None
        self._sent = False

    @property
    def redirect(self) -> bool:
        return self.status in {301, 302, 303, 307, 308} and "location" in self.headers

    def send(self, method: str, url: str, options: Options) -> None:
        """One request; its status and headers are read. Raises ProviderError, Aborted."""
        session = self._session
        self._origin = origin_of(url)
        body, headers = _payload(options)
        if self._origin == origin_of(session.base_url):
            headers |= session.auth
        else:  # a redirect led away: nothing of ours goes along
            body, headers = None, {}
        self._connect()
        if self.paid:
            session.sending()
        with self._translated():
            connection = cast(Dialling, self._connection)
            connection.timeout = min(max(self._limit - time.monotonic(), 0.001), LONGEST)
            self._sent = True
            target = _target(url, options.get("query", {}))
            connection.request(method, target, body, STANDARD | headers, preload_content=False)
            self._response = connection.getresponse()
        self.status, self.headers = self._response.status, self._response.headers

    def follow(self, url: str) -> str:
        """Finish with a redirect; the next address."""
        self.read(PIECE)
        try:
            return redirected(url, self.headers["location"])
        except ValueError:
            raise faults.bad_response(paid=False) from None

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives, decoded. Raises ProviderError when it breaks off."""
        response = cast(BaseHTTPResponse, self._response)
        while True:
            with self._translated():
                piece = response.read1(PIECE, decode_content=True)
            if not piece:
                return self._finish()
            yield piece

    def read(self, max_bytes: int = MAX_BYTES) -> Reply:
        """The rest of the body. More than `max_bytes` is an unreadable answer."""
        content = bytearray()
        for piece in self.chunks():
            content += piece
            if len(content) > max_bytes:
                raise faults.bad_response(paid=self.paid)
        return Reply(self.status, self.headers, bytes(content), self.paid, self._session.secrets)

    def close(self) -> None:
        """Drop what was not read to its end."""
        self.wire.let_go()
        if self._connection is not None:
            self._connection.close()

    def _connect(self) -> None:
        max_idle = PAID_IDLE_LIMIT if self.paid else IDLE_LIMIT
        with self._translated():
            self._connection = self._session.connections.get(
                self._origin, self.wire, max_idle=max_idle
            )

    def _finish(self) -> None:
        connection = self._connection
        if connection is not None and self.wire.cut_because is None:
            self._connection = None
            self._session.connections.put(self._origin, connection)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Transport errors in the engine's words."""
        try:
            yield
        except (OSError, HTTPException, HTTPError, ValueError) as cause:
            reason = self.wire.cut_because
            if reason not in {None, LATE}:
                raise Aborted(cast(AbortReason, reason)) from None
            raise faults.from_transport(
                cause, sent=self._sent, paid=self.paid, late=reason == LATE
            ) from cause


def _payload(options: Options) -> tuple[bytes | None, dict[str, str]]:
    headers = dict(options.get("headers", {}))
    if "form" in options:
        content, kind = encode_multipart_formdata(list(options["form"]))
        return content, headers | {"Content-Type": kind}
    if "json" in options:
        text = json.dumps(options["json"], ensure_ascii=False, allow_nan=False)
        return text.encode(), headers | {"Content-Type": "application/json"}
    return options.get("body"), headers


def _target(url: str, query: Mapping[str, str | int | Sequence[str]]) -> str:
    parts = urlsplit(url)
    text = "&".join(filter(None, (parts.query, urlencode(query, doseq=True))))
    return quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{text}" if text else "")
