"""The chat dialect's work: `POST /v1/chat/completions` with `prompt`, `/v1/images/generations`, tasks and batches."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from django.http.response import HttpResponseBase
from pydantic import BaseModel, BeforeValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.config import config
from genpulse.dialects import chat_stream
from genpulse.dialects import chat_words as words
from genpulse.dialects.doors import DialectDoor, Wish, newest, shown
from genpulse.dialects.openai import failures
from genpulse.dialects.openai.chat import ChatAnswers
from genpulse.dialects.openai.chunks import Voice
from genpulse.dialects.openai.forms import File, FormControls, MixedDoor, named
from genpulse.errors import MediaRejected, NotFound, Problem, ValidationFailed
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import Flag, wrong
from genpulse.ids import new_id, parse_id
from media import services as media
from tasks import verbs
from tasks.models import TERMINAL, Batch, Task
from tasks.services import BatchSpec

TEXT_BYTES = 1 << 20


def _spoken(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise wrong("empty", "must not be blank")
    return value


Prompt = Annotated[str, Field(max_length=100_000), BeforeValidator(_spoken)]
ConversationId = Annotated[str, Field(min_length=1, max_length=128)]


class Asked(BaseModel):
    """What both ways of asking take."""

    prompt: Prompt
    model: str | None = None
    conversation_id: ConversationId | None = None
    priority: str | int | None = None
    callback_url: str | None = None
    seed: int | None = None
    sandbox: FormControls = None


class ChatIn(Asked):
    """POST /v1/chat/completions with `prompt`, as JSON or as a form with files."""

    mode: Literal["text", "image"] = "text"
    stream: Flag = False
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    gemini_concurrency: int = Field(1, ge=1, le=2)


class ImagesIn(Asked):
    """POST /v1/images/generations."""

    n: int = Field(1, ge=1, le=10)
    size: str | None = None
    negative_prompt: str | None = None
    images: list[str] | None = None


class ListIn(BaseModel):
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=10_000_000)


class ChatDoor(DialectDoor):
    takes_anonymous: ClassVar[bool] = True
    source: ClassVar[str] = "chat"

    def task(self, id_: str) -> Task:
        try:
            return super().task(id_)
        except NotFound:
            raise NotFound("Task not found") from None

    def dispatch_all(self, asked: Asked, fields: Mapping[str, Any], names: Sequence[str]) -> Answer:
        """One task for each name, in that order, in a conversation."""
        conversation = asked.conversation_id or str(new_id())
        callback = {"url": asked.callback_url, "style": "chat"} if asked.callback_url else None
        wishes = [
            Wish(
                fields={**fields, "model": name.partition("(#")[0], "priority": asked.priority},
                remembered={"model_name": name},
                callback=callback,
                conversation_id=conversation,
            )
            for name in names
        ]
        return self.submit(
            wishes,
            lambda ids: dispatched(ids, conversation),
            batch=BatchSpec(conversation_id=conversation),
        )


def dispatched(ids: Sequence[UUID], conversation: str) -> dict[str, Any]:
    batch = Task.objects.values_list("batch_id", flat=True).get(pk=ids[0])
    return {
        "batch_id": str(batch),
        "conversation_id": conversation,
        "message": "Tasks dispatched successfully",
        "task_ids": [str(id_) for id_ in ids],
        "task_id": str(ids[0]),
        "status": "PENDING",
    }


class Completions(MixedDoor, ChatDoor, ChatAnswers):
    """`prompt`: ask one or several models; the answers are read from tasks, batches or the conversation, or
    with `stream` here. `messages`: ask one model, in all as the OpenAI dialect does."""

    bodies = {"POST": ChatIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Chat."""
        one_way(self.body)
        if "messages" in self.body:
            self.say_as_openai()
            return self.completion()
        asked = self.parse(ChatIn)
        names = slots(model_names(asked.model, default_model(asked.mode)), asked.gemini_concurrency)
        drawn = asked.mode == "image"
        fields = {
            "task_type": "text-to-image" if drawn else "chat",
            "stream": asked.stream and not drawn,
        }
        with self.keeping({"files": self.files("files")}) as stored:
            given = with_files(chat_input(asked), stored, self.files("files"))
            answer = self.dispatch_all(asked, {**fields, "input": given}, names)
            if not answer.replayed:
                self.kept()
        return self.spoken(answer) if asked.stream else self.reply(answer)

    def spoken(self, answer: Answer) -> HttpResponseBase:
        """The answers as they are written; a replay gets those of the first request from the start."""
        tasks = Task.objects.filter(batch_id=answer.body["batch_id"], superseded=False)
        found = shown(list(tasks.order_by("batch_index")))
        voices = [
            Voice(
                task_id=str(one.row.id),
                model=one.remembered.get("model_name") or one.row.model or "",
                created=int(one.row.created_at.timestamp()),
                place=place,
                more={"task_id": str(one.row.id)},
            )
            for place, one in enumerate(found)
        ]
        response = chat_stream.respond(answer.body, found[0].row.account_id, voices)
        return self.labelled(response, answer)

    def handle_exception(self, exc: Exception) -> Any:
        """A client that sends `messages` reads refusals in OpenAI's envelope, from the first on."""
        if self.speaks_openai():
            self.say_as_openai()
        return super().handle_exception(exc)

    def speaks_openai(self) -> bool:
        try:
            return "messages" in self.body and "prompt" not in self.body
        except Problem:
            return False

    def say_as_openai(self) -> None:
        self.request._request.envelope = failures.envelope  # type: ignore[attr-defined]


