"""api.deepseek.com on loopback: thinks by default, knows no `developer`, and says with words what its codes do not."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from providers.testing import CREDENTIAL
from tests.emulators.base import Answer, Emulator, Request, Response, route
from tests.emulators.openai import Script, chunks, completion

ROLES = {"system", "user", "assistant", "tool"}
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 60,
    "total_tokens": 160,
    "prompt_cache_hit_tokens": 64,
    "prompt_cache_miss_tokens": 36,
}


def error(status: int, message: str) -> Response:
    words = {"message": message, "type": "unknown_error", "param": None}
    return Response(status, {"error": {**words, "code": "invalid_request_error"}})


class DeepSeek(Emulator):
    """`says`: its next answers; `queue`: keep-alives before an answer; `balance`: what /user/balance tells."""

    def __init__(self) -> None:
        super().__init__()
        self.says = Script(text="Answer", reasoning="Let me see.", usage=USAGE)
        self.queue = 3
        self.available = True
        self.models = ["deepseek-v4-flash", "deepseek-v4-pro"]

    def _locked(self, request: Request) -> Response | None:
        if request.headers.get("authorization") == f"Bearer {CREDENTIAL}":
            return None
        return error(401, "Authentication Fails, Your api key is invalid")

    def _bad(self, body: dict[str, Any]) -> str:
        for message in body["messages"]:
            if message["role"] not in ROLES:
                return f"unknown variant `{message['role']}`"
            if isinstance(message.get("content"), list):
                return "unknown variant `image_url`, expected `text`"
            if (
                body["thinking"]
                and message.get("tool_calls")
                and not message.get("reasoning_content")
            ):
                return (
                    "The `reasoning_content` in the thinking mode must be passed back to the API."
                )
        wants_json = body.get("response_format", {}).get("type") == "json_object"
        if wants_json and "json" not in json.dumps(body["messages"]).lower():
            return "Prompt must contain the word 'json'"
        return ""

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Answer:
        body = request.json
        wish = body.get("thinking", {"type": "enabled"})
        if locked := self._locked(request):
            return locked
        if body["model"] not in self.models:
            return error(400, "Model Not Exist")
        if not isinstance(wish, dict) or wish.get("type") not in {"enabled", "disabled"}:
            return error(422, "Failed to deserialize the JSON body")
        body["thinking"] = wish["type"] == "enabled"
        if fault := self._bad(body):
            return error(400, fault)
        says = self.says if body["thinking"] else replace(self.says, reasoning="")
        if not body.get("stream"):
            text = "\n" * self.queue + json.dumps(completion(body["model"], says))
            return Response(200, text.encode(), {"Content-Type": "application/json"})
        return Response(body=self._stream(chunks(body["model"], says, usage=True)))

    def _stream(self, events: list[dict[str, Any]]) -> Iterator[bytes]:
        for _ in range(self.queue):
            yield b": keep-alive\n\n"
        for event in events:
            yield f"data: {json.dumps(event)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    @route("GET", "/user/balance")
    def balance(self, request: Request) -> Answer:
        amount = "110.00" if self.available else "0.00"
        infos = [{"currency": "CNY", "total_balance": amount, "granted_balance": "0.00"}]
        return self._locked(request) or {"is_available": self.available, "balance_infos": infos}

    @route("GET", "/v1/models")
    def list_models(self, request: Request) -> Answer:
        items = [{"id": name, "object": "model", "owned_by": "deepseek"} for name in self.models]
        return self._locked(request) or {"object": "list", "data": items}
