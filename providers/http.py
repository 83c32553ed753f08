"""The guarded session adapters speak HTTP with: `call.http`.

    reply = call.http.post("/images/generations", json=body, paid=True)
    url = reply.object()["data"][0]["url"]

It knows the executor's base URL and sends the credential to that origin (scheme, host, port) and nowhere else. It
never retries. Errors arrive as `ProviderError`, a call taken back by the engine as `Aborted`. A session belongs to one
attempt; `abort` may be called from any thread and ends a blocked read at once.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Unpack

from providers import faults
from providers.base import (
    Aborted,
    AbortReason,
    AfterUnknown,
    ExecutorInfo,
    Provider,
    ProviderError,
)
from providers.connections import CONNECTIONS, WATCHDOG, Connections, Wire
from providers.exchange import LATE, MAX_BYTES, Answer, Form, Options, Reply
from providers.urls import address_of, origin_of, same_origin

__all__ = [
    "MAX_BYTES",
    "Answer",
    "Form",
    "Options",
    "Reply",
    "Session",
    "origin_of",
    "same_origin",
]


UNLIMITED = 600.0  # seconds for a request that nobody limited: no thread waits for ever
LEAST = 0.01  # seconds; with less left nothing is begun


@dataclass(eq=False)
class Session:
    """One attempt's way to one executor. Thread-safe; `deadline` is monotonic seconds."""

    base_url: str
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)  # replaced in everything shown
    deadline: float = math.inf
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
        return str(origin_of(self.base_url))

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
                options.pop("query", None)  # it belonged to the first address
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
        now = time.monotonic()
        limit = min(self.deadline, now + options.get("timeout", math.inf))
        limit = now + UNLIMITED if math.isinf(limit) else limit
        if limit - now < LEAST:
            raise faults.from_transport(TimeoutError(), sent=False, paid=False, late=True)
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
