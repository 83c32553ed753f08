"""Volcengine Ark as it behaves on the wire: chat, images, video jobs. Refuses what Ark refuses."""

import itertools
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from tests.emulators.base import Answer, Emulator, Request, Response, as_fixture, route, sse

KEY = "ark-test-0123456789"
CHAT = {"doubao-pro-4k", "doubao-seed-1-6-250615", "ep-20250101-chat"}
IMAGES = {  # model: size words, least and most pixels, may be seeded
    "doubao-seedream-3-0-t2i-250415": ((), 512 * 512, 2048 * 2048, True),
    "doubao-seededit-3-0-i2i-250628": (("adaptive",), 0, 0, True),
    "doubao-seedream-4-0-250828": (("1K", "2K", "4K"), 1280 * 720, 4096 * 4096, False),
    "doubao-seedream-4-5-251128": (("2K", "4K"), 2560 * 1440, 4096 * 4096, False),
    "doubao-seedream-5-0-260128": (("2K", "4K"), 2560 * 1440, 4096 * 4096, False),
}
VIDEOS = {
    "doubao-seedance-1-0-pro-250528",
    "doubao-seedance-1-0-lite-t2v-250428",
    "doubao-seedance-2-0-260128",
}
IMAGE_FIELDS = set(
    """model prompt image size response_format watermark seed guidance_scale sequential_image_generation
    sequential_image_generation_options stream output_format""".split()  # noqa: SIM905
)
VIDEO_FIELDS = set(
    """model content resolution ratio duration seed watermark camera_fixed generate_audio return_last_frame
    service_tier safety_identifier""".split()  # noqa: SIM905
)
RATIOS = {"16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "adaptive"}
DATA_URI = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+")
USUAL = ("queued", "running", "succeeded")


def refused(status: int, code: str, message: str = "") -> Response:
    text = f"{message or code} Request id: 021700000000"
    return Response(status, {"error": {"code": code, "message": text, "param": "", "type": "Bad"}})


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        self.response = refused(status, code, message)


@dataclass
class Job:
    """One video. It moves to the next of its states each time somebody looks."""

    id: str
    body: dict[str, Any]
    states: deque[Any]
    created_at: int
    seen: int = 0

    @property
    def status(self) -> str:
        state = self.states[0]
        return state if isinstance(state, str) else "failed"

    def look(self) -> None:
        if self.seen and len(self.states) > 1:
            self.states.popleft()
        self.seen += 1


class Ark(Emulator):
    """`states` of the jobs to come: words, or the error of a failed one. `items` of the next image answer."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}
        self.states: deque[tuple[Any, ...]] = deque()
        self.items: list[Any] | None = None
        self.usage: dict[str, Any] = {}
        self.content = "a red kite"
        self.finish = "stop"
        self.echoes = True  # gives safety_identifier and seed back
        self.links_expired = False
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/v3"

    @route("POST", "/api/v3/chat/completions")
    def chat(self, request: Request) -> Answer:
        return self._guarded(request, self._chat)

    @route("POST", "/api/v3/images/generations")
    def images(self, request: Request) -> Answer:
        return self._guarded(request, self._images)

    @route("POST", "/api/v3/contents/generations/tasks")
    def create(self, request: Request) -> Answer:
        return self._guarded(request, self._create)

    @route("GET", "/api/v3/contents/generations/tasks")
    def listing(self, request: Request) -> Answer:
        return self._guarded(request, self._list)

    @route("GET", "/api/v3/contents/generations/tasks/{job}")
    def one(self, request: Request, job: str) -> Answer:
        return self._guarded(request, lambda _: self._shown(self._known(job)))

    @route("DELETE", "/api/v3/contents/generations/tasks/{job}")
    def delete(self, request: Request, job: str) -> Answer:
        return self._guarded(request, lambda _: self._delete(self._known(job)))

    @route("GET", "/files/{name}")
    def file(self, request: Request, name: str) -> Answer:
        if self.links_expired or "X-Tos-Expires" not in request.query:
            return Response(403, "<Error><Code>AccessDenied</Code></Error>")
        return Response(body=b"the file " + name.encode())

    def _guarded(self, request: Request, serve: Any) -> Answer:
        if request.headers["authorization"] != f"Bearer {KEY}":
            return refused(401, "AuthenticationError", "the API key is missing or invalid")
        try:
            with self._guard:
                return serve(request)  # type: ignore[no-any-return]
        except Refused as refusal:
            return refusal.response

    def link(self, ending: str) -> str:
        return f"{self.url}/files/{next(self._numbers)}.{ending}?X-Tos-Expires=86400&X-Tos-Signature=ab"

    def _chat(self, request: Request) -> Answer:
        body = request.json
        _need_model(body, CHAT)
        _need(bool(body.get("messages")), "MissingParameter", "messages")
        _need(all(m.get("role") and "content" in m for m in body["messages"]), "InvalidParameter")
        thinking = body.get("thinking", {"type": "auto"})
        _need(
            isinstance(thinking, dict) and thinking.get("type") in {"enabled", "disabled", "auto"},
            "InvalidParameter.thinking",
        )
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        if body.get("stream"):
            return self._streamed(body, usage)
        message = {"role": "assistant", "content": self.content, "reasoning_content": "hm"}
        return {"choices": [{"message": message, "finish_reason": self.finish}], "usage": usage}

    def _streamed(self, body: dict[str, Any], usage: dict[str, Any]) -> Response:
        words = [{"choices": [{"delta": {"content": w}}]} for w in self.content.split(" ")]
        end = {"choices": [{"delta": {}, "finish_reason": self.finish}]}
        asked = body.get("stream_options", {}).get("include_usage")
        return sse(*words, end, *([{"choices": [], "usage": usage}] if asked else []))

    def _images(self, request: Request) -> Answer:
        body = request.json
        _need_model(body, set(IMAGES))
        _need_fields(body, IMAGE_FIELDS)
        _need(isinstance(body.get("prompt"), str) and bool(body["prompt"]), "MissingParameter")
        _check_picture(body)
        count = 1
        if body.get("sequential_image_generation") == "auto":
            count = body["sequential_image_generation_options"]["max_images"]
            _need(1 <= count <= 15, "InvalidParameter")
        size = body.get("size", "2048x2048")
        items = self.items
        if items is None:
            items = [{"url": self.link("jpeg"), "size": size} for _ in range(count)]
        made = sum("error" not in item for item in items if isinstance(item, dict))
        usage = {"generated_images": made, "output_tokens": 16384, "total_tokens": 16384}
        return {"model": body["model"], "created": 1, "data": items, "usage": usage | self.usage}

    def _create(self, request: Request) -> Answer:
        body = request.json
        _need_model(body, VIDEOS)
        _need_fields(body, VIDEO_FIELDS)
        _check_video(body)
        number = next(self._numbers)
        states = self.states.popleft() if self.states else USUAL
        job = Job(f"cgt-20261121-{number:05}", body, deque(states), int(time.time()))
        self.jobs[job.id] = job
        return {"id": job.id}

    def _list(self, request: Request) -> Answer:
        query = request.query
        page, size = int(query["page_num"][0]), int(query["page_size"][0])
        _need(1 <= page <= 500 and 1 <= size <= 500, "InvalidParameter.page_size")
        found = [job for job in reversed(self.jobs.values()) if _fits(job, query)]
        shown = found[(page - 1) * size : page * size]
        return {"total": len(found), "items": [self._shown(job) for job in shown]}

    def _known(self, identity: str) -> Job:
        if identity not in self.jobs:
            raise Refused(404, "ResourceNotFound", "The specified task is not found")
        return self.jobs[identity]

    def _delete(self, job: Job) -> Answer:
        if job.status == "running":
            raise Refused(409, "TaskRunningCannotCancel")
        if job.status == "cancelled":
            raise Refused(400, "InvalidParameter", "already cancelled")
        if job.status == "queued":
            job.states = deque(["cancelled"])
        else:
            del self.jobs[job.id]
        return {}

    def _shown(self, job: Job) -> dict[str, Any]:
        job.look()
        state, body = job.states[0], job.body
        shown = {
            "id": job.id,
            "model": body["model"],
            "status": job.status,
            "error": state if isinstance(state, dict) else None,
            "created_at": job.created_at,
            "duration": body.get("duration", 5),
        }
        if self.echoes:
            shown |= {"safety_identifier": body.get("safety_identifier"), "seed": body.get("seed")}
        if state == "succeeded":
            shown["content"] = {"video_url": self.link("mp4")}
            if body.get("return_last_frame"):
                shown["content"]["last_frame_url"] = self.link("png")
            shown["usage"] = {"completion_tokens": 108900, "total_tokens": 108900} | self.usage
        return shown


def _need(fine: bool, code: str, message: str = "") -> None:
    if not fine:
        raise Refused(400, code, message)


def _need_model(body: dict[str, Any], known: set[str]) -> None:
    if body.get("model") not in known:
        raise Refused(404, "InvalidEndpointOrModel.NotFound", "no such model or no access")


def _need_fields(body: dict[str, Any], known: set[str]) -> None:
    unknown = set(body) - known
    _need(not unknown, "InvalidParameter.UnknownField", ", ".join(sorted(unknown)))


def _check_picture(body: dict[str, Any]) -> None:
    words, least, most, seeded = IMAGES[body["model"]]
    size = body.get("size")
    if size is not None and size not in words:
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        fits = match and least <= int(match[1]) * int(match[2]) <= most
        _need(bool(fits), "InvalidParameter.size", f"size {size} is not valid for this model")
    _need(seeded or not {"seed", "guidance_scale"} & set(body), "InvalidParameter.seed")
    images = body.get("image") or []
    images = [images] if isinstance(images, str) else images
    _need(all(DATA_URI.fullmatch(i) or i.startswith("https://") for i in images), "InvalidImageURL")
    _need(len(images) <= 14, "InvalidParameter.image")
    _need(bool(images) or "i2i" not in body["model"], "MissingParameter.image")


def _check_video(body: dict[str, Any]) -> None:
    content = body.get("content") or []
    _need(bool(content), "MissingParameter.content")
    for part in content:
        if part["type"] == "text":
            continue
        url = part[part["type"]]["url"]
        is_data = part["type"] == "image_url" and DATA_URI.fullmatch(url)
        _need(bool(is_data) or url.startswith("https://"), "InvalidParameter.url")
        _need(bool(part.get("role")), "InvalidParameter.role")
    _need("i2v" not in body["model"] or len(content) > 1, "MissingParameter.image")
    _need(isinstance(body.get("duration", 5), int), "InvalidParameter.duration")
    _need(2 <= body.get("duration", 5) <= 15, "InvalidParameter.duration")
    _need(body.get("ratio", "16:9") in RATIOS, "InvalidParameter.ratio")
    _need(-1 <= body.get("seed", -1) < 2**32, "InvalidParameter.seed")


def _fits(job: Job, query: dict[str, list[str]]) -> bool:
    model, ids = query.get("filter.model"), query.get("filter.task_ids")
    status = query.get("filter.status")
    return (
        (not model or job.body["model"] in model)
        and (not ids or job.id in ids)
        and (not status or job.status in status)
    )


ark = as_fixture(Ark)
