"""An Ollama on loopback: the native API in lines of JSON, and the OpenAI-compatible door beside it."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.emulators.base import Answer, Emulator, Request, Response, route, sse
from tests.emulators.openai import Script, chunks, completion, pieces

OPTIONS = {
    *("num_ctx", "num_predict", "temperature", "top_k", "top_p", "min_p", "seed", "stop"),
    *("repeat_penalty", "presence_penalty", "frequency_penalty"),
}
FIELDS = {"model", "messages", "stream", "think", "format", "keep_alive", "tools", "options"}


@dataclass
class Says:
    """What the model says natively. `lines` replaces the whole answer."""

    text: str = "Hello, Alice."
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    done_reason: str = "stop"
    lines: list[dict[str, Any]] | None = None


def error(status: int, words: str) -> Response:
    return Response(status, {"error": words})


def lines(*items: Any) -> Response:
    """Lines of JSON in pieces of seven bytes, which end in the middle of words and characters."""
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items).encode()
    bits = tuple(text[start : start + 7] for start in range(0, len(text), 7))
    return Response(body=bits, headers={"Content-Type": "application/x-ndjson"})


class Ollama(Emulator):
    """`models`: what is pulled; `thinkers`: those of them that can think."""

    def __init__(self) -> None:
        super().__init__()
        self.says = Says()
        self.says_openai = Script()
        self.models = ["qwen3:8b", "llama3:latest"]
        self.thinkers = {"qwen3:8b"}

    @route("GET", "/api/version")
    def version(self, request: Request) -> Answer:
        return {"version": "0.40.12"}

    @route("GET", "/api/tags")
    def tags(self, request: Request) -> Answer:
        return {"models": [{"name": name, "model": name, "size": 1} for name in self.models]}

    @route("GET", "/api/ps")
    def loaded(self, request: Request) -> Answer:
        return {"models": [{"name": name, "model": name} for name in self.models[:1]]}

    @route("POST", "/api/chat")
    def chat(self, request: Request) -> Answer:
        body = request.json
        if fault := self._fault(body):
            return fault
        if self.says.lines is not None:
            return lines(*self.says.lines)
        if body.get("stream", True):
            return lines(*self._lines(body["model"], self.says))
        return Response(200, self._whole(body["model"], self.says))

    def _fault(self, body: dict[str, Any]) -> Response | None:
        if not {body["model"], f"{body['model']}:latest"} & set(self.models):
            return error(404, f"model '{body['model']}' not found, try pulling it first")
        if body.get("think") and body["model"] not in self.thinkers:
            return error(400, f'"{body["model"]}" does not support thinking')
        # Ollama ignores what it does not know; here that would hide a mistake of ours.
        unknown = (body.keys() - FIELDS) | (body.get("options", {}).keys() - OPTIONS)
        if unknown:
            return error(400, f"invalid options: {sorted(unknown)}")
        for message in body["messages"]:
            for picture in message.get("images", ()):
                base64.b64decode(picture, validate=True)
            for call in message.get("tool_calls", ()):
                if not isinstance(call["function"]["arguments"], dict):
                    return error(400, "json: cannot unmarshal string into arguments")
        return None

    def _whole(self, model: str, says: Says) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": says.text}
        if says.thinking:
            message["thinking"] = says.thinking
        if says.tool_calls:
            message["tool_calls"] = says.tool_calls
        return {"model": model, "message": message, **self._end(says)}

    def _end(self, says: Says) -> dict[str, Any]:
        counts = {"prompt_eval_count": 26, "eval_count": 282, "total_duration": 4883583458}
        return {"done": True, "done_reason": says.done_reason, **counts}

    def _lines(self, model: str, says: Says) -> Iterator[dict[str, Any]]:
        for piece in pieces(says.thinking, 4):
            yield self._line(model, content="", thinking=piece)
        for piece in pieces(says.text, 3):
            yield self._line(model, content=piece)
        for call in says.tool_calls:
            yield self._line(model, content="", tool_calls=[call])
        yield {**self._line(model, content=""), **self._end(says)}

    def _line(self, model: str, **message: Any) -> dict[str, Any]:
        return {"model": model, "message": {"role": "assistant", **message}, "done": False}

    @route("GET", "/v1/models")
    def list_models(self, request: Request) -> Answer:
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}

    @route("POST", "/v1/chat/completions")
    def compatible(self, request: Request) -> Answer:
        body = request.json
        if body["model"] not in self.models:
            words = {"message": f"model '{body['model']}' not found", "type": "not_found_error"}
            return Response(404, {"error": {**words, "param": None, "code": None}})
        says = replace(self.says_openai, reasoning_field="reasoning")
        if not body.get("stream"):
            return completion(body["model"], says)
        return sse(*chunks(body["model"], says, usage="stream_options" in body))
