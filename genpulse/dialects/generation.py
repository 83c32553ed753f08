"""The generation dialect: `/task`, `/handlers`, `/storage/upload`."""

from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar, cast

from django.core.files.uploadedfile import UploadedFile
from pydantic import BaseModel, Field, JsonValue
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import fleet
from admin_integrations.models import Executor
from admin_integrations.models import Wish as OperatorsWish
from genpulse.config import config
from genpulse.dialects.doors import VIDEO_TYPES, DialectDoor, Wish, newest, words_for
from genpulse.dialects.generation_words import WORDS, documents
from genpulse.errors import (
    BodyTooLarge,
    FieldError,
    NotFound,
    PermissionDenied,
    UnknownProvider,
    UrlNotAllowed,
    ValidationFailed,
)
from genpulse.http import idempotency
from genpulse.http.idempotency import Answer
from media import services as media
from providers import registry
from providers.base import TASK_TYPES
from tasks import verbs
from tasks.models import Task

COMFY, COZE = "comfy-workflow", "coze-workflow"
OWN = {"provider", "model", "image", "image_url", "images", "video_url", "audio_url", "size"}
DAY = 86400


class TaskIn(BaseModel):
    """POST /task."""

    task_type: str
    params: dict[str, JsonValue]
    provider: str | None = None
    model: str | None = None
    priority: str | int | None = None
    callback_url: str | None = None


class ListIn(BaseModel):
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=10_000_000)
    status: str | None = None


class GenerationDoor(DialectDoor):
    takes_anonymous: ClassVar[bool] = True
    source: ClassVar[str] = "generation"
    input_at: ClassVar[str] = "params."

    def task(self, id_: str) -> Task:
        try:
            return super().task(id_)
        except NotFound:
            raise NotFound("Task not found") from None


class Tasks(GenerationDoor):
    """POST: submit. GET: list."""

    bodies = {"POST": TaskIn}
    queries = {"GET": ListIn}

    def get(self, request: Request) -> Response:
        asked = self.query(ListIn)
        tasks = self.listed(Task.objects.filter(hidden_at=None))
        if asked.status:
            tasks = tasks.filter(status__in=words_for(WORDS, asked.status))
        return Response(
            {
                "tasks": documents(newest(tasks, asked.limit, asked.offset)),
                "total": tasks.count(),
                "limit": asked.limit,
                "offset": asked.offset,
            }
        )

    def post(self, request: Request) -> Response:
        wish = wish_of(self.parse(TaskIn))
        answer = self.submit(
            [wish],
            lambda ids: {
                "task_id": str(ids[0]),
                "status": "pending",
                "message": "Task received and queued",
            },
        )
        return self.reply(answer)


class OneTask(GenerationDoor):
    def get(self, request: Request, id_: str) -> Response:
        return Response(documents([self.task(id_)])[0])


