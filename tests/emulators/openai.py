"""api.openai.com on loopback: strict about key, fields and models; and the pieces of its chat that others share."""

import base64
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from providers.testing import CREDENTIAL
from tests.emulators.base import Answer, Emulator, Request, Response, route, sse
from tests.emulators.forms import inputs_of

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
MP3 = b"\xff\xfb\x90\x00" + bytes(96)
MP4 = b"\x00\x00\x00\x18ftypmp42" + bytes(64)


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CHAT = words(
    """model messages stream stream_options max_completion_tokens max_tokens temperature top_p n stop seed tools
    tool_choice response_format reasoning_effort user safety_identifier presence_penalty frequency_penalty"""
)
IMAGE = words(
    """model prompt n size quality background output_format output_compression moderation stream partial_images
    user"""
)
SPEECH = words("model input voice response_format speed instructions stream_format")
VIDEO = words("model prompt seconds size input_reference")


def error(
    status: int, message: str, kind: str = "invalid_request_error", code: str | None = None
) -> Response:
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Response(status, body, {"x-request-id": "req_1"})


@dataclass
class Script:
    """What the model says next."""

    text: str | None = "Hello, Alice."
    reasoning: str = ""
    reasoning_field: str = "reasoning_content"
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish: str = "stop"
    usage: dict[str, int] = field(
        default_factory=lambda: {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    )


def completion(model: str, says: Script) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": says.text,
        "refusal": says.refusal,
    }
    if says.reasoning:
        message[says.reasoning_field] = says.reasoning
    if says.tool_calls:
        message["tool_calls"] = says.tool_calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": says.finish}
    return {**_frame("chat.completion", model), "choices": [choice], "usage": says.usage}


def _frame(kind: str, model: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1764000000, "model": model}


