"""`/api/v1/usage` for everybody about the own tasks, `/api/v1/margin` for operators."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import ValidationFailed
from genpulse.http.parsing import AwareTime, CommaList, Id
from genpulse.http.views import NativeView
from tasks import reports


class UsageQuery(BaseModel):
    """`group_by`: any of day, model, key, user, tag; `since` <= created_at < `until`."""

    group_by: CommaList = Field(["day"], min_length=1, max_length=5)
    since: AwareTime | None = None
    until: AwareTime | None = None
    model: str | None = None
    key: Id | None = None
    tag: str | None = None
    user: str | None = None

    def groups(self) -> list[str]:
        """Each once, in the order asked for. Raises ValidationFailed."""
        for name in self.group_by:
            if name not in reports.USAGE_GROUPS:
                known = ", ".join(reports.USAGE_GROUPS)
                raise ValidationFailed.of("group_by", "choice", f"want any of {known}")
        return list(dict.fromkeys(self.group_by))


class UsageReport(NativeView):
    """What tasks were made and charged. Operators see everybody's, with what vendors took."""

    scopes: ClassVar[dict[str, str]] = {"GET": "wallet:read"}
    queries: ClassVar[dict[str, type[BaseModel]]] = {"GET": UsageQuery}

    def get(self, request: Request) -> Response:
        query = self.query(UsageQuery)
        account = self.read_account()
        wanted: dict[str, Any] = {
            name: getattr(query, name) for name in ("since", "until", "model", "key", "tag")
        }
        wanted["account"] = account and account.id
        items, total = reports.usage(query.groups(), wanted, costs=self.credential.has("admin"))
        return Response({"items": items, "total": total})


class MarginQuery(BaseModel):
    group: Literal["model", "provider", "day"] = "model"
    since: AwareTime | None = None
    until: AwareTime | None = None


class MarginReport(NativeView):
    """What was charged, what vendors took for it, and what they took for work that ended after its task."""

    scopes: ClassVar[dict[str, str]] = {"GET": "admin"}
    queries: ClassVar[dict[str, type[BaseModel]]] = {"GET": MarginQuery}

    def get(self, request: Request) -> Response:
        query = self.query(MarginQuery)
        items, total = reports.margin(query.group, query.since, query.until)
        return Response({"items": items, "total": total})
