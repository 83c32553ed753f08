"""Streamed answers: numbered pieces in a Redis stream, written by one worker, followed by any number of readers.

An entry is the `data` of a `task.delta` and its number `n` within the attempt. The first entry of a stream always
holds everything up to its number: it is number 0, or a `reset`. So a reader that misses a number reads the stream
anew, and when the stream itself is gone the writer notices and begins it again with everything so far.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tasks import channels

log = structlog.get_logger(__name__)
BEGINNING = "0-0"
Piece = dict[str, Any]


@dataclass(slots=True)
class Said:
    """The pieces of an answer, joined."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    def add(self, text: str, reasoning: str, tool_calls: list[dict[str, Any]] | None) -> None:
        self.text += text
        self.reasoning += reasoning
        for call in tool_calls or []:
            self._add_call(call)

    def _add_call(self, call: dict[str, Any]) -> None:
        """OpenAI's shape: pieces of one call carry its index, and only `arguments` come in pieces."""
        more = call.get("function") or {}
        known = next((c for c in self.tool_calls if c.get("index") == call.get("index")), None)
        if known is None:
            self.tool_calls.append({**call, "function": dict(more)})
            return
        function = known["function"]
        arguments = (function.get("arguments") or "") + (more.get("arguments") or "")
        known.update({name: call[name] for name in ("id", "type") if call.get(name)})
        function.update({name: value for name, value in more.items() if value})
        function["arguments"] = arguments

    @property
    def empty(self) -> bool:
        return not (self.text or self.reasoning or self.tool_calls)

    def piece(self, attempt: int, *, offset: int = 0, reset: bool = False) -> Piece:
        """The `data` of a `task.delta`; `offset`: characters of text before it."""
        return {
            "attempt": attempt,
            "text": self.text,
            "reasoning": self.reasoning,
            "tool_calls": self.tool_calls or None,
            "offset": offset,
            "reset": reset,
        }


class DeltaReader:
    """Follows one stream on behalf of whoever saw all it gave out so far."""

    def __init__(self, redis: Redis, task_id: str) -> None:
        self._redis, self._key = redis, channels.deltas(task_id)
        self._last = BEGINNING
        self._number = 0  # the one that comes next
        self._told = False
        self.attempt = 0
        self.said = Said()

    async def catch_up(self) -> list[Piece]:
        """Everything so far as one `reset`; nothing when nothing was said yet."""
        return [self.whole()] if await self.news() else []

    def whole(self) -> Piece:
        return self.said.piece(self.attempt, reset=True)

    async def news(self) -> list[Piece]:
        """What was said since; a hole shows as one `reset` with everything so far."""
        pieces: list[Piece] = []
        for id_, piece in await self._entries(self._last):
            number = piece.pop("n")
            if self._begins(piece, number):
                pieces = [{**piece, "reset": piece["reset"] or self._told}]
                self.attempt, self.said = piece["attempt"], Said()
            elif piece["attempt"] != self.attempt or number > self._number:
                pieces = await self._anew() or pieces
                break
            elif number < self._number:
                continue
            else:
                pieces.append(piece)
            self.said.add(piece["text"], piece["reasoning"], piece["tool_calls"])
            self._number, self._last = number + 1, id_
        self._told = self._told or bool(pieces)
        return pieces

    def _begins(self, piece: Piece, number: int) -> bool:
        return piece["reset"] or (number == 0 and piece["attempt"] != self.attempt)

    async def _anew(self) -> list[Piece]:
        """After a hole. A stream that has one itself is about to be mended by its writer."""
        said, number, whole = Said(), -1, False
        last, attempt = self._last, self.attempt
        for id_, piece in await self._entries(BEGINNING):
            begins = piece["reset"] or piece["n"] == 0
            whole = begins or (whole and piece["n"] == number + 1)
            said = Said() if begins else said
            said.add(piece["text"], piece["reasoning"], piece["tool_calls"])
            last, number, attempt = id_, piece["n"], piece["attempt"]
        if not whole:
            return []
        self.said, self._number, self._last, self.attempt = said, number + 1, last, attempt
        return [self.whole()]

    async def rest(self, output: dict[str, Any] | None) -> list[Piece]:
        """Before the end is told: what is missing of the final answer, in whatever way it got lost."""
        pieces = await self.news()
        message = (output or {}).get("message") or {}
        final = Said(
            (output or {}).get("text") or "",
            message.get("reasoning_content") or "",
            message.get("tool_calls") or [],
        )
        same = final.text == self.said.text and len(final.tool_calls) == len(self.said.tool_calls)
        if output is None or same:
            return pieces
        self.said = final
        return [self.whole()]

    async def _entries(self, after: str) -> list[tuple[str, Piece]]:
        try:
            found: Any = await self._redis.xrange(self._key, min=f"({after}", max="+")
        except (RedisError, OSError) as error:
            log.info("deltas.unreadable", error=type(error).__name__)
            return []
        return [(id_.decode(), json.loads(entry[b"d"])) for id_, entry in found]


class Deltas:
    """The readers of one connection or feed, by task."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.readers: dict[str, DeltaReader] = {}

    async def follow(self, task_id: str) -> list[Piece]:
        """Begin with what was said before."""
        self.readers[task_id] = DeltaReader(self._redis, task_id)
        return await self.readers[task_id].catch_up()

    async def news(self, task_id: str) -> list[Piece]:
        if task_id not in self.readers:
            return await self.follow(task_id)
        return await self.readers[task_id].news()

    async def rest(self, task_id: str, output: dict[str, Any] | None) -> list[Piece]:
        """The task has ended; its reader is let go."""
        reader = self.readers.pop(task_id, None) or DeltaReader(self._redis, task_id)
        return await reader.rest(output)
