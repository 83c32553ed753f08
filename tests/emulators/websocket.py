"""The server's end of a WebSocket on a connection of `http.server` (RFC 6455)."""

import contextlib
import socket
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler
from typing import Any

from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key


class ServerSocket:
    """`send` from any thread, `receive` from one."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self._handler = handler
        self._lock = threading.Lock()
        self.features: dict[str, Any] = {}  # what the client said it can do
        self.pings = 0
        self.deaf = False  # pings are not answered

    def send(self, message: str | bytes) -> None:
        """A client that has gone is no error."""
        opcode = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
        data = message.encode() if isinstance(message, str) else message
        with contextlib.suppress(OSError, ValueError):
            self._write(Frame(opcode, data))

    def receive(self) -> str | bytes | None:
        """The next message; None when the client has closed or gone. Pings are answered."""
        while True:
            try:
                frame = self._read()
            except (EOFError, OSError, ValueError, ProtocolError):
                return None
            if frame.opcode is Opcode.PING:
                self.pings += 1
                if not self.deaf:
                    self._write(Frame(Opcode.PONG, frame.data))
            elif frame.opcode is Opcode.CLOSE:
                with contextlib.suppress(OSError):
                    self._write(frame)
                return None
            elif frame.opcode is Opcode.TEXT:
                return bytes(frame.data).decode()
            elif frame.opcode is Opcode.BINARY:
                return bytes(frame.data)

    def hang_up(self) -> None:
        """Break the connection without a word."""
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def _write(self, frame: Frame) -> None:
        with self._lock:
            self._handler.wfile.write(frame.serialize(mask=False))

    def _read(self) -> Frame:
        def read_exact(size: int) -> Generator[None, None, bytes]:
            data = self._handler.rfile.read(size)
            if len(data) < size:
                raise EOFError
            return data
            yield

        parsing = Frame.parse(read_exact, mask=True)
        try:
            next(parsing)
        except StopIteration as parsed:
            frame: Frame = parsed.value
            return frame
        raise AssertionError("read_exact never waits")


def accept(handler: BaseHTTPRequestHandler) -> ServerSocket | None:
    """Answer the handshake; None when it is none (400 was sent)."""
    headers = handler.headers
    key = headers.get("Sec-WebSocket-Key", "")
    upgrade = headers.get("Upgrade", "").lower() == "websocket"
    if not upgrade or not key or headers.get("Sec-WebSocket-Version") != "13":
        handler.send_error(400)
        return None
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", accept_key(key))
    handler.end_headers()
    return ServerSocket(handler)
