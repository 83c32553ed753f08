"""A streamed chat answer in the chunks of OpenAI."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from genpulse.dialects.openai.doors import tokens
from genpulse.dialects.openai.failures import SERVER, Failure, of_end
from tasks.deltas import Piece, Said
from tasks.events import Stored
from tasks.models import Status

DONE = "data: [DONE]\n\n"
CUT = Failure(status=502, type=SERVER, code="upstream_cut", message="The answer was cut off.")
ToolCall = Mapping[str, Any]


class Hole(Exception):
    """The answer does not go on where it was cut off; what was sent cannot be taken back."""


@dataclass(slots=True, kw_only=True)
class Voice:
    """One answer, and what was sent of it. `more` goes into every chunk."""

    task_id: str
    model: str
    created: int  # unix seconds
    place: int = 0
    usage: bool = False  # a last chunk with the usage is wanted
    more: Mapping[str, Any] = field(default_factory=dict)
    told: Said = field(default_factory=Said)
    begun: bool = False
    over: bool = False
    complete: bool = False

    def says(self, pieces: Sequence[Piece]) -> str:
        """The frames of what came in; an answer with a hole ends here."""
        if self.over:
            return ""
        try:
            return self._all(pieces)
        except Hole:
            return self.fails(CUT)

    def _all(self, pieces: Sequence[Piece]) -> str:
        return "".join(self._speak(self._new(piece)) for piece in pieces)

    def _new(self, piece: Piece) -> dict[str, Any]:
        """What of a piece was not sent before. Raises Hole."""
        text, reasoning, calls = piece["text"], piece["reasoning"], piece["tool_calls"] or []
        if piece["reset"]:  # everything so far
            text = rest(text, self.told.text)
            reasoning = rest(reasoning, self.told.reasoning)
            calls = list(new_calls(calls, self.told.tool_calls))
        else:
            calls = [{**call, "index": call.get("index", n)} for n, call in enumerate(calls)]
        self.told.add(text, reasoning, calls)
        delta = {"content": text, "reasoning_content": reasoning, "tool_calls": calls}
        return {name: value for name, value in delta.items() if value}

    def _speak(self, delta: Mapping[str, Any]) -> str:
        return self._begin() + self._chunk(delta) if delta else ""

    def _begin(self) -> str:
        if self.begun:
            return ""
        self.begun = True
        return self._chunk({"role": "assistant", "content": ""})

    def fails(self, failure: Failure) -> str:
        self.over = True
        about = {"model": self.model, **self.more} if self.more else {}
        return frame({**failure.body, **about})

    def ends(self, event: Stored, last: Sequence[Piece]) -> str:
        """The last frames; `last`: what was missing when its task ended."""
        if self.over:
            return ""
        if event.type != "task.succeeded":
            status = Status(event.type.removeprefix("task."))
            return self.fails(of_end(status, event.data.get("error")))
        try:
            said = self._all(last)
        except Hole:
            return self.fails(CUT)
        return said + self._close(event.data)

    def _close(self, data: Mapping[str, Any]) -> str:
        self.over = self.complete = True
        message = (data.get("output") or {}).get("message") or {}
        said = self._begin() + self._chunk({}, finish_reason(message))
        if self.usage:
            said += frame({**self._head(), "choices": [], "usage": tokens(data.get("usage"))})
        return said

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> str:
        choice = {
            "index": self.place,
            "delta": delta,
            "logprobs": None,
            "finish_reason": reason,
        }
        usage = {"usage": None} if self.usage else {}
        return frame({**self._head(), "choices": [choice], **usage})

    def _head(self) -> dict[str, Any]:
        return {
            "id": completion_id(self.task_id),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": None,
            **self.more,
        }


def rest(whole: str, told: str) -> str:
    if not whole.startswith(told):
        raise Hole
    return whole[len(told) :]


def new_calls(whole: Sequence[ToolCall], told: Sequence[ToolCall]) -> Iterator[dict[str, Any]]:
    """Tool calls as pieces: those not told yet, and the rest of the arguments of the others. Raises Hole."""
    known = {call["index"]: call for call in told}
    for place, call in enumerate(whole):
        index = call.get("index", place)
        if index not in known:
            yield {**call, "index": index}
        elif more := rest(arguments(call), arguments(known[index])):
            yield {"index": index, "function": {"arguments": more}}


def arguments(call: ToolCall) -> str:
    return str((call.get("function") or {}).get("arguments") or "")


def finish_reason(message: Mapping[str, Any]) -> str:
    usual = "tool_calls" if message.get("tool_calls") else "stop"
    return str(message.get("finish_reason") or usual)


def completion_id(task_id: str) -> str:
    return f"chatcmpl-{UUID(task_id).hex}"


def frame(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, separators=(',', ':'), ensure_ascii=False)}\n\n"
