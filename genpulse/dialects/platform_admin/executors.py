"""`/api/admin/executors`: the servers and vendor accounts that run work."""

from typing import Annotated, Any
from uuid import UUID

from django.db.models import QuerySet
from pydantic import Field, JsonValue, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import condition, editing
from admin_integrations.models import Credential, Dispatch, Executor, Wish
from genpulse.dialects.platform_admin.resources import AdminBody, PageQuery, ResourceView
from genpulse.errors import NotFound, ValidationFailed
from genpulse.http.parsing import Id, render_time
from tasks import departures

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=50)]
Share = Annotated[int, Field(ge=1, le=1_000_000)]


class ExecutorNotFound(NotFound):
    """No such executor."""

    code = "executor_not_found"


class ExecutorChange(AdminBody):
    """`PUT /api/admin/executors/{id}`."""

    name: Name = Field(default_factory=str)  # not sent: nothing changes
    type: Word = Field(default_factory=str)  # not sent: nothing changes
    base_url: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] = ""
    dispatch: Annotated[Dispatch, Field(strict=False)] = Dispatch.CELERY
    status: Annotated[Wish, Field(strict=False)] = Wish.ACTIVE
    weight: Share = 1
    max_concurrency: Share = 1
    region: Annotated[str, StringConstraints(max_length=50)] | None = None
    tags: Annotated[list[Word], Field(max_length=50)] = []
    config: dict[str, JsonValue] = {}
    api_key_ids: Annotated[list[Id], Field(max_length=100)] = []

    def apply(self, executor: Executor) -> None:
        values = self.named()
        keys = keys_of(values.pop("api_key_ids")) if "api_key_ids" in values else None
        for name, value in values.items():
            setattr(executor, name, "" if value is None else value)
        editing.save_executor(executor, keys)


class NewExecutor(ExecutorChange):
    """`POST /api/admin/executors`."""

    name: Name
    type: Word


def keys_of(ids: list[UUID]) -> list[Credential]:
    """The credentials of these ids, in order. Raises ValidationFailed."""
    found = Credential.objects.in_bulk(ids)
    if len(found) < len(set(ids)):
        raise ValidationFailed.of("api_key_ids", "choice", "names a key that does not exist")
    return list(found.values())


class ExecutorViews(ResourceView[Executor]):
    missing = ExecutorNotFound

    def rows(self) -> QuerySet[Executor]:
        return Executor.objects.prefetch_related("credentials", "cooldowns")

    def render(self, row: Executor) -> dict[str, Any]:
        return {
            "id": str(row.id),
            "name": row.name,
            "type": row.type,
            "base_url": row.base_url,
            "dispatch": row.dispatch,
            "status": row.status,
            "weight": row.weight,
            "max_concurrency": row.max_concurrency,
            "region": row.region,
            "tags": row.tags,
            "config": row.config,
            "api_key_ids": sorted(str(key.id) for key in row.credentials.all()),
            "health_status": condition.word(row),
            "last_heartbeat_at": render_time(row.last_heartbeat_at),
            **self.times(row),
        }


class Executors(ExecutorViews):
    """Executors; a new one takes work within two seconds."""

    bodies = {"POST": NewExecutor}
    queries = {"GET": PageQuery}

    def get(self, request: Request) -> Response:
        return self.page()

    def post(self, request: Request) -> Response:
        return self.make(self.create)

    def create(self) -> Executor:
        executor = Executor()
        self.parse(NewExecutor).apply(executor)
        return executor


class OneExecutor(ExecutorViews):
    """One executor. DELETE of a busy one answers `draining`: it goes when its work is done."""

    bodies = {"PUT": ExecutorChange}

    def get(self, request: Request, id_: str) -> Response:
        return Response(self.render(self.one(id_)))

    def put(self, request: Request, id_: str) -> Response:
        return self.change(id_, self.parse(ExecutorChange).apply)

    def delete(self, request: Request, id_: str) -> Response:
        executor = self.one(id_)
        editing.ask_to_remove(executor)
        gone = departures.finish(executor.id)
        return self.deleted() if gone else Response({"status": "draining"})
