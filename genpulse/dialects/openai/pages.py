"""Lists of this dialect: `after` is the id of the last object seen."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar
from uuid import UUID

from django.db.models import Model, QuerySet
from pydantic import BaseModel, ConfigDict, Field

from genpulse.errors import ValidationFailed

M = TypeVar("M", bound=Model)


class PageIn(BaseModel):
    """`?after=&limit=20&order=desc`."""

    model_config = ConfigDict(extra="ignore")

    after: str | None = None
    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


def page(
    rows: QuerySet[M],
    asked: PageIn,
    read_id: Callable[[str], UUID | None],
    render: Callable[[list[M]], list[dict[str, Any]]],
) -> dict[str, Any]:
    """Rows by their id, which tells their age. Raises ValidationFailed for an `after` that is no id."""
    newest_first = asked.order == "desc"
    if asked.after is not None:
        last = read_id(asked.after)
        if last is None:
            raise ValidationFailed.of("after", "format", "want the id of an object of this list")
        rows = rows.filter(**{"pk__lt" if newest_first else "pk__gt": last})
    found = list(rows.order_by("-pk" if newest_first else "pk")[: asked.limit + 1])
    data = render(found[: asked.limit])
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(found) > asked.limit,
    }


def hex_id(text: str, prefix: str) -> UUID | None:
    """The id behind `<prefix><32 hex>`; None for anything else."""
    word = text.removeprefix(prefix)
    if word == text or len(word) != 32 or word != word.lower():
        return None
    try:
        return UUID(hex=word)
    except ValueError:
        return None
