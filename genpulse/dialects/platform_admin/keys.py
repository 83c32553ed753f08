"""`/api/admin/api-keys`: the vendors' keys. What was put in never comes out again."""

from typing import Annotated, Any, Literal

from django.db.models import QuerySet
from pydantic import Field, JsonValue, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import condition, editing, fleet
from admin_integrations.models import Credential
from genpulse.dialects.platform_admin.executors import Name, Share, Word
from genpulse.dialects.platform_admin.resources import AdminBody, PageQuery, ResourceView
from genpulse.errors import NotFound
from genpulse.http.parsing import AwareTime, render_time

Secret = Annotated[str, StringConstraints(min_length=1, max_length=4096, strip_whitespace=True)]
WISHES = {"active", "disabled"}


class ApiKeyNotFound(NotFound):
    """No such key."""

    code = "api_key_not_found"


class KeyChange(AdminBody):
    """`PUT /api/admin/api-keys/{id}`. Of `status` only `active` and `disabled` are a wish; the others are answers."""

    provider: Word = Field(default_factory=str)  # not sent: nothing changes
    name: Name = Field(default_factory=str)  # not sent: nothing changes
    key: Secret = Field(default_factory=str)  # not sent: nothing changes
    base_url: Annotated[str, StringConstraints(max_length=500, strip_whitespace=True)] | None = None
    status: Literal["active", "disabled", "exhausted", "cooling", "expired"] = "active"
    daily_quota: Annotated[int, Field(ge=0, le=2_000_000_000)] | None = None
    max_concurrency: Share | None = None
    expire_at: AwareTime | None = None
    metadata: dict[str, JsonValue] = {}

    def apply(self, key: Credential) -> None:
        values = self.named()
        secret = values.pop("key", None)
        if values.get("status") not in WISHES:
            values.pop("status", None)
        if "base_url" in values:
            values["base_url"] = values["base_url"] or ""
        for name, value in values.items():
            setattr(key, name, value)
        lifts = values.get("status") == Credential.Status.ACTIVE or "base_url" in values
        editing.save_key(key, secret, lifts=lifts)


class NewKey(KeyChange):
    """`POST /api/admin/api-keys`. Without `base_url` it is bound to the first executor that gets it."""

    provider: Word
    name: Name
    key: Secret


class KeyViews(ResourceView[Credential]):
    missing = ApiKeyNotFound

    def rows(self) -> QuerySet[Credential]:
        return Credential.objects.prefetch_related("cooldowns")

    def render(self, row: Credential) -> dict[str, Any]:
        return {
            "id": str(row.id),
            "provider": row.provider,
            "name": row.name,
            "key_masked": f"****{row.last4}",
            "base_url": row.base_url,
            "status": condition.key_status(row),
            "daily_quota": row.daily_quota,
            "max_concurrency": row.max_concurrency,
            "expire_at": render_time(row.expire_at),
            "usage_count": row.usage_count,
            "used_today": condition.used_today(row),
            "cooldown_until": render_time(condition.cooldown_until(row)),
            "metadata": row.metadata,
            **self.times(row),
        }


class Keys(KeyViews):
    """The vendors' keys, masked."""

    bodies = {"POST": NewKey}
    queries = {"GET": PageQuery}

    def get(self, request: Request) -> Response:
        return self.page()

    def post(self, request: Request) -> Response:
        return self.make(self.create)

    def create(self) -> Credential:
        key = Credential()
        self.parse(NewKey).apply(key)
        return key


class OneKey(KeyViews):
    """One key. A new secret, or `status: active`, ends what the vendor had against it."""

    bodies = {"PUT": KeyChange}

    def get(self, request: Request, id_: str) -> Response:
        return Response(self.render(self.one(id_)))

    def put(self, request: Request, id_: str) -> Response:
        return self.change(id_, self.parse(KeyChange).apply)

    def delete(self, request: Request, id_: str) -> Response:
        self.one(id_).delete()
        fleet.forget()
        return self.deleted()
