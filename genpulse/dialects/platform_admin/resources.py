"""What all resources of the administration share: bare arrays, partial PUT, `{"status": "deleted"}`, snake case."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from django.db import transaction
from django.db.models import Model, QuerySet
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from rest_framework.response import Response

from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import render_time
from genpulse.http.views import DoorView
from genpulse.ids import parse_id

T = TypeVar("T", bound=Model)
ADMIN = dict.fromkeys(("GET", "POST", "PUT", "DELETE"), "admin")


class AdminBody(BaseModel):
    """Both spellings of a name are taken; names we do not know are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        populate_by_name=True,
        alias_generator=to_camel,
        loc_by_alias=False,
    )

    def named(self) -> dict[str, Any]:
        """Only what the body names, so that a PUT leaves the rest alone."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class PageQuery(BaseModel):
    """`?limit=100&offset=0`."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    offset: Annotated[int, Field(ge=0, le=10_000_000)] = 0


class ResourceView(DoorView, Generic[T]):
    """One kind of row."""

    scopes = ADMIN
    missing: ClassVar[type[NotFound]] = NotFound

    def rows(self) -> QuerySet[T]:
        raise NotImplementedError

    def render(self, row: T) -> dict[str, Any]:
        raise NotImplementedError

    def one(self, id_: str, *, locked: bool = False) -> T:
        known = parse_id(id_)
        rows = self.rows().select_for_update(of=("self",)) if locked else self.rows()
        row = rows.filter(pk=known).first() if known else None
        if row is None:
            raise self.missing
        return row

    def page(self) -> Response:
        query = self.query(PageQuery)
        rows = self.rows().order_by("pk")[query.offset : query.offset + query.limit]
        return Response([self.render(row) for row in rows])

    def make(self, create: Callable[[], T]) -> Response:
        """Run `create` once for an Idempotency-Key, in a transaction."""

        def answer() -> Answer:
            row = create()
            return Answer(status=200, body=self.render(self.one(str(row.pk))), object_id=row.pk)

        return self.reply(self.once(answer))

    def change(self, id_: str, apply: Callable[[T], None]) -> Response:
        with transaction.atomic():
            apply(self.one(id_, locked=True))
        return Response(self.render(self.one(id_)))

    @staticmethod
    def times(row: Any) -> dict[str, Any]:
        """The clocks of program and database differ by a little."""
        changed = max(row.created_at, row.updated_at)
        return {"created_at": render_time(row.created_at), "updated_at": render_time(changed)}

    @staticmethod
    def deleted() -> Response:
        return Response({"status": "deleted"})