def with_files(
    given: dict[str, Any], stored: Sequence[media.Asset], files: Sequence[File]
) -> dict[str, Any]:
    """Images beside the prompt, other files in a message before it."""
    images = [asset for asset in stored if asset.kind == "image"]
    parts = [
        part_of(asset, file)
        for asset, file in zip(stored, files, strict=True)
        if asset.kind != "image"
    ]
    if images:
        given["images"] = named(images)
    if parts:
        given["messages"] = [{"role": "user", "content": parts}]
    return given


def one_way(body: Mapping[str, Any]) -> None:
    """Raises ValidationFailed unless exactly one of `prompt` and `messages` is there."""
    if "prompt" in body and "messages" in body:
        raise ValidationFailed.of("messages", "exclusive", "send prompt or messages")
    if "prompt" not in body and "messages" not in body:
        raise ValidationFailed.of("prompt", "required", "Field required")


def part_of(asset: media.Asset, file: File) -> dict[str, Any]:
    """A message part in OpenAI's shape."""
    if asset.content_type == "application/pdf":
        held = {"filename": asset.filename, "file_data": f"asset:{asset.id}"}
        return {"type": "file", "file": held}
    if asset.kind != "text" or asset.size > TEXT_BYTES:
        raise MediaRejected("Only images, text up to 1 MiB and pdf go to a chat model.")
    file.seek(0)
    said = file.read().decode(errors="replace").replace("\0", "")
    return {"type": "text", "text": f"{asset.filename}:\n{said}"}


class Images(ChatDoor):
    """Ask one or several models for pictures."""

    bodies = {"POST": ImagesIn}

    def post(self, request: Request) -> Response:
        asked = self.parse(ImagesIn)
        given = without_nothing(
            asked, "prompt", "n", "size", "seed", "negative_prompt", "images", "sandbox"
        )
        kind = "image-to-image" if asked.images else "text-to-image"
        names = model_names(asked.model, config.default_image_model)
        return self.reply(self.dispatch_all(asked, {"task_type": kind, "input": given}, names))


def chat_input(asked: ChatIn) -> dict[str, Any]:
    common = ("prompt", "seed", "sandbox")
    if asked.mode == "image":
        return without_nothing(asked, *common)
    return without_nothing(asked, *common, "system", "temperature", "max_tokens", "top_p")


def without_nothing(asked: Asked, *names: str) -> dict[str, Any]:
    """Only what the body named, so that no model is sent what it may not know."""
    return {
        name: value
        for name in names
        if name in asked.model_fields_set and (value := getattr(asked, name)) is not None
    }


def default_model(mode: str) -> str:
    return config.default_image_model if mode == "image" else config.default_chat_model


def model_names(text: str | None, default: str) -> list[str]:
    """The models of a comma list, each once. Raises ValidationFailed for more than MAX_FANOUT_MODELS."""
    parts = [part.strip() for part in (text or "").split(",")]
    names = list(dict.fromkeys(part for part in parts if part and part != "on")) or [default]
    if len(names) > config.max_fanout_models:
        most = config.max_fanout_models
        raise ValidationFailed.of("model", "too_long", f"at most {most} models, not {len(names)}")
    return names


def slots(names: Sequence[str], concurrency: int) -> list[str]:
    """`name`, and for gemini models as many further `name(#1)` as are asked for."""
    return [
        f"{name}(#{place})" if place else name
        for name in names
        for place in range(concurrency if name.lower().startswith("gemini") else 1)
    ]


class Tasks(ChatDoor):
    queries = {"GET": ListIn}

    def get(self, request: Request) -> Response:
        asked = self.query(ListIn)
        tasks = self.listed(Task.objects.filter(hidden_at=None))
        found = shown(newest(tasks, asked.limit, asked.offset))
        return Response({"tasks": [words.document(one) for one in found], "total": tasks.count()})


class OneTask(ChatDoor):
    def get(self, request: Request, id_: str) -> Response:
        return Response(words.document(self.one(id_)))


class CancelTask(ChatDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        verbs.cancel([task.id], by=self.credential.user.name)
        return Response(words.document(self.again(task.id)))


class BatchDoor(ChatDoor):
    def batch(self, id_: str) -> Batch:
        key = parse_id(id_)
        visible = self.visible(Batch.objects.filter(hidden_at=None))
        found = visible.filter(pk=key).first() if key else None
        if found is None:
            raise NotFound("Batch ID not found")
        return found


class OneBatch(BatchDoor):
    def get(self, request: Request, id_: str) -> Response:
        return Response(batch_document(self.batch(id_)))


class CancelBatch(BatchDoor):
    def post(self, request: Request, id_: str) -> Response:
        batch = self.batch(id_)
        open_ = Task.objects.filter(batch=batch).exclude(status__in=TERMINAL)
        Batch.objects.filter(pk=batch.id).update(cancel_requested=True)
        verbs.cancel(list(open_.values_list("pk", flat=True)), by=self.credential.user.name)
        return Response(batch_document(Batch.objects.get(pk=batch.id)))


def batch_document(batch: Batch) -> dict[str, Any]:
    children = Task.objects.filter(batch=batch, superseded=False).order_by("batch_index")
    return words.batch(batch, shown(list(children)))
