"""A client that costs little, because it shares the machine with what it measures: HTTP/1.1 over asyncio streams."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import uvloop


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request. `body` None: none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any = None

    def encoded(self, host: str) -> bytes:
        content = b"" if self.body is None else json.dumps(self.body).encode()
        lines = [f"{self.method} {self.path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines.append(f"Content-Length: {len(content)}")
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(slots=True)
class Load:
    """What came of it: the seconds each request took."""

    seconds: float
    took: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.took) / self.seconds


class Connection:
    """One kept-alive connection."""

    def __init__(self, base: str) -> None:
        self.host = urlsplit(base).netloc

    async def __aenter__(self) -> "Connection":
        name, _, port = self.host.partition(":")
        self.reader, self.writer = await asyncio.open_connection(name, int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, wanted: Wanted) -> tuple[int, bytes]:
        """Status and body of an answer with a length. Raises OSError, EOFError."""
        status, headers = await self.begin(wanted)
        return status, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def begin(self, wanted: Wanted) -> tuple[int, dict[str, str]]:
        """Status and headers; the body is still to be read."""
        self.writer.write(wanted.encoded(self.host))
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        pairs = (line.split(": ", 1) for line in lines if line)
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}


def load(
    base: str, make: Callable[[int], Wanted], *, connections: int, seconds: float, status: int
) -> Load:
    """Ask for `seconds` over that many connections, one request after the other on each.

    Raises AssertionError for an answer of another status.
    """
    numbers = itertools.count()

    async def keep_asking(done: Load, end: float) -> None:
        async with Connection(base) as connection:
            while time.perf_counter() < end:
                wanted = make(next(numbers))
                began = time.perf_counter()
                got, body = await connection.ask(wanted)
                done.took.append(time.perf_counter() - began)
                assert got == status, (got, body[:500])

    async def run() -> Load:
        done, began = Load(0), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(keep_asking(done, began + seconds))
        done.seconds = time.perf_counter() - began
        return done

    return uvloop.run(run())
