"""The AI service dialect, below `/ai` and `/api/v1/ai`: images, texts and videos."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from pydantic import BaseModel, BeforeValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects import ai_words as words
from genpulse.dialects.doors import DialectDoor, Wish, newest, shown
from genpulse.errors import NotFound, ValidationFailed
from genpulse.http.parsing import AwareTime, Duration, render_time, wrong
from tasks import verbs, waiting
from tasks.models import Task
from tasks.requests import DAY

DEFAULT_PROVIDER = "volcengine"
MODELS = {
    ("volcengine", "image"): "doubao-seedream-3.0-t2i",
    ("volcengine", "text"): "doubao-pro-4k",
    ("volcengine", "video"): "doubao-video-pro",
    ("sandbox", "image"): "sandbox-image",
    ("sandbox", "text"): "sandbox-text",
    ("sandbox", "video"): "sandbox-video",
}
SIZES = (
    "1024x1024",
    "864x1152",
    "1152x864",
    "1280x720",
    "720x1280",
    "832x1248",
    "1248x832",
    "1512x648",
)
OWN_SIZES = ("doubao-seedream-3", "doubao-seedream")  # of these the list above is the whole schema
LARGEST_PAGE = 100
Ratio = Literal["16:9", "9:16", "1:1", "4:3", "3:4", "21:9"]


def _spoken(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise wrong("empty", "must not be blank")
    return value


class Asked(BaseModel):
    """What all three kinds take."""

    prompt: Annotated[str, Field(max_length=100_000), BeforeValidator(_spoken)]
    user_id: str = Field(min_length=1)
    provider: str | None = None
    model: str | None = None
    priority: str | int | None = None
    mode: Literal["async", "sync"] | None = None
    wait: int = Field(30, ge=1, le=60)
    delay: Annotated[Duration, Field(le=30 * DAY)] | None = None
    schedule_at: AwareTime | None = None
    callback_url: str | None = None
    sandbox: dict[str, Any] | None = None


class ImageIn(Asked):
    """POST /ai/image/task."""

    size: str = "1024x1024"
    n: int | None = Field(None, ge=1, le=10)
    seed: int | None = Field(None, ge=-1)
    images: list[str] | None = None
    negative_prompt: str | None = None


class TextIn(Asked):
    """POST /ai/text/task."""

    max_tokens: int | None = None
    temperature: float | None = None
    system: str | None = None


class VideoIn(Asked):
    """POST /ai/video/task."""

    duration: float | None = None
    seed: int | None = Field(None, ge=-1)
    aspect_ratio: Ratio = "16:9"
    image_urls: list[str] | None = None


class ModeIn(BaseModel):
    mode: Literal["async", "sync"] = "async"


class ListIn(BaseModel):
    user_id: str = Field(min_length=1)
    limit: int = Field(20, ge=1)
    offset: int = Field(0, ge=0, le=10_000_000)
    type: Literal["all", "image", "text", "video"] = "all"


BODIES: Mapping[str, type[Asked]] = {"image": ImageIn, "text": TextIn, "video": VideoIn}
INPUTS = {
    "image": ("prompt", "size", "n", "seed", "images", "negative_prompt"),
    "text": ("prompt", "max_tokens", "temperature", "system"),
    "video": ("prompt", "duration", "seed", "aspect_ratio"),
}


class AiDoor(DialectDoor):
    """`kind`: image, text or video; empty for the paths of all."""

    takes_anonymous: ClassVar[bool] = True
    source: ClassVar[str] = "ai"
    kind = ""

    def task(self, id_: str) -> Task:
        """Raises NotFound, also for a task of another type."""
        try:
            found = super().task(id_)
        except NotFound:
            raise NotFound("Task not found") from None
        if self.kind and found.task_type not in words.TYPES[self.kind]:
            raise NotFound("Task not found")
        return found

    @staticmethod
    def result(task: Task) -> Response:
        found = shown([task])[0].object
        return Response(words.result_body(found), words.result_status(found))


class Submit(AiDoor):
    statuses = {"POST": 201}

    def post(self, request: Request) -> HttpResponseBase:
        asked = self.parse(BODIES[self.kind])
        mode = asked.mode or self.query(ModeIn).mode
        self.act_for(asked.user_id, "user_id")
        answer = self.submit([wish_of(self.kind, asked)], self.said, status=201)
        said = self.reply(answer)
        if mode == "async" or answer.object_id is None:
            return said
        task_id = answer.object_id
        end = partial(waiting.task_end, task_id, asked.wait)

        def finished() -> Response:
            response = self.result(Task.objects.get(pk=task_id))
            for name, value in said.headers.items():
                response.headers.setdefault(name, value)
            return response

        now = finished()
        return now if now.status_code == 200 else self.held(now, end, finished)

    def said(self, ids: list[Any]) -> dict[str, Any]:
        task = self.again(ids[0])
        return {
            "success": True,
            "data": words.accepted(self.kind, task.object),
            "message": "任务已提交",
        }


class Result(AiDoor):
    """202 while it is not finished, 200 afterwards."""

    def get(self, request: Request, id_: str) -> Response:
        return self.result(self.task(id_))


class Delete(AiDoor):
    """Cancels it first, then it is gone."""

    def delete(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        verbs.hide(task, by=self.credential.user.name)
        return Response(
            {"success": True, "data": {"task_id": str(task.id)}, "message": "任务已删除"}
        )


class Tasks(AiDoor):
    """Tasks of one user, newest first."""

    queries = {"GET": ListIn}

    def get(self, request: Request) -> Response:
        asked = self.query(ListIn)
        self.act_for(asked.user_id, "user_id")
        kind = self.kind or asked.type
        limit = min(asked.limit, LARGEST_PAGE)
        tasks = self.of_kind(kind)
        found = [words.data(one.object) for one in shown(newest(tasks, limit, asked.offset))]
        return Response(
            {
                "success": True,
                "data": {
                    "tasks": found,
                    "limit": limit,
                    "offset": asked.offset,
                    "count": len(found),
                    "total": tasks.count(),
                    "type": kind,
                },
                "message": "查询成功",
            }
        )

    def of_kind(self, kind: str) -> QuerySet[Task]:
        types = words.ALL_TYPES if kind == "all" else words.TYPES[kind]
        return self.listed(Task.objects.filter(hidden_at=None, task_type__in=types))


def wish_of(kind: str, asked: Asked) -> Wish:
    """Raises ValidationFailed naming the field."""
    provider = asked.provider or DEFAULT_PROVIDER
    model = asked.model or MODELS.get((provider, kind))
    given = {
        name: getattr(asked, name) for name in INPUTS[kind] if getattr(asked, name) is not None
    }
    if given.get("seed") == -1:
        del given["seed"]
    if asked.sandbox is not None:
        given["sandbox"] = asked.sandbox
    task_type = {"image": "text-to-image", "text": "chat", "video": "text-to-video"}[kind]
    if isinstance(asked, VideoIn) and asked.image_urls:
        given["images"], task_type = asked.image_urls, "image-to-video"
    if isinstance(asked, ImageIn):
        check_size(model, asked.size)
        task_type = "image-to-image" if asked.images else task_type
    return Wish(
        fields={
            "provider": provider,
            "model": model,
            "task_type": task_type,
            "input": given,
            "priority": asked.priority,
            "run_at": run_at(asked),
        },
        callback={"url": asked.callback_url, "style": "ai"} if asked.callback_url else None,
    )


def check_size(model: str | None, size: str) -> None:
    if model and model.startswith(OWN_SIZES) and size not in SIZES:
        raise ValidationFailed.of("size", "choice", f"want one of {', '.join(SIZES)}")


def run_at(asked: Asked) -> str | None:
    if asked.delay is not None and asked.schedule_at is not None:
        raise ValidationFailed.of("schedule_at", "exclusive", "send delay or schedule_at")
    if asked.delay:
        return render_time(datetime.now(UTC) + timedelta(seconds=asked.delay))
    return render_time(asked.schedule_at)
