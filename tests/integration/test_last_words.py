"""How the server ends a WebSocket that the application has not ended: bye, then a code that says why."""

import json
import socket
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect
from websockets.uri import parse_uri

from genpulse.cli.websockets import Protocol
from tests.integration.served import served


async def talks(scope, receive, send):
    """Accepts, says hello, and speaks on when the client has gone: that must not fail louder than it does."""
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    while (await receive())["type"] != "websocket.disconnect":
        pass
    with pytest.raises(OSError):
        await send({"type": "websocket.send", "text": "too late"})


@contextmanager
def mute(base: str):
    """A client that reads and never answers."""
    place = urlsplit(base)
    protocol = ClientProtocol(parse_uri(base.replace("http", "ws") + "/"))
    with socket.create_connection((place.hostname, place.port), timeout=30) as raw:
        protocol.send_request(protocol.connect())
        raw.sendall(b"".join(protocol.data_to_send()))
        yield frames(protocol, raw)


def frames(protocol: ClientProtocol, raw: socket.socket):
    while data := raw.recv(4096):
        protocol.receive_data(data)
        yield from (event for event in protocol.events_received() if isinstance(event, Frame))


def test_a_restart_is_announced():
    stopping = threading.Event()
    heard: list[object] = []

    def client(base):
        with connect(base.replace("http", "ws") + "/") as raw:
            heard.append(raw.recv(timeout=30))
            stopping.set()
            heard.append(json.loads(raw.recv(timeout=30)))
            with pytest.raises(ConnectionClosed) as closed:
                raw.recv(timeout=30)
            heard.append(closed.value.rcvd and closed.value.rcvd.code)

    with served(talks, ws=Protocol) as base:
        thread = threading.Thread(target=client, args=[base])
        thread.start()
        assert stopping.wait(30)
    thread.join(30)
    assert heard == ["hello", {"type": "bye", "reason": "restart"}, 1012]


def test_a_client_that_answers_no_ping():
    with (
        served(talks, ws=Protocol, ws_ping_interval=0.05, ws_ping_timeout=0.1) as base,
        mute(base) as said,
    ):
        found = list(said)
    assert [frame.opcode for frame in found] == [
        Opcode.TEXT,
        Opcode.PING,
        Opcode.TEXT,
        Opcode.CLOSE,
    ]
    assert json.loads(found[2].data)["type"] == "bye"
    assert int.from_bytes(found[3].data[:2]) == 4408
