"""DashScope as it behaves on the wire: jobs, dialogues that draw, speech, chat. Refuses what DashScope refuses."""

import itertools
import re
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from tests.emulators.base import Answer, Emulator, Request, Response, as_fixture, route, sse

KEY = "sk-test-0123456789abcdef"
BEIJING = timezone(timedelta(hours=8))
DRAW, EDIT = "text2image/image-synthesis", "image2image/image-synthesis"
ASYNC_DIALOGUE, DIALOGUE = "image-generation/generation", "multimodal-generation/generation"
FILM, FRAMES = "video-generation/video-synthesis", "image2video/video-synthesis"
MODELS: dict[str, set[str]] = {
    "wan2.6-t2i": {ASYNC_DIALOGUE, DIALOGUE},
    "wan2.6-image": {ASYNC_DIALOGUE, DIALOGUE},
    "wan2.5-t2i-preview": {DRAW},
    "qwen-image": {DRAW, DIALOGUE},
    "qwen-image-plus": {DRAW, DIALOGUE},
    "qwen-image-max": {DIALOGUE},
    "qwen-image-edit-plus": {DIALOGUE},
    "z-image-turbo": {DIALOGUE},
    "wan2.5-i2i-preview": {EDIT},
    "wanx2.1-imageedit": {EDIT},
    "wan2.6-t2v": {FILM},
    "wan2.6-i2v": {FILM},
    "wan2.7-i2v": {FILM},
    "wan2.2-kf2v-flash": {FRAMES},
    "qwen-tts": {DIALOGUE},
}
CHAT = {"qwen-plus"}
SPEECH = {"cosyvoice-v3-flash"}
OPTIONS = set(
    """size n seed negative_prompt prompt_extend watermark duration resolution
    shot_type""".split()  # noqa: SIM905
)
USUAL = ("PENDING", "RUNNING", "SUCCEEDED")


def refused(status: int, code: str, message: str = "") -> Response:
    return Response(status, {"request_id": "r-1", "code": code, "message": message or code})


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        self.response = refused(status, code, message)


@dataclass
class Job:
    """It moves to the next of its states each time somebody reads it. A dict is the error of a failed one."""

    id: str
    path: str
    body: dict[str, Any]
    states: deque[Any]
    submitted: datetime
    read: int = 0

    @property
    def status(self) -> str:
        state = self.states[0]
        return state if isinstance(state, str) else "FAILED"

    def look(self) -> None:
        if self.read and len(self.states) > 1:
            self.states.popleft()
        self.read += 1


