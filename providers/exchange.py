"""One request and its answer on the wire, in the engine's words when something breaks."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, TypedDict, cast
from urllib.parse import quote, urlencode, urlsplit

from urllib3 import BaseHTTPResponse, encode_multipart_formdata
from urllib3.exceptions import HTTPError

from providers import faults
from providers.connections import IDLE_LIMIT, Dialling, Wire
from providers.urls import Origin, origin_of, redirected
from providers.values import Aborted, AbortReason, ProviderError

if TYPE_CHECKING:
    from providers.http import Session

MAX_BYTES = 10_000_000  # of an answer, unless the caller knows better
PIECE = 65_536
PAID_IDLE_LIMIT = 4.0  # seconds; common servers drop idle connections after 5, and a paid request must not race that
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


class Answer:
    """An answer that is still on the wire. `status` and `headers` are there, the body comes as it is read."""

    def __init__(self, session: "Session", wire: Wire, limit: float, *, paid: bool) -> None:
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
        target = _target(url, options.get("query", {}))
        self._connect()
        if self.paid:
            session.sending()
        with self._translated():
            connection = cast(Dialling, self._connection)
            connection.timeout = max(self._limit - time.monotonic(), 0.001)
            self._sent = True
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
