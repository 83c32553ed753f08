"""The models of Volcengine Ark and what each takes. Ids are dated and age fast; patterns stand for the rest."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from providers.base import Model, Params, TaskType
from providers.params import ChatOptions, Count, Edge, Images, Media, Messages, Prompt, Text

CHAT: tuple[TaskType, ...] = ("chat",)
IMAGE: tuple[TaskType, ...] = ("text-to-image", "image-to-image")
VIDEO: tuple[TaskType, ...] = ("text-to-video", "image-to-video")

Draw = Annotated[int, Field(ge=-1, lt=2**31)]  # a seed; -1: random
RATIOS = Literal["1:1", "3:4", "4:3", "16:9", "9:16", "2:3", "3:2", "21:9"]
SIZES_1K = {
    "1:1": "1024x1024",
    "3:4": "864x1152",
    "4:3": "1152x864",
    "16:9": "1280x720",
    "9:16": "720x1280",
    "2:3": "832x1248",
    "3:2": "1248x832",
    "21:9": "1512x648",
}
SIZES_2K = {
    "1:1": "2048x2048",
    "3:4": "1728x2304",
    "4:3": "2304x1728",
    "16:9": "2560x1440",
    "9:16": "1440x2560",
    "2:3": "1664x2496",
    "3:2": "2496x1664",
    "21:9": "3024x1296",
}


def _size(words: str, examples: Mapping[str, str]) -> Any:
    pattern = rf"^({words}[1-9]\d{{2,3}}x[1-9]\d{{2,3}})$"
    return Field(pattern=pattern, examples=list(examples.values()))


def _pixels(least: int, most: int) -> AfterValidator:
    """Bounds for the pixels of a `WxH`."""

    def check(size: str) -> str:
        width, by, height = size.partition("x")
        if by and not least <= int(width) * int(height) <= most:
            raise PydanticCustomError("choice", "want {a} to {b} pixels", {"a": least, "b": most})
        return size

    return AfterValidator(check)


class ArkChat(ChatOptions):
    prompt: Prompt | None = None
    messages: Messages | None = None
    system: Text | None = None
    images: Images | None = None
    seed: Draw | None = None
    thinking: Literal["enabled", "disabled", "auto"] | None = None
    reasoning_effort: Literal["minimal", "low", "medium", "high"] | None = None


class Picture(Params):
    prompt: Prompt
    negative_prompt: Text | None = None
    watermark: bool = False


class SeedEdit(Picture):
    images: Annotated[Images, Field(max_length=1)]
    n: Literal[1] = 1
    seed: Draw = -1
    guidance: Annotated[float, Field(ge=1, le=10)] | None = None


class Seedream3(Picture):
    size: Annotated[str, _size("", SIZES_1K), _pixels(512 * 512, 2048 * 2048)] | None = None
    width: Edge | None = None
    height: Edge | None = None
    aspect_ratio: RATIOS | None = None
    n: Literal[1] = 1
    seed: Draw = -1
    guidance: Annotated[float, Field(ge=1, le=10)] | None = None


class Seedream(Picture):
    """All that any Seedream takes, for the versions that are not listed."""

    images: Annotated[Images, Field(max_length=14)] | None = None
    size: Annotated[str, _size("[124]K|", SIZES_2K)] | None = None
    width: Edge | None = None
    height: Edge | None = None
    aspect_ratio: RATIOS | None = None
    n: Count = 1
    seed: Draw = -1
    format: Literal["png", "jpeg"] | None = None

    @model_validator(mode="after")
    def _room(self) -> Self:
        if len(self.images or ()) + self.n > 15:
            raise ValueError("images and n are at most 15 together")
        return self


class Seedream4(Seedream):
    size: Annotated[str, _size("[124]K|", SIZES_2K), _pixels(1280 * 720, 4096 * 4096)] | None = None
    seed: Literal[-1] = -1  # this generation cannot be seeded
    format: None = None


class Seedream45(Seedream4):
    size: Annotated[str, _size("[24]K|", SIZES_2K), _pixels(2560 * 1440, 4096 * 4096)] | None = None


class Seedream5(Seedream):
    seed: Literal[-1] = -1


class Seedance(Params):
    """Images are the first and the last frame."""

    prompt: Prompt | None = None
    images: Annotated[Images, Field(max_length=2)] | None = None
    duration: Annotated[int, Field(ge=2, le=12)] = 5
    aspect_ratio: Literal["16:9", "4:3", "1:1", "3:4", "9:16", "21:9", "adaptive"] | None = None
    resolution: Literal["480p", "720p", "1080p"] | None = None
    seed: Draw = -1
    camera_fixed: bool | None = None
    watermark: bool = False
    return_last_frame: bool | None = None
    service_tier: Literal["default", "flex"] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.prompt and not self.images:
            raise PydanticCustomError("required", "want a prompt or images")
        return self


class Seedance15(Seedance):
    duration: Annotated[int, Field(ge=4, le=12)] = 5
    generate_audio: bool | None = None


class Seedance2(Seedance15):
    """`image_role`: the images are frames, or references for what the prompt names; more than two always are."""

    images: Annotated[Images, Field(max_length=9)] | None = None
    duration: Annotated[int, Field(ge=4, le=15)] = 5
    image_role: Literal["frames", "reference"] = "frames"
    video: Media | None = None
    audio: Media | None = None


MODELS = (
    Model("doubao-pro-4k", CHAT, ArkChat),
    Model("doubao-seed-1-6-250615", CHAT, ArkChat),
    Model("doubao-seed-1-6-flash-250828", CHAT, ArkChat),
    Model("doubao-seed-2-0-lite-260428", CHAT, ArkChat),
    Model(
        "doubao-seedream-3-0-t2i-250415",
        ("text-to-image",),
        Seedream3,
        aliases=("doubao-seedream-3.0-t2i", "doubao-seedream"),
    ),
    Model("doubao-seedream-4-0-250828", IMAGE, Seedream4),
    Model("doubao-seedream-4-5-251128", IMAGE, Seedream45),
    Model("doubao-seedream-5-0-260128", IMAGE, Seedream5),
    Model("doubao-seededit-3-0-i2i-250628", ("image-to-image",), SeedEdit),
    Model("doubao-seedance-1-0-pro-250528", VIDEO, Seedance, aliases=("doubao-video-pro",)),
    Model("doubao-seedance-1-0-pro-fast-251015", VIDEO, Seedance),
    Model("doubao-seedance-1-0-lite-t2v-250428", ("text-to-video",), Seedance),
    Model("doubao-seedance-1-0-lite-i2v-250428", ("image-to-video",), Seedance),
    Model("doubao-seedance-1-5-pro-251215", VIDEO, Seedance15),
    Model("doubao-seedance-2-0-260128", VIDEO, Seedance2),
    Model("doubao-seedance-2-0-fast-260128", VIDEO, Seedance2),
    Model("doubao*", CHAT, ArkChat),
    Model("deepseek*", CHAT, ArkChat),
    *(Model(f"{name}*", IMAGE, Seedream) for name in ("doubao-seedream", "seedream", "jimeng")),
    *(Model(f"{name}*", IMAGE, SeedEdit) for name in ("doubao-seededit", "seededit")),
    *(Model(f"{name}*", VIDEO, Seedance2) for name in ("doubao-seedance", "seedance")),
    Model("ep-*", (*CHAT, *IMAGE, *VIDEO)),
)
