"""OpenAI and every server that speaks its HTTP: chat, images, speech, transcripts, embeddings, videos.

Contract: the API reference at platform.openai.com; gateways differ in what they offer, not in how they are asked.
Chat, transcripts and embeddings are asked again when an answer is lost; images, speech and videos are paid creates,
of which only videos can be looked up.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from providers import faults
from providers.base import (
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ErrorKind,
    ExecutorInfo,
    Health,
    Inventory,
    Model,
    Output,
    Params,
    Provider,
    ProviderError,
    TaskType,
    Update,
)
from providers.http import Form, Reply
from providers.params import Count, Dimensions, Media, Prompt, Size, Text, Texts
from providers.wire import (
    bases,
    codes,
    jobs,
    openai_chat,
    openai_images,
    openai_models,
    openai_videos,
)

IMAGES: tuple[TaskType, ...] = ("text-to-image", "image-to-image")
VIDEOS: tuple[TaskType, ...] = ("text-to-video", "image-to-video")
CODES: Mapping[str, ErrorKind] = {
    **codes.CODES,
    "invalid_image_url": "transient",
    "failed_to_download_image": "transient",
}
SPEECH_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
MAX_SPEECH = 100_000_000  # bytes
NOT_FIELDS = frozenset({"images", "mask", "audio", "width", "height", "format", "model", "stream"})


class ImageParams(Params):
    prompt: Annotated[str, Field(min_length=1, max_length=32_000)]
    images: Annotated[list[Media], Field(min_length=1, max_length=16)] | None = None
    mask: Media | None = None
    n: Count = 1
    size: Size | Literal["auto"] | None = None
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto"] | None = None
    format: Literal["png", "jpeg", "webp", "gif", "svg"] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None


class FixedSizeParams(ImageParams):
    size: Literal["1024x1024", "1536x1024", "1024x1536", "auto"] | None = None


class VideoParams(Params):
    prompt: Prompt
    images: Annotated[list[Media], Field(min_length=1, max_length=1)] | None = None
    duration: Literal[4, 8, 12] | None = None
    size: Literal["720x1280", "1280x720", "1024x1792", "1792x1024"] | None = None


class SpeechParams(Params):
    prompt: Annotated[str, Field(min_length=1, max_length=4096)]
    voice: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    instructions: Text | None = None


class TranscriptParams(Params):
    audio: Media
    language: Annotated[str, Field(min_length=2, max_length=20)] | None = None
    prompt: Text | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None


class EmbeddingParams(Params):
    texts: Texts | None = None
    prompt: Prompt | None = None
    dimensions: Dimensions | None = None


class OpenAI(Provider):
    """Executor config: `chat_timeout` (s), `max_tokens_field` (default `max_completion_tokens` at openai.com, else `max_tokens`)."""

    name: ClassVar[str] = "openai"
    description: ClassVar[str] = "OpenAI and any OpenAI-compatible server"
    streams: ClassVar[bool] = True
    models: ClassVar[Sequence[Model]] = (
        *(Model(f"{name}*", ("chat",)) for name in ("gpt", "chatgpt", "o1", "o3", "o4")),
        Model("gpt-image*", IMAGES, ImageParams),
        Model("chatgpt-image*", IMAGES, ImageParams),
        Model("dall-e*", IMAGES),
        Model("sora*", VIDEOS, VideoParams),
        Model("tts*", ("text-to-audio",), SpeechParams),
        Model("gpt-4o-mini-tts*", ("text-to-audio",), SpeechParams),
        Model("whisper*", ("audio-to-text",), TranscriptParams),
        Model("gpt-4o-transcribe*", ("audio-to-text",), TranscriptParams),
        Model("gpt-4o-mini-transcribe*", ("audio-to-text",), TranscriptParams),
        Model("text-embedding*", ("embedding",), EmbeddingParams),
        Model("gpt-image-2", IMAGES, ImageParams, description="Images of any size"),
        Model("gpt-image-1.5", IMAGES, FixedSizeParams),
        Model("gpt-image-1-mini", IMAGES, FixedSizeParams, description="Small and cheap images"),
        Model("gpt-4o-mini-tts", ("text-to-audio",), SpeechParams),
        Model("whisper-1", ("audio-to-text",), TranscriptParams),
        Model("text-embedding-3-small", ("embedding",), EmbeddingParams),
        Model("text-embedding-3-large", ("embedding",), EmbeddingParams),
    )

    def submit(self, call: Call) -> Completed | Accepted:
        match call.task_type:
            case "chat":
                return chat(call)
            case "text-to-image" | "image-to-image":
                return openai_images.create(call, base_of(call))
            case "text-to-audio":
                return speak(call)
            case "audio-to-text":
                return transcribe(call)
            case "embedding":
                return embed(call)
            case "text-to-video" | "image-to-video":
                return openai_videos.create(call, base_of(call))
        raise ProviderError("not_available", f"This provider has no {call.task_type}.")

    def poll(self, calls: Sequence[Call]) -> list[Update]:
        return jobs.each(calls, lambda call: openai_videos.look_at(call, base_of(call), CODES))

    def find(self, call: Call) -> Accepted | None:
        return openai_videos.find(call, base_of(call)) if call.task_type in VIDEOS else None

    def cancel(self, call: Call) -> CancelOutcome:
        return openai_videos.cancel(call, base_of(call))

    def probe(self, executor: ExecutorInfo) -> Health:
        return openai_models.probe(executor)

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        return openai_models.inventory(executor)

    def explain(self, reply: Reply) -> ProviderError | None:
        problem = codes.explain(reply, CODES)
        if problem is not None and problem.kind == "transient" and reply.status == 400:
            problem.retries = 1  # it could not download a picture
        return problem


def base_of(call: Call) -> str:
    return bases.trimmed(call.executor.base_url)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def chat(call: Call) -> Completed:
    body = openai_chat.request(call)
    if "max_tokens" in body:
        body[limit_field(call.executor)] = body.pop("max_tokens")
    return openai_chat.complete(call, body, base_of(call) + openai_chat.PATH)


def limit_field(executor: ExecutorInfo) -> str:
    """OpenAI's newer models refuse `max_tokens`; many other servers know nothing else."""
    host = urlsplit(executor.base_url).hostname or ""
    usual = "max_completion_tokens" if host.endswith("openai.com") else "max_tokens"
    return str(executor.config.get("max_tokens_field", usual))


