"""The models of DashScope and what each takes. Ids age fast; patterns stand for the rest."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from providers.base import Model, Params, TaskType
from providers.params import (
    ChatOptions,
    Edge,
    Images,
    Media,
    Messages,
    Prompt,
    Size,
    Text,
    Tokens,
    Word,
)

CHAT: tuple[TaskType, ...] = ("chat",)
DRAW: tuple[TaskType, ...] = ("text-to-image",)
EDIT: tuple[TaskType, ...] = ("image-to-image",)
T2V: tuple[TaskType, ...] = ("text-to-video",)
I2V: tuple[TaskType, ...] = ("image-to-video",)
SPEECH: tuple[TaskType, ...] = ("text-to-audio",)

Draw = Annotated[int, Field(ge=-1, lt=2**31)]  # a seed; -1: random
Ratio = Literal["1:1", "4:3", "3:4", "16:9", "9:16"]


class QwenChat(ChatOptions):
    prompt: Prompt | None = None
    messages: Messages | None = None
    system: Text | None = None
    images: Images | None = None
    seed: Draw | None = None
    top_k: Tokens | None = None
    enable_thinking: bool | None = None  # many models think in streams only
    thinking_budget: Tokens | None = None
    enable_search: bool | None = None


class Drawing(Params):
    prompt: Prompt
    negative_prompt: Text | None = None
    size: Size | None = None
    width: Edge | None = None
    height: Edge | None = None
    aspect_ratio: Ratio | None = None
    n: Annotated[int, Field(ge=1, le=4)] = 1
    seed: Draw = -1
    prompt_extend: bool | None = None
    watermark: bool = False


class OneDrawing(Drawing):
    n: Literal[1] = 1


class Editing(Drawing):
    images: Annotated[Images, Field(max_length=4)]


class ImageEdit(OneDrawing):
    """One picture, and the part of it that may change."""

    images: Annotated[Images, Field(max_length=1)]
    mask: Media | None = None


class Filming(Params):
    prompt: Prompt
    negative_prompt: Text | None = None
    audio: Media | None = None
    size: Size | None = None
    aspect_ratio: Ratio | None = None
    duration: Annotated[int, Field(ge=2, le=15)] = 5
    seed: Draw = -1
    prompt_extend: bool | None = None
    shot_type: Literal["single", "multi"] | None = None
    watermark: bool = False


class Animating(Params):
    """The picture decides the ratio, whatever `aspect_ratio` says."""

    prompt: Prompt | None = None
    negative_prompt: Text | None = None
    images: Annotated[Images, Field(max_length=1)]
    audio: Media | None = None
    resolution: Literal["480P", "720P", "1080P"] | None = None
    aspect_ratio: Ratio | None = None
    duration: Annotated[int, Field(ge=2, le=15)] = 5
    seed: Draw = -1
    prompt_extend: bool | None = None
    shot_type: Literal["single", "multi"] | None = None
    watermark: bool = False


class Frames(Animating):
    """First and last frame."""

    images: Annotated[Images, Field(max_length=2)]


class Wan(Params):
    """What a model that is not listed may take."""

    prompt: Prompt | None = None
    negative_prompt: Text | None = None
    images: Annotated[Images, Field(max_length=4)] | None = None
    mask: Media | None = None
    audio: Media | None = None
    size: Size | None = None
    width: Edge | None = None
    height: Edge | None = None
    aspect_ratio: Ratio | None = None
    resolution: Literal["480P", "720P", "1080P"] | None = None
    n: Annotated[int, Field(ge=1, le=6)] = 1
    duration: Annotated[int, Field(ge=2, le=15)] = 5
    seed: Draw = -1
    prompt_extend: bool | None = None
    shot_type: Literal["single", "multi"] | None = None
    watermark: bool = False

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.prompt and not self.images:
            raise PydanticCustomError("required", "want a prompt or images")
        return self


class Speaking(Params):
    prompt: Prompt
    voice: Word = "Cherry"
    language: Word | None = None


class CosyVoice(Params):
    prompt: Prompt
    voice: Word
    format: Literal["mp3", "wav"] = "mp3"
    speed: Annotated[float, Field(ge=0.5, le=2)] | None = None


_VERSIONS = ("wan2.1", "wan2.2", "wan2.5", "wan2.6", "wan2.7", "wanx2.1")
MODELS = (
    Model("wan2.6-t2i", DRAW, Drawing),
    Model("wan2.5-t2i-preview", DRAW, Drawing),
    Model("wan2.6-image", EDIT, Editing),
    Model("wan2.5-i2i-preview", EDIT, Editing),
    Model("wanx2.1-imageedit", EDIT, ImageEdit),
    Model("qwen-image-plus", DRAW, OneDrawing),
    Model("qwen-image", DRAW, OneDrawing),
    Model("qwen-image-edit-plus", EDIT, Editing),
    Model("z-image-turbo", DRAW, OneDrawing),
    Model("wan2.6-t2v", T2V, Filming),
    Model("wan2.5-t2v-preview", T2V, Filming),
    Model("wan2.7-i2v", I2V, Animating),
    Model("wan2.6-i2v", I2V, Animating),
    Model("wan2.5-i2v-preview", I2V, Animating),
    Model("wan2.2-kf2v-flash", I2V, Frames),
    Model("qwen-tts", SPEECH, Speaking),
    Model("cosyvoice-v3-flash", SPEECH, CosyVoice),
    *(Model(f"{version}-t2i*", DRAW, Drawing) for version in _VERSIONS),
    *(Model(f"{version}-t2v*", T2V, Filming) for version in _VERSIONS),
    *(Model(f"{version}-i2v*", I2V, Animating) for version in _VERSIONS),
    *(Model(f"{version}-kf2v*", I2V, Frames) for version in _VERSIONS),
    Model("wan*", (*DRAW, *EDIT, *T2V, *I2V), Wan),
    Model("qwen-image-edit*", EDIT, Editing),
    Model("qwen-image*", (*DRAW, *EDIT), Wan),
    Model("z-image*", DRAW, Drawing),
    Model("qwen-tts*", SPEECH, Speaking),
    Model("qwen3-tts*", SPEECH, Speaking),
    Model("cosyvoice*", SPEECH, CosyVoice),
    Model("qwen*", CHAT, QwenChat),
    Model("deepseek*", CHAT, QwenChat),
)
