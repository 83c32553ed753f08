"""`/api/v1/models` and `/api/v1/providers`."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import NotFound, ValidationFailed
from genpulse.http.parsing import Flag
from genpulse.http.views import NativeView
from providers import registry
from tasks import catalogue, insight

LARGEST = 100


class ModelFilter(BaseModel):
    """Filters, and the page; what may be used now comes first, so the first page is the useful one."""

    model_config = ConfigDict(extra="ignore")

    provider: str | None = None
    family: str | None = None
    task_type: str | None = None
    available: Flag | None = None
    q: str | None = Field(None, min_length=1, max_length=200)
    limit: int = Field(LARGEST, ge=1, le=LARGEST)
    cursor: str | None = None

    def takes(self, item: dict[str, Any]) -> bool:
        wanted = self.task_type and registry.task_type_of(self.task_type)
        return (
            self.provider in {None, item["provider"]}
            and self.family in {None, item["family"]}
            and (not wanted or wanted in item["task_types"])
            and self.available in {None, item["available"]}
            and (not self.q or self.q.lower() in f"{item['id']} {item['description']}".lower())
        )


class Models(NativeView):
    """The models that can be asked for by name."""

    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read"}
    queries: ClassVar[dict[str, type[BaseModel]]] = {"GET": ModelFilter}

    def get(self, request: Request) -> Response:
        wanted, picture = self.query(ModelFilter), insight.current()
        items = [catalogue.render(entry, picture) for entry in catalogue.entries()]
        found = sorted(filter(wanted.takes, items), key=place_of)
        rest = found if not wanted.cursor else [one for one in found if after(one, wanted.cursor)]
        page = rest[: wanted.limit]
        more = len(rest) > len(page)
        return Response(
            {
                "items": page,
                "next_cursor": cursor_of(page[-1]) if more else None,
                "has_more": more,
            }
        )


def place_of(item: dict[str, Any]) -> tuple[bool, str]:
    return (not item["available"], item["id"])


def cursor_of(item: dict[str, Any]) -> str:
    text = f"{int(item['available'])}:{item['id']}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def after(item: dict[str, Any], cursor: str) -> bool:
    """Raises ValidationFailed for a cursor that is none of ours."""
    try:
        available, _, name = (
            urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        )
        return place_of(item) > (not int(available), name)
    except ValueError:
        raise ValidationFailed.of(
            "cursor", "format", "want next_cursor of an earlier answer"
        ) from None


class OneModel(NativeView):
    """One model with the schema of its input and a body that can be sent."""

    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read"}

    def get(self, request: Request, name: str) -> Response:
        entry = catalogue.find(name)
        if entry is None:
            raise NotFound(f"There is no model {name!r}.")
        return Response({**catalogue.render(entry, insight.current()), **catalogue.details(entry)})


class Providers(NativeView):
    """Every provider of this installation, plug-ins too."""

    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read"}

    def get(self, request: Request) -> Response:
        return Response({"items": catalogue.providers()})
