"""The one guarded way out: every URL that a client or a vendor gave us is opened here.

The host is resolved once, every address is judged, and the connection goes to the judged address with
the original Host and SNI, so that a second answer of the name server changes nothing. No proxies, no
compression, no more than three redirects (each judged again), one deadline for all of it.
"""

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from typing import BinaryIO, Literal, cast
from urllib.parse import urljoin

import certifi
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

from genpulse.errors import UrlNotAllowed
from media.guard import Purpose, Target, judge, parse

REDIRECTS = 3
CHUNK = 64 << 10
CONNECT_SECONDS = 10.0
ANSWER_BYTES = 64 << 10
RESULT_BYTES = 2 << 30
RESULT_SECONDS = 300.0
MOVED = frozenset({301, 302, 303, 307, 308})
DEAD = frozenset({401, 403, 404, 410})


class FetchError(Exception):
    """A download failed; `code` says what follows.

    rejected: too large, of another type or encoded; the same URL will never do (`result_rejected`).
    gone: 401, 403, 404, 410; the link is dead, ask for a fresh one. broken: anything else, try again.
    """

    def __init__(
        self, code: Literal["rejected", "gone", "broken"], message: str, status: int | None = None
    ) -> None:
        self.code, self.status = code, status
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What was written to the sink: declared type without parameters, bytes, SHA-256 in hex."""

    content_type: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Posted:
    """The answer to a POST; `body` is at most the first 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Wire:
    """One request on the wire."""

    method: str
    headers: Mapping[str, str]
    body: bytes | None
    until: float  # time.monotonic()


def check_url(url: str, *, purpose: Purpose) -> None:
    """Raises UrlNotAllowed, before any connection, for a URL that the guard would not open now."""
    judge(parse(url), purpose)


def fetch(  # noqa: PLR0913 - one call says all that bounds a download
    url: str,
    *,
    sink: BinaryIO,
    max_bytes: int = RESULT_BYTES,
    deadline: float = RESULT_SECONDS,
    allowed_types: Sequence[str] | None = None,
    purpose: Purpose = "result",
    also_allowed: Sequence[str] = (),
) -> Fetched:
    """Write the bytes of `url` to `sink` within `deadline` seconds.

    `allowed_types`: prefixes of the declared type (`image/`); a server that declares none passes.
    `also_allowed`: `host:port` of the operator's own executors. Raises UrlNotAllowed, FetchError.
    """
    wire = Wire(method="GET", headers={}, body=None, until=time.monotonic() + deadline)
    target = parse(url)
    for _ in range(REDIRECTS + 1):
        with _exchange(target, judge(target, purpose, also_allowed), wire) as response:
            if response.status not in MOVED:
                return _download(response, sink, max_bytes, allowed_types)
            target = _moved(target, response.headers.get("Location", ""))
    raise FetchError("rejected", "The server redirects too often.")


def guarded_post(
    url: str, body: bytes, headers: Mapping[str, str], deadline: float = 15.0
) -> Posted:
    """POST `body` to a client's callback; a redirect is an answer like any other.

    Raises UrlNotAllowed, FetchError (`broken`).
    """
    wire = Wire(method="POST", headers=headers, body=body, until=time.monotonic() + deadline)
    target = parse(url)
    with _exchange(target, judge(target, "callback"), wire) as response:
        start = response.read1(ANSWER_BYTES, decode_content=False)
        return Posted(status=response.status, headers=dict(response.headers), body=start)


def _moved(target: Target, location: str) -> Target:
    if not location:
        raise FetchError("broken", "The server redirects to nowhere.")
    try:
        to = parse(urljoin(target.url, location))
    except ValueError as error:  # urljoin on broken brackets
        raise UrlNotAllowed("The URL cannot be read.") from error
    if target.scheme == "https" and to.scheme == "http":
        raise UrlNotAllowed("The server redirects from https to http.")
    return to


@contextmanager
def _exchange(target: Target, addresses: list[str], wire: Wire) -> Iterator[BaseHTTPResponse]:
    """The response to `wire`, its body not read yet; at the deadline the socket is shut from outside."""
    connection: HTTPConnection | None = None
    try:
        connection = _connect(target, addresses, wire.until)
        with _watchdog(connection, wire.until):
            connection.request(
                wire.method,
                target.path,
                body=wire.body,
                headers={"Accept-Encoding": "identity", **wire.headers, "Host": target.netloc},
                preload_content=False,
                decode_content=False,
            )
            with closing(connection.getresponse()) as response:
                yield response
        if time.monotonic() >= wire.until:  # the watchdog's cut looks like an ordinary end
            raise TimeoutError
    except (HTTPError, HTTPException, OSError) as error:
        late = time.monotonic() >= wire.until
        message = "The deadline has passed." if late else "The connection failed or was cut."
        raise FetchError("broken", message) from error
    finally:
        if connection is not None:
            connection.close()


def _connect(target: Target, addresses: list[str], until: float) -> HTTPConnection:
    """A connection to the first judged address that accepts one."""
    for address in addresses:
        timeout = min(CONNECT_SECONDS, until - time.monotonic())
        if timeout <= 0:
            break
        connection = _connection(target, address, timeout)
        try:
            connection.connect()
        except (NewConnectionError, ConnectTimeoutError):
            connection.close()
        else:
            return connection
    raise FetchError("broken", "No address of the host accepts a connection.")


def _connection(target: Target, address: str, timeout: float) -> HTTPConnection:
    if target.scheme == "http":
        return HTTPConnection(address, target.port, timeout=timeout)
    return HTTPSConnection(
        address,
        target.port,
        timeout=timeout,
        ssl_context=_tls(),
        server_hostname=target.host,
    )


@cache
def _tls() -> ssl.SSLContext:
    """The system's authorities (operators add their own there) and those of certifi: slim images have none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


@contextmanager
def _watchdog(connection: HTTPConnection, until: float) -> Iterator[None]:
    """A time-out per read does not stop a server that sends a byte a second; this does."""
    left = max(until - time.monotonic(), 0.001)
    wire = cast("socket.socket", connection.sock)  # the connection forgets it while a body is read
    wire.settimeout(left)
    timer = threading.Timer(left, _shut, [wire])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(wire: socket.socket) -> None:
    with suppress(OSError):  # closed already
        wire.shutdown(socket.SHUT_RDWR)


def _download(
    response: BaseHTTPResponse,
    sink: BinaryIO,
    max_bytes: int,
    allowed_types: Sequence[str] | None,
) -> Fetched:
    content_type = _acceptable(response, allowed_types)
    digest, size = hashlib.sha256(), 0
    while chunk := response.read1(CHUNK, decode_content=False):
        size += len(chunk)
        if size > max_bytes:
            raise FetchError("rejected", f"The file is larger than {max_bytes} bytes.")
        digest.update(chunk)
        sink.write(chunk)
    return Fetched(content_type=content_type, size=size, sha256=digest.hexdigest())


def _acceptable(response: BaseHTTPResponse, allowed_types: Sequence[str] | None) -> str:
    status = response.status
    if status != 200:
        code: Literal["gone", "broken"] = "gone" if status in DEAD else "broken"
        raise FetchError(code, f"The server answers {status}.", status)
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise FetchError("rejected", "The server compresses although it was asked not to.")
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    silent = declared in {"", "application/octet-stream", "binary/octet-stream"}
    if allowed_types is not None and not silent and not declared.startswith(tuple(allowed_types)):
        raise FetchError("rejected", f"The server sends {declared[:80]}.")
    return declared or "application/octet-stream"
