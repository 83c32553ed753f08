"""ComfyUI's websocket, read until somebody says stop or it breaks."""

import contextlib
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import websocket

from providers.base import ExecutorInfo, ProviderError
from providers.connections import trusted
from providers.wire.comfy_events import HELLO, Follower

CONNECT_SECONDS = 10.0
TICK = 1.0  # seconds of silence after which `stopped` is asked again
PING_AFTER = 15.0  # seconds without a frame
DEAD_AFTER = 45.0  # a pong should have come long ago
LARGEST = 32_000_000  # bytes of one message


class Socket(websocket.WebSocket):
    """Refuses messages that would fill the memory."""

    unread = 0

    def _recv(self, bufsize: int) -> bytes:
        data: bytes = super()._recv(bufsize)  # type: ignore[no-untyped-call]
        self.unread += len(data)
        if self.unread > LARGEST:
            raise websocket.WebSocketPayloadException("a message without end")
        return data

    def message(self) -> tuple[int, bytes] | None:
        """Opcode and data of the next message, control frames too; None after a tick of silence."""
        try:
            opcode, frame = self.recv_data_frame(control_frame=True)
        except websocket.WebSocketTimeoutException:
            return None
        self.unread = 0
        return opcode, frame.data


def connect(executor: ExecutorInfo, client_id: str) -> Socket:
    """The socket that gets the events of prompts sent with this client id. Raises ProviderError."""
    base = executor.http.base_url
    options: dict[str, Any] = {"sslopt": {"context": trusted()}} if base[:5] == "https" else {}
    socket = Socket(**options)
    try:
        socket.connect(  # type: ignore[no-untyped-call]
            f"ws{base.removeprefix('http')}/ws?clientId={quote(client_id, safe='')}",
            header=dict(executor.http.auth),
            suppress_origin=True,  # the server takes one for a foreign web page
            redirect_limit=0,
            http_no_proxy=["*"],
            timeout=CONNECT_SECONDS,
        )
    except (OSError, ValueError, websocket.WebSocketException):
        raise ProviderError("transient", "There is no live channel to the server.") from None
    socket.settimeout(TICK)
    return socket


def follow(socket: Socket, follower: Follower, stopped: Callable[[], bool]) -> None:
    """Hand every message to `follower`. Returns when stopped, closed, broken or silent in spite of pings."""
    with contextlib.suppress(OSError, websocket.WebSocketException):
        try:
            _listen(socket, follower, stopped)
        finally:
            socket.close(timeout=TICK)


def _listen(socket: Socket, follower: Follower, stopped: Callable[[], bool]) -> None:
    socket.send(HELLO)
    heard = pinged = time.monotonic()
    while not stopped():
        message = socket.message()
        now = time.monotonic()
        if message is not None:
            heard = now
            if not _hand_over(message, follower):
                return
        elif now - heard > DEAD_AFTER:
            return
        elif now - max(heard, pinged) > PING_AFTER:
            socket.ping()
            pinged = now


def _hand_over(message: tuple[int, bytes], follower: Follower) -> bool:
    opcode, data = message
    if opcode == websocket.ABNF.OPCODE_TEXT:
        follower.text(data.decode("utf-8", "replace"))
    elif opcode == websocket.ABNF.OPCODE_BINARY:
        follower.binary(data)
    return opcode != websocket.ABNF.OPCODE_CLOSE