def chunks(model: str, says: Script, *, usage: bool) -> list[dict[str, Any]]:
    """As OpenAI streams: role first, then pieces, then the reason to stop, then the bill."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        frame = _frame("chat.completion.chunk", model)
        return {**frame, "choices": [choice], **({"usage": None} if usage else {})}

    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{says.reasoning_field: piece, "content": None} for piece in pieces(says.reasoning)]
    deltas += [{"content": piece} for piece in pieces(says.text or "")]
    deltas += [{"refusal": piece} for piece in pieces(says.refusal or "")]
    deltas += [{"tool_calls": [delta]} for delta in tool_deltas(says.tool_calls)]
    bill = {**_frame("chat.completion.chunk", model), "choices": [], "usage": says.usage}
    return [*map(chunk, deltas), chunk({}, says.finish), *([bill] if usage else [])]


def pieces(text: str, size: int = 5) -> Iterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def tool_deltas(calls: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, call in enumerate(calls):
        function = call["function"]
        start = {"name": function["name"], "arguments": ""}
        yield {"index": index, "id": call["id"], "type": "function", "function": start}
        for piece in pieces(function["arguments"]):
            yield {"index": index, "function": {"arguments": piece}}


class OpenAI(Emulator):
    """`says`: the next chat answers; `pictures`: what an image create gives; `videos`: rows by id, oldest first."""

    polls_until_done = 2

    def __init__(self) -> None:
        super().__init__()
        self.says = Script()
        self.pictures: list[dict[str, Any]] = [{"b64_json": base64.b64encode(PNG).decode()}]
        self.models = ["gpt-image-2", "gpt-5", "o3", "whisper-1", "sora-2"]
        self.videos: dict[str, dict[str, Any]] = {}
        self.video_error: dict[str, str] | None = None
        self._numbers = itertools.count(1)

    @property
    def base(self) -> str:
        return f"{self.url}/v1"

    def _refusal(self, request: Request, allowed: frozenset[str] | None = None) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {CREDENTIAL}":
            return error(401, "Incorrect API key provided.", code="invalid_api_key")
        if allowed is None:
            return None
        given = inputs_of(request)
        unknown = sorted(given.keys() - allowed)
        if unknown:
            return error(400, f"Unknown parameter: '{unknown[0]}'.", code="unknown_parameter")
        if not given.get("model"):
            return error(400, "you must provide a model parameter")
        if given["model"] == "gpt-retired":
            words = "The model `gpt-retired` does not exist or you do not have access to it."
            return error(404, words, code="model_not_found")
        return None

    @route("GET", "/v1/models")
    def list_models(self, request: Request) -> Answer:
        items = [
            {"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in self.models
        ]
        return self._refusal(request) or {"object": "list", "data": items}

    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Answer:
        refusal = self._refusal(request, CHAT)
        if refusal:
            return refusal
        body = request.json
        if body["model"].startswith(("o1", "o3", "gpt-5")) and "max_tokens" in body:
            return error(400, "Unsupported parameter: 'max_tokens'.", code="unsupported_parameter")
        extra = [
            name
            for m in body["messages"]
            for name in m
            if name in {"finish_reason", "reasoning_content"}
        ]
        if not body["messages"] or extra:
            return error(400, "Invalid 'messages'.", code="invalid_value")
        if not body.get("stream"):
            if "stream_options" in body:
                return error(400, "stream_options needs stream.", code="invalid_value")
            return completion(body["model"], self.says)
        usage = body.get("stream_options", {}).get("include_usage", False)
        return sse(*chunks(body["model"], self.says, usage=usage))

    @route("POST", "/v1/images/generations")
    def generate(self, request: Request) -> Answer:
        return self._refusal(request, IMAGE) or self._image(request.json)

    @route("POST", "/v1/images/edits")
    def edit(self, request: Request) -> Answer:
        refusal = self._refusal(request, IMAGE | {"image", "image[]", "mask"})
        given = inputs_of(request)
        if not refusal and not (given.get("image") or given.get("image[]")):
            return error(
                400, "Missing required parameter: 'image'.", code="missing_required_parameter"
            )
        return refusal or self._image(given)

    def _image(self, given: dict[str, Any]) -> Answer:
        if not given.get("prompt"):
            return error(
                400, "Missing required parameter: 'prompt'.", code="missing_required_parameter"
            )
        usage = {"input_tokens": 10, "output_tokens": 1056, "total_tokens": 1066}
        form = given.get("output_format", "png")
        if str(given.get("stream", "")).lower() == "true":
            return self._image_stream(usage)
        items = self.pictures * int(given.get("n", 1))
        return {"created": 1, "data": items, "output_format": form, "usage": usage}

    def _image_stream(self, usage: dict[str, int]) -> Response:
        picture = base64.b64encode(PNG).decode()
        kind = "image_generation"
        partial = {"type": f"{kind}.partial_image", "partial_image_index": 0, "b64_json": picture}
        return sse(
            partial, {"type": f"{kind}.completed", "b64_json": picture, "usage": usage}, done=False
        )

    @route("POST", "/v1/audio/speech")
    def speech(self, request: Request) -> Answer:
        refusal = self._refusal(request, SPEECH)
        if not refusal and not request.json.get("voice"):
            return error(
                400, "Missing required parameter: 'voice'.", code="missing_required_parameter"
            )
        kind = {"mp3": "audio/mpeg"}.get(request.json.get("response_format", "mp3"), "audio/wav")
        return refusal or Response(200, MP3, {"Content-Type": kind})

    @route("POST", "/v1/audio/transcriptions")
    def transcribe(self, request: Request) -> Answer:
        allowed = frozenset(
            {"model", "file", "response_format", "language", "prompt", "temperature"}
        )
        refusal = self._refusal(request, allowed)
        if refusal:
            return refusal
        given = inputs_of(request)
        if not isinstance(given.get("file"), list):
            return error(
                400, "Missing required parameter: 'file'.", code="missing_required_parameter"
            )
        if given.get("response_format") != "verbose_json":
            return {
                "text": "hello",
                "usage": {
                    "type": "tokens",
                    "input_tokens": 5,
                    "output_tokens": 2,
                    "total_tokens": 7,
                },
            }
        if "transcribe" in given["model"]:
            return error(
                400, "response_format 'verbose_json' is not compatible.", code="unsupported_value"
            )
        segment = {"id": 0, "start": 0.0, "end": 1.5, "text": "hello", "tokens": [1]}
        return {"text": "hello", "language": "english", "duration": 1.5, "segments": [segment]}

    @route("POST", "/v1/embeddings")
    def embed(self, request: Request) -> Answer:
        refusal = self._refusal(
            request, frozenset({"model", "input", "encoding_format", "dimensions", "user"})
        )
        if refusal:
            return refusal
        texts = request.json["input"]
        data = [
            {"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0]}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return {
            "object": "list",
            "data": data[::-1],
            "model": request.json["model"],
            "usage": usage,
        }

    @route("POST", "/v1/videos")
    def create_video(self, request: Request) -> Answer:
        refusal = self._refusal(request, VIDEO)
        if refusal:
            return refusal
        given = inputs_of(request)
        video = self.add_video(
            given["prompt"], given.get("seconds", "4"), given.get("size", "720x1280")
        )
        return Response(200, video, {"openai-poll-after-ms": "50"})

    def add_video(self, prompt: str, seconds: str = "4", size: str = "720x1280") -> dict[str, Any]:
        video = {
            "id": f"video_{next(self._numbers)}",
            "object": "video",
            "model": "sora-2",
            "status": "queued",
            "progress": 0,
            "created_at": int(time.time()),
            "seconds": seconds,
            "size": size,
            "prompt": prompt,
            "error": None,
        }
        self.videos[str(video["id"])] = video
        return dict(video)

    @route("GET", "/v1/videos")
    def list_videos(self, request: Request) -> Answer:
        items = sorted(self.videos.values(), key=lambda video: -video["created_at"])
        return self._refusal(request) or {"object": "list", "data": items, "has_more": False}

    @route("GET", "/v1/videos/{video}")
    def look(self, request: Request, video: str) -> Answer:
        refusal = self._refusal(request)
        if refusal or video not in self.videos:
            return refusal or error(404, "Video with that id was not found.")
        row = self.videos[video]
        row["progress"] = min(row["progress"] + 100 // self.polls_until_done, 100)
        done = "failed" if self.video_error else "completed"
        row["status"] = done if row["progress"] == 100 else "in_progress"
        row["error"] = self.video_error if row["status"] == "failed" else None
        return Response(200, dict(row), {"openai-poll-after-ms": "50"})

    @route("GET", "/v1/videos/{video}/content")
    def content(self, request: Request, video: str) -> Answer:
        return self._refusal(request) or Response(200, MP4, {"Content-Type": "video/mp4"})

    @route("DELETE", "/v1/videos/{video}")
    def delete_video(self, request: Request, video: str) -> Answer:
        refusal = self._refusal(request)
        if refusal or self.videos.pop(video, None) is None:
            return refusal or error(404, "Video with that id was not found.")
        return {"id": video, "object": "video.deleted", "deleted": True}
