"""What every WebSocket handshake is answered: a request id, and an envelope when it is refused."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from genpulse.errors import PermissionDenied
from genpulse.http.middleware import request_id_of
from genpulse.http.problems import door_of

Scope = dict[str, Any]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Any, Send], Awaitable[None]]


def answered(app: App) -> App:
    """`app`, whose close before the handshake becomes 403 in the envelope of its path."""

    async def handle(scope: Scope, receive: Any, send: Send) -> None:
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id_ = request_id_of(given)
        common = {"x-content-type-options": "nosniff", "x-request-id": id_}
        open_ = False

        async def answer(message: Any) -> None:
            nonlocal open_
            if message["type"] == "websocket.accept":
                named = [*message.get("headers", []), *pairs(common)]
                message, open_ = {**message, "headers": named}, True
            if message["type"] == "websocket.close" and not open_:
                for part in refusal(scope["path"], common):
                    await send(part)
            else:
                await send(message)

        await app(scope, receive, answer)

    return handle


def refusal(path: str, common: Mapping[str, str]) -> list[dict[str, Any]]:
    """The messages of a 403."""
    problem = PermissionDenied("This credential, ticket or origin may not open a connection here.")
    rendered = door_of(path)[1](problem, common["x-request-id"])
    headers = {**common, "content-type": rendered.content_type, "cache-control": "no-store"}
    return [
        {
            "type": "websocket.http.response.start",
            "status": 403,
            "headers": pairs(headers),
        },
        {"type": "websocket.http.response.body", "body": json.dumps(rendered.body).encode()},
    ]


def pairs(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
