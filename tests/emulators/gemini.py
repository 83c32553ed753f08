"""generativelanguage.googleapis.com on loopback: contents, pictures, Imagen, Veo and interactions."""

import base64
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from providers.testing import CREDENTIAL
from tests.emulators.base import Answer, Emulator, Request, Response, route
from tests.emulators.openai import PNG, pieces, words

BODY = words(
    "contents systemInstruction generationConfig safetySettings tools toolConfig cachedContent"
)
CONFIG = words(
    """temperature topP topK maxOutputTokens candidateCount stopSequences responseMimeType responseJsonSchema
    responseModalities imageConfig thinkingConfig seed presencePenalty frequencyPenalty"""
)
PARTS = words("text inlineData fileData functionCall functionResponse thoughtSignature")
VEO = words("aspectRatio durationSeconds sampleCount negativePrompt seed resolution")
IMAGEN = words("sampleCount aspectRatio includeRaiReason")
USAGE = {
    "promptTokenCount": 12,
    "candidatesTokenCount": 3,
    "thoughtsTokenCount": 40,
    "totalTokenCount": 55,
}


def error(status: int, word: str, message: str = "No.", *details: dict[str, Any]) -> Response:
    fault = {"code": status, "message": message, "status": word, "details": list(details)}
    return Response(status, {"error": fault})


BAD_KEY = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


def quota(identity: str, value: str = "10") -> dict[str, Any]:
    kind = "type.googleapis.com/google.rpc.QuotaFailure"
    return {"@type": kind, "violations": [{"quotaId": identity, "quotaValue": value}]}


def wait(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def picture(content: bytes = PNG) -> dict[str, Any]:
    return {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(content).decode()}}


@dataclass
class Says:
    """The next answer. No `finish`: no candidate at all."""

    parts: list[dict[str, Any]] | None = field(default_factory=lambda: [{"text": "Hello, Alice."}])
    finish: str | None = "STOP"
    message: str = ""
    blocked: str = ""
    block_message: str = ""

    def whole(self) -> dict[str, Any]:
        found: dict[str, Any] = {"usageMetadata": USAGE, "modelVersion": "m", "responseId": "r-1"}
        if self.blocked:
            told = {"blockReasonMessage": self.block_message} if self.block_message else {}
            return {**found, "promptFeedback": {"blockReason": self.blocked, **told}}
        if self.finish is None:
            return found
        candidate: dict[str, Any] = {"index": 0, "finishReason": self.finish}
        if self.parts is not None:
            candidate["content"] = {"role": "model", "parts": self.parts}
        if self.message:
            candidate["finishMessage"] = self.message
        return {**found, "candidates": [candidate]}

    def chunks(self) -> Iterator[dict[str, Any]]:
        """Texts in pieces, the reason to finish with the last chunk only."""
        for part in self.parts or ():
            for piece in pieces(part["text"], 4) if "text" in part else ():
                content = {"role": "model", "parts": [{**part, "text": piece}]}
                yield {"candidates": [{"index": 0, "content": content}]}
        rest = [part for part in self.parts or () if "text" not in part]
        yield Says(rest, self.finish, self.message, self.blocked, self.block_message).whole()


def stream(*events: dict[str, Any], head: str = "") -> Response:
    """CRLF, no [DONE], packets of five bytes."""
    text = head + "".join(f"data: {json.dumps(e, ensure_ascii=False)}\r\n\r\n" for e in events)
    raw = text.encode()
    return Response(body=tuple(raw[start : start + 5] for start in range(0, len(raw), 5)))


