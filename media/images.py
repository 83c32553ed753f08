"""Thumbnails, made by confined processes of their own; no other process ever loads a decoder."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import structlog

LONGEST_SIDE = 512
SECONDS = 15.0
LARGEST = 1 << 20  # of the WebP
DECODER = Path(__file__).with_name("decoder.py")
log = structlog.get_logger(__name__)


class Undecodable(Exception):
    """Why there is no thumbnail."""


class Decoder:
    """The process that stands by, since to start one costs more than most pictures. It ends with this one."""

    def __init__(self) -> None:
        self._orders, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(  # noqa: S603 - no shell, no word of a user
                [sys.executable, "-I", str(DECODER)],
                stdin=its_end.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                start_new_session=True,
            )

    def shrink(self, file: BinaryIO, content_type: str) -> bytes:
        """The WebP of the picture or film in a real file. Raises Undecodable, OSError (TimeoutError when it takes too long)."""
        until = time.monotonic() + SECONDS
        order = f"{content_type} {LONGEST_SIDE}".encode()
        mine, its_end = socket.socketpair()
        with mine:
            with its_end:
                socket.send_fds(self._orders, [order], [file.fileno(), its_end.fileno()])
            small = received(mine, until)
        self._orders.settimeout(max(until - time.monotonic(), 0.001))
        code = self._orders.recv(8).decode()
        if code != "0" or not 0 < len(small) <= LARGEST:
            raise Undecodable(f"exit {code or 'of the decoder'}")
        return small

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """With the child that may be at work."""
        if self.alive:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._orders.close()


def received(end: socket.socket, until: float) -> bytes:
    """What comes until the other side closes, at most a little over LARGEST."""
    data = bytearray()
    while len(data) <= LARGEST:
        end.settimeout(max(until - time.monotonic(), 0.001))
        part = end.recv(1 << 16)
        if not part:
            break
        data += part
    return bytes(data)


_standing_by: list[Decoder] = []  # at most one
_turn = threading.Lock()


def decoder() -> Decoder:
    if not _standing_by or not _standing_by[0].alive:
        dismiss()
        _standing_by.append(Decoder())
    return _standing_by[0]


@atexit.register
def dismiss() -> None:
    while _standing_by:
        _standing_by.pop().kill()


def thumbnail(file: BinaryIO, content_type: str) -> bytes | None:
    """A WebP of at most 512 pixels, or None for what cannot be decoded within the limits."""
    with _turn:
        try:
            return decoder().shrink(file, content_type)
        except Undecodable as error:
            log.info("media.undecodable", reason=str(error))
        except OSError as error:
            log.info("media.undecodable", reason=type(error).__name__)
            dismiss()
        return None
