"""Cursor lists: ordered by creation, stable while rows are added, one query."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet

from genpulse.errors import FieldCode, ValidationFailed

T = TypeVar("T", bound=Model)
DEFAULT_LIMIT, LARGEST_LIMIT = 20, 100


def paginate(
    queryset: QuerySet[T],
    params: Mapping[str, str],
    render: Callable[[T], Any],
    key: str = "pk",
) -> dict[str, Any]:
    """`{"items", "next_cursor", "has_more"}` by `key`, which must be unique and grow with creation.

    Reads `limit` (1-100), `cursor` and `order` (`desc`, `asc`) from `params`; raises ValidationFailed.
    """
    limit, order = _limit(params), _order(params)
    if params.get("cursor"):
        after = _read_cursor(queryset, key, params["cursor"])
        queryset = queryset.filter(**{f"{key}__gt" if order == "asc" else f"{key}__lt": after})
    rows = list(queryset.order_by(key if order == "asc" else f"-{key}")[: limit + 1])
    more = len(rows) > limit
    return {
        "items": [render(row) for row in rows[:limit]],
        "next_cursor": _cursor(getattr(rows[limit - 1], key)) if more else None,
        "has_more": more,
    }


def _limit(params: Mapping[str, str]) -> int:
    text = params.get("limit", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
        raise ValidationFailed.of("limit", "type", f"want a whole number from 1 to {LARGEST_LIMIT}")
    limit = int(text)
    if not 1 <= limit <= LARGEST_LIMIT:
        code: FieldCode = "too_small" if limit < 1 else "too_large"
        raise ValidationFailed.of("limit", code, f"must be from 1 to {LARGEST_LIMIT}")
    return limit


def _order(params: Mapping[str, str]) -> str:
    order = params.get("order", "desc")
    if order not in {"asc", "desc"}:
        raise ValidationFailed.of("order", "choice", "must be asc or desc")
    return order


def _cursor(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return urlsafe_b64encode(f"1:{text}".encode()).decode().rstrip("=")


def _read_cursor(queryset: QuerySet[T], key: str, text: str) -> Any:
    meta = queryset.model._meta
    fields: list[Any] = meta.pk_fields if key == "pk" else [meta.get_field(key)]
    with suppress(ValueError, ValidationError):
        version, _, value = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        parts = value.split(",") if len(fields) > 1 else [value]
        if version == "1" and len(parts) == len(fields):
            read = tuple(field.to_python(part) for field, part in zip(fields, parts, strict=True))
            return read if len(fields) > 1 else read[0]
    raise ValidationFailed.of("cursor", "format", "want next_cursor of an earlier answer")
