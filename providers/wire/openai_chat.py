"""Chat as OpenAI-compatible servers speak it: request, answer, stream.

    class Acme(Provider):
        def submit(self, call: Call) -> Completed:
            return openai_chat.complete(call, openai_chat.request(call))

        def explain(self, reply: Reply) -> ProviderError | None:
            return codes.explain(reply)

A chat request is never `paid`: one that is lost is simply asked again.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers import faults
from providers.base import Call, Completed, Emit, Input, ProviderError
from providers.wire import codes, refusals, sse

PATH = "/chat/completions"
# Shared input names that are no field of a chat body; all others, known here or not, go out as they came.
_NO_FIELDS = """prompt negative_prompt messages system images mask video audio size width height aspect_ratio n steps
    guidance duration fps quality format voice speed language texts dimensions workflow inputs parameters sandbox
    model stream stream_options"""
NOT_FIELDS = frozenset(_NO_FIELDS.split())
OPEN, CLOSE = "<think>", "</think>"


def messages(call: Call, *, reasoning: bool = False) -> list[dict[str, Any]]:
    """The conversation with media inlined; `prompt`, `system` and `images` become messages.

    What earlier answers carry beyond OpenAI's shape is left out; `reasoning` keeps their `reasoning_content`.
    """
    data = call.filled(Input.data_uri)
    hidden = {"finish_reason"} if reasoning else {"finish_reason", "reasoning_content"}
    found: list[dict[str, Any]] = [
        {name: value for name, value in message.items() if name not in hidden}
        for message in data.get("messages", ())
    ]
    if data.get("system"):
        found.insert(0, {"role": "system", "content": data["system"]})
    if "prompt" in data or data.get("images"):
        found.append({"role": "user", "content": _content(data)})
    return found


def _content(data: Mapping[str, Any]) -> str | list[dict[str, Any]]:
    text = data.get("prompt", "")
    images = [{"type": "image_url", "image_url": {"url": url}} for url in data.get("images", ())]
    return [{"type": "text", "text": text}, *images] if images else text


def request(call: Call, **more: Any) -> dict[str, Any]:
    """The body of a chat request. `more` is added; a None there leaves a field out."""
    body = {name: value for name, value in call.given().items() if name not in NOT_FIELDS}
    body |= {"model": call.model, "messages": messages(call), "stream": call.stream}
    if body.get("seed") == -1:
        del body["seed"]
    if call.stream:
        body["stream_options"] = {"include_usage": True}
    return {name: value for name, value in (body | more).items() if value is not None}


def patience(call: Call) -> float:
    """Seconds one chat may take: executor config `chat_timeout`; without it only the call's deadline counts."""
    return float(call.executor.config.get("chat_timeout", math.inf))


def complete(call: Call, body: Mapping[str, Any], path: str = PATH) -> Completed:
    """Ask and read the answer, streamed when `body["stream"]`. Raises ProviderError."""
    seconds = patience(call)
    if not body.get("stream"):
        return answer(call.http.post(path, json=body, timeout=seconds).object())
    with call.http.stream("POST", path, json=body, timeout=seconds) as stream:
        if "json" in stream.headers.get("content-type", ""):  # a server that cannot stream
            return answer(stream.read().object())
        return collect(sse.events(stream.chunks()), call.emit)


def answer(data: Mapping[str, Any]) -> Completed:
    """A whole `chat.completion`. Raises ProviderError for refusals, for errors sent as success, for nothing."""
    _raise_error(data)
    choice = _first(data.get("choices"))
    if not choice:
        raise faults.bad_response(paid=False)
    whole = Piece(usage=data.get("usage"))
    whole.take(choice.get("message"), choice.get("finish_reason"))
    whole.flush()
    return whole.result()


def collect(events: Iterator[sse.Event], emit: Emit) -> Completed:
    """The chunks of a stream, told to `emit` as they come. Raises ProviderError, `upstream_cut` when it breaks off."""
    whole = Piece()
    for event in events:
        if event.data.startswith("[DONE]"):
            whole.finish_reason = whole.finish_reason or "stop"
            break
        if not event.data.strip():  # a sign of life
            continue
        chunk = sse.parsed(event.data)
        _raise_error(chunk)
        whole.usage = chunk.get("usage") or whole.usage
        choice = _first(chunk.get("choices"))
        text, reasoning, tools = whole.take(choice.get("delta"), choice.get("finish_reason"))
        if text or reasoning or tools:
            emit.delta(text, reasoning, tools or None)
    if whole.finish_reason is None:
        raise ProviderError("transient", "The provider's answer broke off.", "upstream_cut")
    rest = whole.flush()
    if any(rest):
        emit.delta(*rest)
    return whole.result()


def _first(choices: Any) -> dict[str, Any]:
    """The only choice asked for; the chunk with the usage has none."""
    found = choices[:1] if isinstance(choices, list) else []
    return found[0] if found and isinstance(found[0], dict) else {}


def _raise_error(data: Mapping[str, Any]) -> None:
    if not data.get("error") and data.get("object") != "error":
        return
    raise codes.problem_of(data, 200) or faults.standard("transient")


