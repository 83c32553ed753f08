"""Google Gemini: chat and pictures by `generateContent`, Imagen, Veo, Omni video; or a compatible server in its place.

A base that ends in `/v1`, `/openai` or `/chat/completions` is an OpenAI-compatible server, any other one (`/v1beta`)
Google's own API. Contract: ai.google.dev/api.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field

from providers.base import (
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ExecutorInfo,
    Health,
    Inventory,
    Model,
    Params,
    Provider,
    ProviderError,
    Secret,
    TaskType,
    Update,
)
from providers.http import Reply
from providers.params import Edge, Images, Media, Probability, Prompt, Seed, Size, Text
from providers.wire import (
    bases,
    codes,
    gemini_errors,
    gemini_media,
    jobs,
    openai_chat,
    openai_images,
    openai_models,
    refusals,
    sse,
)
from providers.wire.gemini_answer import Answer
from providers.wire.gemini_request import request

IMAGES: tuple[TaskType, ...] = ("text-to-image", "image-to-image")
VIDEOS: tuple[TaskType, ...] = ("text-to-video", "image-to-video")
ALL: tuple[TaskType, ...] = ("chat", *IMAGES)
PAGES = 10  # of the list of models
MAX_CHAT = 32_000_000  # bytes; image models put pictures into a chat


class PictureParams(Params):
    prompt: Prompt
    images: Images | None = None
    n: Literal[1] = 1
    aspect_ratio: (
        Literal["1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9"] | None
    ) = None
    size: Size | None = None
    width: Edge | None = None
    height: Edge | None = None
    seed: Seed | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None


class ImagenParams(Params):
    prompt: Prompt
    n: Annotated[int, Field(ge=1, le=4)] = 1
    aspect_ratio: Literal["1:1", "3:4", "4:3", "9:16", "16:9"] | None = None
    size: Size | None = None
    width: Edge | None = None
    height: Edge | None = None


class VideoParams(Params):
    prompt: Prompt
    images: Annotated[list[Media], Field(min_length=1, max_length=1)] | None = None
    duration: Annotated[float, Field(ge=1, le=60)] | None = None
    aspect_ratio: Literal["16:9", "9:16"] | None = None
    size: Size | None = None
    width: Edge | None = None
    height: Edge | None = None
    quality: Literal["360p", "720p", "1080p", "4k"] | None = None


class VeoParams(VideoParams):
    duration: Literal[4, 6, 8] | None = None
    negative_prompt: Text | None = None
    seed: Seed | None = None


class Gemini(Provider):
    """Executor config: `chat_timeout` (s), `refusal_phrases` (texts that count as a refusal when the model says them)."""

    name: ClassVar[str] = "gemini"
    description: ClassVar[str] = "Google Gemini, Imagen and Veo"
    streams: ClassVar[bool] = True
    models: ClassVar[Sequence[Model]] = (
        Model("gemini*", ALL),
        Model("gemini-omni*", VIDEOS, VideoParams),
        Model("imagen*", ("text-to-image",), ImagenParams),
        Model("veo*", VIDEOS, VeoParams),
        Model("gemini-3.1-flash-image-preview", IMAGES, PictureParams, description="Pictures"),
        Model("gemini-2.5-flash", ALL, description="Fast chat that sees pictures"),
        Model("gemini-3.5-flash", ALL, description="Fast chat that sees pictures"),
        Model("gemini-omni-1.1-flash", VIDEOS, VideoParams, description="Short videos"),
        Model("veo-3.1-generate-001", VIDEOS, VeoParams),
        Model("veo-3.1-fast-generate-001", VIDEOS, VeoParams),
    )

    def submit(self, call: Call) -> Completed | Accepted:
        base = call.executor.base_url
        if call.task_type not in (*ALL, *VIDEOS):
            raise ProviderError("not_available", f"This provider has no {call.task_type}.")
        if bases.speaks_openai(base):
            return compatible(call, bases.trimmed(base))
        if call.task_type in VIDEOS:
            is_veo = _is_veo(call)
            return (
                gemini_media.start_operation(call)
                if is_veo
                else gemini_media.start_interaction(call)
            )
        if call.model.lower().startswith("imagen"):
            return gemini_media.imagine(call)
        return generate(call)

    def poll(self, calls: Sequence[Call]) -> list[Update]:
        return jobs.each(calls, _look)

    def cancel(self, call: Call) -> CancelOutcome:
        if _is_veo(call):
            return "unsupported"
        try:
            gemini_media.cancel_interaction(call)
        except ProviderError as problem:
            if problem.status in {400, 404, 409}:
                return "too_late"
            raise
        return "canceled"

    def probe(self, executor: ExecutorInfo) -> Health:
        if bases.speaks_openai(executor.base_url):
            return openai_models.probe(executor)
        try:
            executor.http.get("/models", query={"pageSize": 1}, timeout=openai_models.SECONDS)
        except ProviderError as problem:
            if problem.kind == "bad_credentials":
                return Health("down", "expired", problem.message)
            raise
        return Health("healthy", "ok" if executor.credential else "not_applicable")

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        if bases.speaks_openai(executor.base_url):
            return openai_models.inventory(executor)
        names: list[str] = []
        query: dict[str, str | int | Sequence[str]] = {"pageSize": 1000}
        for _ in range(PAGES):
            page = executor.http.get("/models", query=query, timeout=openai_models.SECONDS).object()
            names += [
                str(model["name"]).removeprefix("models/") for model in page.get("models", ())
            ]
            if not page.get("nextPageToken"):
                break
            query["pageToken"] = str(page["nextPageToken"])
        return Inventory(models=[name.removeprefix("models/") for name in names])

    def auth_headers(self, executor: ExecutorInfo, credential: Secret) -> Mapping[str, str]:
        if bases.speaks_openai(executor.base_url):
            return super().auth_headers(executor, credential)
        return {"x-goog-api-key": credential.reveal()}

    def explain(self, reply: Reply) -> ProviderError | None:
        problem = gemini_errors.problem_of(reply.json()) if reply.readable else None
        return problem or codes.explain(reply)


def _is_veo(call: Call) -> bool:
    return call.model.lower().startswith("veo")


def _look(call: Call) -> Update:
    if _is_veo(call):
        return gemini_media.look_at_operation(call)
    return gemini_media.look_at_interaction(call)


def compatible(call: Call, base: str) -> Completed:
    if call.task_type in IMAGES:
        return openai_images.create(call, base)
    if call.task_type != "chat":
        raise ProviderError("not_available", f"This server has no {call.task_type}.")
    done = openai_chat.complete(call, openai_chat.request(call), base + openai_chat.PATH)
    if words := refusals.refusal_in(done.text or "", phrases=refusals.phrases_of(call.executor)):
        raise refusals.refused(words)
    return done


def generate(call: Call) -> Completed:
    """Chat, streamed when asked for, or a picture. Raises ProviderError."""
    pictured = call.task_type in IMAGES
    if pictured and call.given().get("n", 1) != 1:
        raise ProviderError("bad_input", "This model makes one image at a time.")
    answer = Answer(paid=pictured)
    if pictured:
        _ask(call, answer, paid=True, max_bytes=openai_images.MAX_BYTES)
    elif call.stream:
        _stream(call, answer)
    else:
        _ask(call, answer, timeout=openai_chat.patience(call), max_bytes=MAX_CHAT)
    return answer.result(pictured=pictured, phrases=refusals.phrases_of(call.executor))


def _ask(call: Call, answer: Answer, **options: Any) -> None:
    path = f"/models/{quote(call.model)}:generateContent"
    answer.take(call.http.post(path, json=request(call), **options).object())


def _stream(call: Call, answer: Answer) -> None:
    path = f"/models/{quote(call.model)}:streamGenerateContent"
    seconds, query = openai_chat.patience(call), {"alt": "sse"}
    with call.http.stream("POST", path, json=request(call), query=query, timeout=seconds) as stream:
        for event in sse.events(stream.chunks()):
            text, reasoning, tools = answer.take(sse.parsed(event.data))
            if text or reasoning or tools:
                call.emit.delta(text, reasoning, tools or None)
    if answer.finish is None and not answer.blocked:
        raise ProviderError("transient", "The provider's answer broke off.", "upstream_cut")
