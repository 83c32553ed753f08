"""WebSockets as uvicorn serves them, with the last words and the close codes of ours."""

import json
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

RESTART, SILENT = 1012, 4408


class Protocol(WebSocketsSansIOProtocol):
    """`bye` before the close of a restart, and 4408 for a client that answers no ping any more.

    `close_sent` stays false, so that what the application still sends ends as it does for a client that has gone.
    """

    def shutdown(self) -> None:
        if self._is_open():
            self._end(RESTART, "restart")
        else:
            super().shutdown()

    def keepalive_timeout(self) -> None:
        if self._is_open():
            self._end(SILENT, "no answer to pings")

    async def send(self, message: Any) -> None:
        await super().send(message)
        if (
            self.close_sent
        ):  # uvicorn takes a handshake that was answered by HTTP for one without an answer
            self.handshake_complete = True

    def _is_open(self) -> bool:
        return self.handshake_complete and not self.close_sent and not self.transport.is_closing()

    def _end(self, code: int, reason: str) -> None:
        self.stop_keepalive()
        self.conn.send_text(json.dumps({"type": "bye", "reason": reason}).encode())
        self.conn.send_close(code, reason)
        told: dict[str, Any] = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self.queue.put_nowait(told)  # type: ignore[arg-type]
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()
