"""What sandbox models take: the shared names that fit their task types, and the controls of `input.sandbox`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from providers.base import ErrorKind, Params
from providers.params import (
    ChatOptions,
    Count,
    Images,
    Media,
    Messages,
    Positive,
    Prompt,
    Ratio,
    Seed,
    Size,
    Steps,
    Text,
    Texts,
    Word,
)

DEFAULT_EDGE = 512
SMALLEST, LARGEST = 16, 2048
Wait = Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)]


class Controls(BaseModel):
    """How the sandbox behaves with this task. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    latency: Wait = 0.2
    fail: ErrorKind | None = None
    times: Annotated[int, Field(ge=0)] | None = None
    retry_after: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0
    mode: Literal["sync", "accept"] = "sync"
    find: Literal["accepted", "absent", "never"] = "accepted"
    text: Text | None = None
    chunk_delay: Wait = 0.02
    cut_after: Annotated[int, Field(ge=0)] | None = None
    crash: bool = False
    health: bool = False

    def faulty(self, attempt: int) -> bool:
        """Whether the faults asked for concern this attempt (1, 2, ...)."""
        return attempt <= self.most_faults

    @property
    def most_faults(self) -> float:
        if self.times is not None:
            return self.times
        # A job that was never found is sent again; failing then too would send it round for ever.
        once = self.fail == "unknown_outcome" and self.find == "absent"
        return 1 if once else float("inf")


class SandboxParams(Params):
    sandbox: Controls = Controls()

    @property
    def subject(self) -> str:
        """What the work is about: an equal text gives an equal result. Input files count by their content."""
        return self.model_dump_json(exclude={"sandbox", "images", "mask", "video", "audio"})


def needed_without(*others: str) -> AfterValidator:
    """For `prompt`: required unless one of `others`, fields declared before it, is given."""

    def check(value: str | None, info: ValidationInfo) -> str | None:
        if value is None and all(info.data.get(name, "unreadable") is None for name in others):
            raise PydanticCustomError("required", "Field required")
        return value

    return AfterValidator(check)


def _drawable(size: str) -> str:
    if not all(SMALLEST <= int(edge) <= LARGEST for edge in size.split("x")):
        raise PydanticCustomError("format", "The sandbox draws 16x16 to 2048x2048 pixels")
    return size


Edge = Annotated[int, Field(ge=SMALLEST, le=LARGEST)]
OptionalPrompt = Annotated[Prompt | None, Field(validate_default=True)]


class Canvas(SandboxParams):
    """`size`, or `width` and `height`, or `aspect_ratio`; edges of 16 to 2048 pixels."""

    size: Annotated[Size, AfterValidator(_drawable)] | None = None
    width: Edge | None = None
    height: Edge | None = None
    aspect_ratio: Ratio | None = None

    @property
    def pixels(self) -> tuple[int, int]:
        if self.size:
            width, height = self.size.split("x")
            return int(width), int(height)
        across, down = map(int, (self.aspect_ratio or "1:1").split(":"))
        scale = DEFAULT_EDGE / max(across, down)
        return (
            self.width or max(round(across * scale), SMALLEST),
            self.height or max(round(down * scale), SMALLEST),
        )


class TextParams(ChatOptions, SandboxParams):
    messages: Messages | None = None
    prompt: Annotated[OptionalPrompt, needed_without("messages")] = None
    system: Text | None = None
    images: Images | None = None
    seed: Seed | None = None


class PictureParams(Canvas):
    """What images and films have in common."""

    negative_prompt: Text | None = None
    n: Count = 1
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Positive | None = None
    quality: Word | None = None


class ImageParams(PictureParams):
    images: Images | None = None
    prompt: Annotated[OptionalPrompt, needed_without("images")] = None
    mask: Media | None = None
    background: Literal["auto", "opaque"] | None = None
    format: Literal["png"] = "png"


class VideoParams(PictureParams):
    images: Images | None = None
    video: Media | None = None
    prompt: Annotated[OptionalPrompt, needed_without("images", "video")] = None
    audio: Media | None = None
    duration: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5
    fps: Annotated[int, Field(ge=1, le=30)] = 8
    format: Literal["webm"] = "webm"


class AudioParams(SandboxParams):
    prompt: Prompt
    voice: Word | None = None
    instructions: Text | None = None
    speed: Annotated[float, Field(ge=0.25, le=4, allow_inf_nan=False)] = 1
    language: Word | None = None
    duration: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] | None = None
    seed: Seed | None = None
    format: Literal["wav"] = "wav"


class TranscribeParams(SandboxParams):
    audio: Media
    language: Word | None = None
    prompt: Text | None = None
    temperature: Positive | None = None


class EmbeddingParams(SandboxParams):
    texts: Texts | None = None
    prompt: Annotated[OptionalPrompt, needed_without("texts")] = None
    dimensions: Annotated[int, Field(ge=1, le=1024)] = 256

    @property
    def all_texts(self) -> list[str]:
        return self.texts if self.texts is not None else [self.prompt or ""]