class Thinking:
    """Splits text that begins with <think>...</think>, as some hosts send it, into reasoning and answer."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> tuple[str, str]:
        """The next piece of content -> (answer, reasoning) that are certain by now."""
        if self._state == "gap":  # blank lines between thought and answer
            text = text.lstrip("\n")
            self._state = "answer" if text else "gap"
        if self._state in {"gap", "answer"}:
            return text, ""
        self._held += text
        if self._state == "start":
            begin = self._held.lstrip()
            if OPEN.startswith(begin[: len(OPEN)]) and len(begin) < len(OPEN):
                return "", ""
            if not begin.startswith(OPEN):
                self._state = "answer"
                return self.end()
            self._state, self._held = "thinking", begin.removeprefix(OPEN)
        return self._think()

    def _think(self) -> tuple[str, str]:
        thought, found, rest = self._held.partition(CLOSE)
        if found:
            self._state, self._held = "gap", ""
            return self.feed(rest)[0], thought
        # The end of what came may be the begin of the closing mark.
        keep = next((n for n in range(len(CLOSE) - 1, 0, -1) if thought.endswith(CLOSE[:n])), 0)
        cut = len(thought) - keep
        self._held = thought[cut:]
        return "", thought[:cut]

    def end(self) -> tuple[str, str]:
        """What was still held back."""
        held, self._held = self._held, ""
        return ("", held) if self._state == "thinking" else (held, "")


@dataclass
class Piece:
    """An answer as far as it has come."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    tools: dict[int, dict[str, Any]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)  # of the tool call an index means by now
    finish_reason: str | None = None
    usage: Any = None
    thinking: Thinking = field(default_factory=Thinking)

    def take(self, part: Any, finish_reason: Any) -> tuple[str, str, list[dict[str, Any]]]:
        """A message or a delta; what it adds: text, reasoning, deltas of tool calls."""
        if finish_reason and finish_reason != "null":  # DashScope sends the word until the end
            self.finish_reason = str(finish_reason)
        if not isinstance(part, dict):
            return "", "", []
        text, thought = self.thinking.feed(_text(part.get("content")))
        thought = _text(part.get("reasoning_content") or part.get("reasoning")) + thought
        self.refusal.append(_text(part.get("refusal")))
        self._add(text, thought)
        tools = part.get("tool_calls") or ()
        return text, thought, [self._tool(delta) for delta in tools if isinstance(delta, dict)]

    def flush(self) -> tuple[str, str]:
        """What was held back as possible begin or end of thinking: text, reasoning."""
        text, thought = self.thinking.end()
        self._add(text, thought)
        return text, thought

    def _add(self, text: str, reasoning: str) -> None:
        self.text.append(text)
        self.reasoning.append(reasoning)

    def _tool(self, delta: dict[str, Any]) -> dict[str, Any]:
        """Names and ids come once, arguments in pieces; as objects they come whole."""
        function = _function(delta)
        place = self._place(delta)
        new = place not in self.tools
        call = self.tools.setdefault(
            place, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        # Without an id nobody could answer the call.
        call["id"] = delta.get("id") or call["id"] or f"call_{place}"
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function["arguments"]
        told = delta | {"index": place, "function": function}
        return told | {"id": call["id"], "type": "function"} if new else told

    def _place(self, delta: Mapping[str, Any]) -> int:
        """Where a delta belongs. Some servers number nothing, or give every call the number 0."""
        index, last = delta.get("index"), len(self.tools) - 1
        if not isinstance(index, int):
            index = last + 1 if delta.get("id") or last < 0 else last
        place = self.places.setdefault(index, index)
        known = self.tools.get(place, {}).get("id")
        if known and delta.get("id") not in {None, "", known}:
            place = self.places[index] = last + 1
        return place

    def result(self) -> Completed:
        """The finished answer. Raises ProviderError when it is a refusal or none at all."""
        text = "".join(self.text)
        words = refusals.refusal_in(text, self.finish_reason, "".join(self.refusal))
        if words:
            raise refusals.refused(words)
        if self.finish_reason == "insufficient_system_resource":
            raise faults.standard("overloaded")
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self.tools:
            message["tool_calls"] = [self.tools[index] for index in sorted(self.tools)]
        if any(self.reasoning):
            message["reasoning_content"] = "".join(self.reasoning)
        message["finish_reason"] = self.finish_reason or "stop"
        return Completed(text=text, message=message, usage=usage(self.usage))


def _text(value: Any) -> str:
    """Content is a text, or a list of parts, or nothing."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _function(delta: Mapping[str, Any]) -> dict[str, Any]:
    """What a tool call is about, its arguments as the text they are at OpenAI."""
    found = delta.get("function")
    function: dict[str, Any] = found if isinstance(found, dict) else {}
    arguments = function.get("arguments")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return function | {"arguments": _text(arguments)}


def usage(data: Any) -> dict[str, float]:
    """`prompt_tokens`, `completion_tokens`, `total_tokens` as far as the server counted them."""
    if not isinstance(data, dict):
        return {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: data[name] for name in names if isinstance(data.get(name), int)}