class CancelTask(GenerationDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        verbs.cancel([task.id], by=self.credential.user.name)
        return Response(documents([Task.objects.get(pk=task.id)])[0])


class Handlers(GenerationDoor):
    """Which providers can do which task type."""

    def get(self, request: Request) -> Response:
        by_type = {kind: sorted(providers_of(kind)) for kind in TASK_TYPES}
        items = [
            {"task_type": kind, "providers": names} for kind, names in by_type.items() if names
        ]
        return Response({"handlers": items})


class StorageUpload(GenerationDoor):
    """multipart/form-data with `file`; the answer's URL serves it for a day."""

    scopes: ClassVar[dict[str, str]] = {"POST": "media"}
    parser_classes = [MultiPartParser]

    def post(self, request: Request) -> Response:
        if self.account.uploads_blocked:
            raise PermissionDenied("Uploads are blocked for this user.")
        file = self._file(request)
        asset = media.prepare(
            self.account.id,
            cast("BinaryIO", file.file),
            filename=file.name,
            content_type=file.content_type,
            origin="upload",
        )
        answer: Answer | None = None
        try:
            answer = idempotency.idempotent(
                self._scope(asset), create=lambda: self._create(asset), refresh=uploaded
            )
        finally:
            if answer is None or answer.replayed:
                media.discard([asset])
        return self.reply(answer)

    def _create(self, asset: media.Asset) -> Answer:
        asset.account = self.account
        media.insert(asset)
        return Answer(status=200, body=uploaded(asset.id), object_id=asset.id)

    def _scope(self, asset: media.Asset) -> idempotency.Scope | None:
        key = idempotency.key_of(self.request.headers, {})
        if key is None:
            return None
        return idempotency.Scope(
            owner=self.user.name,
            route=f"{self.request.method} {self.request.path_info}",
            key=key,
            fingerprint=idempotency.fingerprint({}, [("file", bytes.fromhex(asset.sha256))]),
        )

    @staticmethod
    def _file(request: Request) -> "UploadedFile[Any]":
        sent = [file for name in request.FILES for file in request.FILES.getlist(name)]
        if len(sent) != 1 or "file" not in request.FILES:
            raise ValidationFailed.of("file", "required", "send exactly one file as `file`")
        file: UploadedFile[Any] = sent[0]
        if (file.size or 0) > config.max_upload_bytes:
            raise BodyTooLarge(limit=config.max_upload_bytes)
        return file


def uploaded(asset_id: Any) -> dict[str, Any]:
    asset = media.Asset.objects.filter(pk=asset_id, deleted_at=None).first()
    if asset is None:
        return {}
    extension = asset.key.rpartition(".")[2]
    return {
        "url": media.sign(asset, ttl=DAY).url,
        "key": f"uploads/{asset.id}.{extension}",
        "content_type": asset.content_type,
    }


def wish_of(body: TaskIn) -> Wish:
    """Raises ValidationFailed naming the field."""
    kind = registry.task_type_of(body.task_type)
    params = body.params
    fields: dict[str, Any] = {"task_type": kind, "priority": body.priority}
    if kind == COMFY:
        fields |= comfy_fields(params)
    else:
        fields["input"] = input_of(params)
        fields["model"] = body.model or text_of(params, "model")
    if "workflow" not in fields:
        named = body.provider or text_of(params, "provider")
        fields["provider"] = named or default_provider(kind, fields.get("model"))
    callback = {"url": body.callback_url, "style": "generation"} if body.callback_url else None
    return Wish(fields=fields, remembered={"task_type": body.task_type}, callback=callback)


def text_of(params: Mapping[str, Any], name: str) -> str | None:
    value = params.get(name)
    if value is not None and not isinstance(value, str):
        raise ValidationFailed.of(f"params.{name}", "type", "want a text")
    return value or None


def input_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """The common names; everything else goes to the model as it is."""
    given = {name: value for name, value in params.items() if name not in OWN}
    images = params.get("images") or []
    if not isinstance(images, list):
        raise ValidationFailed.of("params.images", "type", "want a list")
    images = [*images, *(params[name] for name in ("image", "image_url") if params.get(name))]
    if images:
        given["images"] = images
    for name in ("video", "audio"):
        if params.get(f"{name}_url"):
            given[name] = params[f"{name}_url"]
    size = params.get("size")
    if size is not None:
        given["size"] = size.replace("*", "x") if isinstance(size, str) else size
    return given


def comfy_fields(params: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: params[name] for name in ("workflow", "inputs", "sandbox") if name in params}
    fields: dict[str, Any] = {"input": given}
    name = text_of(params, "workflow_name")
    if name and "workflow" not in params:
        fields |= {"workflow": name, "task_type": None}
    address = text_of(params, "server_address")
    if address:
        fields["executor"] = {"only": [server_named(address)]}
    return fields


def default_provider(kind: str, model: str | None) -> str | None:
    """None: the model's family decides. Raises UnknownProvider."""
    if kind in {COMFY, COZE}:
        return "comfyui" if kind == COMFY else "coze"
    if model:
        return None
    wanted = configured_provider(kind)
    if wanted:
        return wanted
    active = {e.type for e in fleet.current().executors if e.status == "active"} - {"sandbox"}
    fitting = sorted(active & providers_of(kind, concrete=True))
    if not fitting:
        message = f"Nobody is configured for {kind}; add an executor or name the provider sandbox."
        raise UnknownProvider(
            message,
            errors=[FieldError("provider", "choice", message)],
            known=sorted(provider.name for provider in registry.all_providers()),
        )
    return fitting[0]


def configured_provider(kind: str) -> str:
    if kind in VIDEO_TYPES:
        return config.default_video_provider
    return {
        "chat": config.default_chat_provider,
        "text-to-image": config.default_image_provider,
        "image-to-image": config.default_image_provider,
        "text-to-audio": config.default_audio_provider,
        "audio-to-text": config.default_audio_provider,
    }.get(kind, "")


def providers_of(kind: str, *, concrete: bool = False) -> set[str]:
    """Who declares models of that type; `concrete`: by a name that can be the default."""
    return {
        provider.name
        for provider in registry.all_providers()
        for model in provider.models
        if kind in model.task_types and not (concrete and model.name.endswith("*"))
    }


def server_named(address: str) -> str:
    """The name of the ComfyUI executor at that address; one of COMFY_ALLOWED_HOSTS is made. Raises UrlNotAllowed."""
    url = plain_url(address)
    servers = Executor.objects.filter(type="comfyui").order_by("name")
    known = [server for server in servers if plain_url(server.base_url) == url]
    enabled = [server.name for server in known if server.status == OperatorsWish.ACTIVE]
    if enabled:
        return enabled[0]
    host = url.partition("://")[2]
    if known or host not in {allowed.lower() for allowed in config.comfy_allowed_hosts or ()}:
        raise _no_server(
            "This server is no enabled ComfyUI executor and not in COMFY_ALLOWED_HOSTS."
        )
    # A twin may be faster.
    found, _ = Executor.objects.get_or_create(
        name=f"comfyui-{host.replace(':', '-')}", defaults={"type": "comfyui", "base_url": url}
    )
    if plain_url(found.base_url) != url:
        raise _no_server(f"The executor {found.name!r} has another address: rename it.")
    fleet.forget()
    return found.name


def _no_server(message: str) -> UrlNotAllowed:
    return UrlNotAllowed(message, errors=[FieldError("params.server_address", "choice", message)])


def plain_url(address: str) -> str:
    """Scheme, host, port and path, so that equal servers have equal texts."""
    scheme, found, rest = address.strip().rpartition("://")
    return f"{scheme.lower() if found else 'http'}://{rest.rstrip('/').lower()}"
