"""`POST /images/generations` and `/images/edits`."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from django.http.response import HttpResponseBase
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.config import config
from genpulse.dialects.doors import Shown
from genpulse.dialects.openai import image_stream
from genpulse.dialects.openai.doors import (
    Asked,
    ModelId,
    OpenAIDoor,
    Words,
    only,
    responds_async,
    task_of,
    tokens,
)
from genpulse.dialects.openai.forms import FormDoor, named
from genpulse.errors import ValidationFailed
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import Flag
from media import services as media
from tasks.models import Task

AUTO = "auto"
PASSED = ("prompt", "n", "size", "quality", "background", "seed")


class ImageIn(Asked):
    """POST /openai/v1/images/generations."""

    model: ModelId = Field(default_factory=lambda: config.default_image_model)
    prompt: Words
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    seed: int | None = None
    response_format: Literal["url", "b64_json"] | None = None
    stream: Flag | None = None

    def input(self) -> dict[str, Any]:
        """`auto` is what a model does anyway."""
        given = {name: getattr(self, name) for name in PASSED} | {"format": self.output_format}
        return {name: value for name, value in given.items() if value not in {None, AUTO}}


class Images(OpenAIDoor):
    """Images of a prompt."""

    names: ClassVar[Mapping[str, str]] = {"format": "output_format"}
    bodies = {"POST": ImageIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Generate images."""
        asked = self.parse(ImageIn)
        answer = self.make(
            self.wish(asked, "text-to-image", asked.input(), stream=bool(asked.stream))
        )
        if asked.stream and not responds_async(request):
            return self.streamed(answer, asked)
        return self.finished(answer, lambda found: Response(images(found, asked)))

    def streamed(self, answer: Answer, asked: ImageIn) -> HttpResponseBase:
        task = Task.objects.get(pk=task_of(answer))

        def completed() -> list[dict[str, Any]]:
            found = images(self.again(task.id), asked.model_copy(update={"response_format": None}))
            usage = found.pop("usage")
            pictures = found.pop("data")
            return [
                {**found, "b64_json": one["b64_json"], "url": one["url"], "usage": usage}
                for one in pictures
            ]

        return self.labelled(image_stream.respond(task, completed), answer)


class Edits(FormDoor, OpenAIDoor):
    """New images from images and a prompt."""

    names: ClassVar[Mapping[str, str]] = {"format": "output_format", "images": "image"}
    bodies = {"POST": ImageIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Edit images, sent as `image` or `image[]`; `mask` says where."""
        asked = self.parse(ImageIn)
        only(asked.stream, False, "stream")
        files = {"image": self.files("image"), "mask": self.files("mask", 1)}
        if not files["image"]:
            raise ValidationFailed.of("image", "required", "send at least one image")
        with self.keeping(files) as stored:
            names = named(stored)
            count = len(files["image"])
            given = {"images": names[:count], "mask": names[count] if files["mask"] else None}
            answer = self.make(self.wish(asked, "image-to-image", {**asked.input(), **given}))
            if not answer.replayed:
                self.kept()
        return self.finished(answer, lambda found: Response(images(found, asked)))


def images(found: Shown, asked: ImageIn) -> dict[str, Any]:
    """The finished answer; without `response_format` every picture comes both ways."""
    task = found.object
    assets = (task["output"] or {}).get("assets", [])
    usage = tokens(task["usage"])
    return {
        "created": int((found.row.finished_at or found.row.created_at).timestamp()),
        "data": [
            picture(asset, kept, asked) for asset, kept in zip(assets, keys(found), strict=True)
        ],
        "size": measured(assets) or asked.size,
        "output_format": form(assets) or asked.output_format,
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": {"text_tokens": usage["prompt_tokens"], "image_tokens": 0},
        },
    }


def picture(asset: Mapping[str, Any], key: str, asked: ImageIn) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if asked.response_format != "b64_json":
        shown["url"] = asset["url"]
    if asked.response_format != "url":
        with media.open_raw(key) as file:
            shown["b64_json"] = base64.b64encode(file.read()).decode()
    return {**shown, "revised_prompt": None}


def keys(found: Shown) -> list[str]:
    """Where the bytes of the results lie."""
    return [asset["key"] for asset in (found.more.output or {}).get("assets", [])]


def measured(assets: list[dict[str, Any]]) -> str | None:
    first = assets[0] if assets else {}
    return f"{first['width']}x{first['height']}" if first.get("width") else None


def form(assets: list[dict[str, Any]]) -> str | None:
    return assets[0]["content_type"].partition("/")[2] if assets else None
