"""Django's ASGI handler, with bodies that are bounded while they arrive, not after.

Django spools a whole body to disk before any view runs. Here Content-Length is checked first and the
bytes are counted; `BodyLimitMiddleware` answers for a body that was cut. A chunked body gets the length
it turned out to have, because DRF takes a body without one for empty.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from io import SEEK_END
from typing import IO, Any

from asgiref.sync import ThreadSensitiveContext, iscoroutinefunction
from django.core.handlers.asgi import ASGIHandler

from genpulse.config import config
from genpulse.http import turns
from genpulse.http.threads import threads

TOO_LARGE = "genpulse.too_large"  # in the scope: the limit that was passed
MAX_FILES = 16
FIELDS_BYTES = 1 << 20  # what a multipart body may need beside its files
END = {"type": "http.request", "body": b"", "more_body": False}
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Handler(ASGIHandler):
    """Use it through `genpulse.asgi.application`."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Any) -> None:
        async with ThreadSensitiveContext(executor=threads()):
            await self.handle(scope, Bounded(scope, receive), send)

    def make_view_atomic(self, view: Any) -> Any:
        view = super().make_view_atomic(view)
        return view if iscoroutinefunction(view) else partial(turns.begun, view)

    def create_request(self, scope: Mapping[str, Any], body_file: IO[bytes]) -> Any:
        if not any(name == b"content-length" for name, _ in scope["headers"]):
            size = body_file.seek(0, SEEK_END)
            body_file.seek(0)
            length = (b"content-length", str(size).encode())
            scope = {**scope, "headers": [*scope["headers"], length]}
        return super().create_request(scope, body_file)


class Bounded:
    """`receive`, which ends the body as soon as it is known to be too large, and drops the rest."""

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"")
        self.scope, self.receive, self.exceeded = scope, receive, False
        self.limit = limit_of(headers.get(b"content-type", b""))
        self.bytes = int(declared) if declared.isdigit() else 0
        self.declared = self.bytes > 0

    async def __call__(self) -> Mapping[str, Any]:
        if self.bytes > self.limit and not self.exceeded:
            return self._cut()
        message = await self.receive()
        while self.exceeded and message["type"] != "http.disconnect":
            message = await self.receive()
        if not self.declared:
            self.bytes += len(message.get("body", b""))
        return self._cut() if self.bytes > self.limit and not self.exceeded else message

    def _cut(self) -> Mapping[str, Any]:
        self.exceeded = True
        self.scope[TOO_LARGE] = self.limit
        return END


def limit_of(content_type: bytes) -> int:
    """The most bytes a body of this type may have."""
    kind = content_type.split(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return config.max_upload_bytes * MAX_FILES + FIELDS_BYTES
    if kind in {b"application/json", b"application/x-www-form-urlencoded", b""}:
        return config.max_body_bytes
    return max(config.max_upload_bytes, config.max_body_bytes)