def speak(call: Call) -> Completed:
    given = call.given()
    text, kind = given.pop("prompt", ""), given.get("format", "mp3")
    extra = {name: value for name, value in given.items() if name not in NOT_FIELDS}
    body = {"voice": "alloy", **extra, "model": call.model, "input": text, "response_format": kind}
    reply = call.http.post(
        base_of(call) + "/audio/speech", json=body, paid=True, max_bytes=MAX_SPEECH
    )
    said = reply.headers.get("content-type", "").partition(";")[0]
    if "json" in said or said == "text/html" or not reply.content:
        raise faults.bad_response(paid=True, raw=reply.raw)
    content_type = said if said.startswith("audio/") else SPEECH_TYPES.get(kind, "audio/mpeg")
    output = Output(
        "audio", data=reply.content, content_type=content_type, filename=f"speech.{kind}"
    )
    return Completed([output], {"characters": len(text)})


def transcribe(call: Call) -> Completed:
    """Segments are asked for where they can be had: whisper and its kin."""
    audio = call.media("audio")
    if not audio:
        raise ProviderError("bad_input", "audio-to-text needs an audio file.")
    form = "verbose_json" if "whisper" in call.model.lower() else "json"
    fields = {**call.given(), "response_format": form}
    texts = [(name, str(value)) for name, value in fields.items() if name not in NOT_FIELDS]
    file = openai_images.as_file(audio[0], "audio")
    sent: Form = [("model", call.model), *texts, ("file", file)]
    answer = call.http.post(base_of(call) + "/audio/transcriptions", form=sent).object()
    if not isinstance(answer.get("text"), str):
        raise faults.bad_response(paid=False)
    return Completed(text=answer["text"], data=_details(answer), usage=_heard(answer))


def _details(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    segments = [
        {name: segment.get(name) for name in ("start", "end", "text")}
        for segment in _objects(answer.get("segments"))
    ]
    if not segments and "duration" not in answer:
        return None
    known = {name: answer.get(name) for name in ("language", "duration")}
    return {**known, "segments": segments}


def _heard(answer: Mapping[str, Any]) -> dict[str, float]:
    usage = answer.get("usage")
    told = usage.get("seconds") if isinstance(usage, dict) else None
    seconds = answer.get("duration") if told is None else told
    units = openai_images.tokens(usage)
    return units | {"seconds": seconds} if isinstance(seconds, int | float) else units


def embed(call: Call) -> Completed:
    given = call.given()
    texts = given.pop("texts", None) or [given.pop("prompt", "")]
    extra = {k: v for k, v in given.items() if k not in NOT_FIELDS | {"prompt", "encoding_format"}}
    body = {**extra, "model": call.model, "input": texts, "encoding_format": "float"}
    answer = call.http.post(base_of(call) + "/embeddings", json=body, max_bytes=64_000_000).object()
    found = {item.get("index"): item.get("embedding") for item in _objects(answer.get("data"))}
    vectors = [found.get(index) for index in range(len(texts))]
    if not all(isinstance(vector, list) for vector in vectors):
        raise faults.bad_response(paid=False)
    return Completed(data={"embeddings": vectors}, usage=openai_chat.usage(answer.get("usage")))