class Gemini(Emulator):
    """`says`: the next contents; `predictions`: of Imagen; `operation`, `interaction`: how the next jobs end."""

    polls_until_done = 2

    def __init__(self) -> None:
        super().__init__()
        self.says = Says()
        self.predictions: list[dict[str, Any]] = [
            {"bytesBase64Encoded": base64.b64encode(PNG).decode(), "mimeType": "image/png"}
        ]
        samples = [{"video": {"uri": f"{self.url}/v1beta/files/x:download?alt=media"}}]
        self.operation: dict[str, Any] = {
            "response": {"generateVideoResponse": {"generatedSamples": samples}}
        }
        self.interaction: dict[str, Any] = {
            "status": "completed",
            "output_video": {"uri": f"{self.url}/v1beta/files/y", "mime_type": "video/mp4"},
        }
        self.looks: dict[str, int] = {}
        self.models = ["gemini-2.5-flash", "gemini-3.1-flash-image-preview", "veo-3.1-generate-001"]
        self._numbers = itertools.count(1)

    @property
    def base(self) -> str:
        return f"{self.url}/v1beta"

    def _locked(self, request: Request) -> Response | None:
        if request.headers.get("x-goog-api-key") != CREDENTIAL:
            return error(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY)
        return None

    def _refusal(self, request: Request, model: str) -> Response | None:
        if locked := self._locked(request):
            return locked
        if model.startswith("gemini-omni"):
            return error(404, "NOT_FOUND", f"models/{model} is not supported for generateContent.")
        unknown = request.json.keys() - BODY
        unknown |= request.json.get("generationConfig", {}).keys() - CONFIG
        for content in request.json["contents"]:
            if content["role"] not in {"user", "model"} or not content["parts"]:
                return error(400, "INVALID_ARGUMENT", "Please use a valid role: user, model.")
            unknown |= {name for part in content["parts"] for name in part} - PARTS
        if unknown:
            return error(400, "INVALID_ARGUMENT", f"Unknown name {sorted(unknown)}")
        return None

    @route("GET", "/v1beta/models")
    def list_models(self, request: Request) -> Answer:
        size = int(request.query["pageSize"][0])
        start = int(request.query.get("pageToken", ["0"])[0])
        found = [{"name": f"models/{name}"} for name in self.models[start : start + min(size, 2)]]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(self.models) else {}
        return self._locked(request) or {"models": found, **more}

    @route("POST", "/v1beta/models/{model}:generateContent")
    def generate(self, request: Request, model: str) -> Answer:
        return self._refusal(request, model) or self.says.whole()

    @route("POST", "/v1beta/models/{model}:streamGenerateContent")
    def generate_stream(self, request: Request, model: str) -> Answer:
        if refusal := self._refusal(request, model):
            return Response(refusal.status, [refusal.body])
        assert request.query == {"alt": ["sse"]}
        return stream(*self.says.chunks())

    @route("POST", "/v1beta/models/{model}:predict")
    def predict(self, request: Request, model: str) -> Answer:
        wishes = request.json["parameters"]
        if unknown := wishes.keys() - IMAGEN:
            return error(400, "INVALID_ARGUMENT", f"Unknown name {sorted(unknown)}")
        return self._locked(request) or {"predictions": self.predictions * wishes["sampleCount"]}

    @route("POST", "/v1beta/models/{model}:predictLongRunning")
    def start(self, request: Request, model: str) -> Answer:
        if unknown := request.json["parameters"].keys() - VEO:
            return error(400, "INVALID_ARGUMENT", f"Unknown name {sorted(unknown)}")
        return self._locked(request) or {"name": f"models/{model}/operations/{next(self._numbers)}"}

    def _done(self, job: str) -> bool:
        self.looks[job] = self.looks.get(job, 0) + 1
        return self.looks[job] >= self.polls_until_done

    @route("GET", "/v1beta/models/{model}/operations/{job}")
    def operation_of(self, request: Request, model: str, job: str) -> Answer:
        name = f"models/{model}/operations/{job}"
        end = {"done": True, **self.operation} if self._done(job) else {}
        return self._locked(request) or {"name": name, **end}

    @route("POST", "/v1beta/interactions")
    def interact(self, request: Request) -> Answer:
        body = request.json
        if not body.get("background") or body["response_format"]["type"] != "video":
            return Response(400, {"error": {"code": "invalid_request", "message": "No."}})
        return self._locked(request) or {"id": f"i{next(self._numbers)}", "status": "queued"}

    @route("GET", "/v1beta/interactions/{job}")
    def interaction_of(self, request: Request, job: str) -> Answer:
        end = self.interaction if self._done(job) else {"status": "in_progress"}
        return self._locked(request) or {"id": job, **end}

    @route("POST", "/v1beta/interactions/{job}/cancel")
    def cancel_interaction(self, request: Request, job: str) -> Answer:
        if self.looks.get(job, 0) >= self.polls_until_done:
            return Response(400, {"error": {"code": "invalid_request", "message": "It is done."}})
        return self._locked(request) or {"id": job, "status": "cancelled"}