class Bailian(Emulator):
    """`states`: what the jobs to come will say. `failed_items`: errors among the results of each job."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}
        self.states: deque[tuple[Any, ...]] = deque()
        self.failed_items: list[dict[str, Any]] = []
        self.usage: dict[str, Any] = {}
        self.links_expired = False
        self.content = "a red kite"
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/v1"

    @route("POST", "/compatible-mode/v1/chat/completions")
    def chat(self, request: Request) -> Answer:
        if request.headers["authorization"] != f"Bearer {KEY}":
            error = {"message": "Incorrect API key", "code": "invalid_api_key", "param": None}
            return Response(401, {"error": error, "request_id": "r-1"})
        body = request.json
        if body["model"] not in CHAT:
            return Response(404, {"error": {"code": "model_not_found", "message": "not found"}})
        if body.get("enable_thinking") and not body.get("stream"):
            message = "parameter.enable_thinking must be set to false for non-streaming calls"
            return Response(400, {"error": {"code": "invalid_parameter_error", "message": message}})
        return self._said(body)

    @route("POST", "/api/v1/services/aigc/{path*}")
    def work(self, request: Request, path: str) -> Answer:
        return self._guarded(request, lambda: self._work(request, path))

    @route("POST", "/api/v1/services/audio/tts/SpeechSynthesizer")
    def speak(self, request: Request) -> Answer:
        return self._guarded(request, lambda: self._spoken(request.json, SPEECH))

    @route("GET", "/api/v1/tasks/")
    def listing(self, request: Request) -> Answer:
        return self._guarded(request, lambda: self._list(request.query))

    @route("GET", "/api/v1/tasks/{job}")
    def one(self, request: Request, job: str) -> Answer:
        return self._guarded(request, lambda: self._shown(job))

    @route("POST", "/api/v1/tasks/{job}/cancel")
    def cancel(self, request: Request, job: str) -> Answer:
        return self._guarded(request, lambda: self._cancel(job))

    @route("GET", "/files/{name}")
    def file(self, request: Request, name: str) -> Answer:
        if self.links_expired or "Expires" not in request.query:
            return Response(403, "<Error><Code>AccessDenied</Code></Error>")
        return Response(body=b"the file " + name.encode())

    def _guarded(self, request: Request, serve: Any) -> Answer:
        if request.headers["authorization"] != f"Bearer {KEY}":
            return refused(401, "InvalidApiKey", "Invalid API-key provided.")
        try:
            with self._guard:
                return serve()  # type: ignore[no-any-return]
        except Refused as refusal:
            return refusal.response

    def link(self, ending: str) -> str:
        return f"{self.url}/files/{next(self._numbers)}.{ending}?Expires=1&Signature=ab%2Bc"

    def _said(self, body: dict[str, Any]) -> Answer:
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        if not body.get("stream"):
            message = {"role": "assistant", "content": self.content}
            return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        words = [
            {"choices": [{"delta": {"content": word}, "finish_reason": None}]}
            for word in self.content.split(" ")
        ]
        end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
        return sse(*words, end, {"choices": [], "usage": usage})

    def _work(self, request: Request, path: str) -> Answer:
        body = request.json
        asynchronous = request.headers["x-dashscope-async"] == "enable"
        if body.get("model") not in MODELS:
            raise Refused(404, "ModelNotFound", "Model not exist.")
        _need(path in MODELS[body["model"]], "InvalidParameter", "url error, please check url")
        if asynchronous == (path == DIALOGUE):
            word = "asynchronous" if asynchronous else "synchronous"
            message = f"current user api does not support {word} calls."
            raise Refused(403, "AccessDenied", message)
        if body["model"] == "qwen-tts":
            return self._spoken(body, {"qwen-tts"})
        _check_options(body.get("parameters", {}))
        _check_inputs(path, body)
        return self._create(path, body) if asynchronous else self._drawn(body)

    def _spoken(self, body: dict[str, Any], known: set[str]) -> Answer:
        if body.get("model") not in known:
            raise Refused(404, "ModelNotFound", "Model not exist.")
        given = body["input"]
        _need(bool(given.get("text")) and bool(given.get("voice")), "InvalidParameter")
        audio = {"id": "audio_1", "data": "", "url": self.link("wav"), "expires_at": 1}
        usage = {"characters": len(given["text"])} | self.usage
        return {"output": {"finish_reason": "stop", "audio": audio}, "usage": usage}

    def _drawn(self, body: dict[str, Any]) -> Answer:
        return {"output": self._choices(body), "usage": {"image_count": 1, "width": 1328}}

    def _choices(self, body: dict[str, Any]) -> dict[str, Any]:
        count = body.get("parameters", {}).get("n", 1)
        messages = [
            {"role": "assistant", "content": [{"image": self.link("png")}]} for _ in range(count)
        ]
        return {"choices": [{"finish_reason": "stop", "message": m} for m in messages]}

    def _create(self, path: str, body: dict[str, Any]) -> Answer:
        number = next(self._numbers)
        states = self.states.popleft() if self.states else USUAL
        if path == FILM and _has_wrong_field(body):
            states = ({"code": "InvalidParameter", "message": "Field required: input"},)
        job = Job(f"966cebcd-{number:04}", path, body, deque(states), datetime.now(UTC))
        self.jobs[job.id] = job
        return {"output": {"task_id": job.id, "task_status": "PENDING"}, "request_id": "r-1"}

    def _shown(self, identity: str) -> Answer:
        job = self.jobs.get(identity)
        if job is None:
            output: dict[str, Any] = {"task_id": identity, "task_status": "UNKNOWN"}
            return {"request_id": "r-1", "output": output}
        job.look()
        output = {
            "task_id": job.id,
            "task_status": job.status,
            "submit_time": job.submitted.astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S.%f")[:23],
        }
        state = job.states[0]
        answer: dict[str, Any] = {"request_id": "r-1", "output": output}
        if isinstance(state, dict):
            output |= state
        elif state == "SUCCEEDED":
            output |= self._made(job)
            answer["usage"] = self._usage(job)
        return answer

    def _made(self, job: Job) -> dict[str, Any]:
        prompt = job.body["input"].get("prompt")
        if job.path in {FILM, FRAMES}:
            return {"video_url": self.link("mp4"), "orig_prompt": prompt}
        if job.path == ASYNC_DIALOGUE:
            return self._choices(job.body)
        count = job.body["parameters"].get("n", 1) - len(self.failed_items)
        good = [{"url": self.link("png"), "orig_prompt": prompt} for _ in range(count)]
        return {"results": [*good, *self.failed_items]}

    def _usage(self, job: Job) -> dict[str, Any]:
        if job.path in {FILM, FRAMES}:
            return {"duration": job.body["parameters"].get("duration", 5)} | self.usage
        return {
            "image_count": job.body["parameters"].get("n", 1) - len(self.failed_items)
        } | self.usage

    def _list(self, query: dict[str, list[str]]) -> Answer:
        one = {name: values[0] for name, values in query.items()}
        for name in ("start_time", "end_time"):
            _need(re.fullmatch(r"\d{14}", one.get(name, "0" * 14)) is not None, "InvalidParameter")
        page, size = int(one.get("page_no", 1)), int(one.get("page_size", 10))
        _need(page >= 1 and 1 <= size <= 100, "InvalidParameter", "page")
        found = [job for job in reversed(self.jobs.values()) if _fits(job, one)]
        data = [
            {"task_id": job.id, "status": job.status, "model_name": job.body["model"]}
            for job in found[(page - 1) * size : page * size]
        ]
        return {"total": len(found), "data": data, "page_no": page, "page_size": size}

    def _cancel(self, identity: str) -> Answer:
        job = self.jobs.get(identity)
        if job is None or job.status != "PENDING":
            message = "Failed to cancel the task, please confirm if the task is in PENDING status."
            raise Refused(400, "UnsupportedOperation", message)
        job.states = deque(["CANCELED"])
        return {"request_id": "r-1"}


def _need(fine: bool, code: str, message: str = "") -> None:
    if not fine:
        raise Refused(400, code, message)


def _check_options(options: dict[str, Any]) -> None:
    _need(not set(options) - OPTIONS, "InvalidParameter", "unknown parameter")
    size = options.get("size", "1*1")
    _need(re.fullmatch(r"\d+\*\d+", size) is not None, "InvalidParameter", "size must be w*h")
    _need(1 <= options.get("n", 1) <= 4, "InvalidParameter", "n")
    _need(0 <= options.get("seed", 0) < 2**31, "InvalidParameter", "seed")


def _check_inputs(path: str, body: dict[str, Any]) -> None:
    given = body["input"]
    if path in {DIALOGUE, ASYNC_DIALOGUE}:
        [message] = given["messages"]
        _need(any("text" in part for part in message["content"]), "InvalidParameter")
        images = [part["image"] for part in message["content"] if "image" in part]
        _need(bool(images) or "edit" not in body["model"], "InvalidParameter", "image")
    else:
        _need("messages" not in given, "InvalidParameter")
    if path == EDIT:
        _need("images" in given or "base_image_url" in given, "InvalidParameter", "images")
    if path == FRAMES:
        _need("first_frame_url" in given, "InvalidParameter", "first_frame_url")


def _has_wrong_field(body: dict[str, Any]) -> bool:
    """Accepted at first; the job fails later."""
    given, options = body["input"], body["parameters"]
    if "t2v" in body["model"]:
        return "size" not in options or "img_url" in given
    return ("media" if "2.7" in body["model"] else "img_url") not in given or "size" in options


def _fits(job: Job, query: dict[str, str]) -> bool:
    at = job.submitted.astimezone(BEIJING).strftime("%Y%m%d%H%M%S")
    return (
        query.get("start_time", at) <= at <= query.get("end_time", at)
        and query.get("model_name", job.body["model"]) == job.body["model"]
        and query.get("status", job.status) == job.status
    )


dashscope = as_fixture(Bailian)
