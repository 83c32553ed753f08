"""From bytes to typed values: strict JSON first, then a pydantic model, refusals in our own words.

Native bodies derive from `Body`, which is closed and takes no number for a text. Texts that spell a
value (times, durations, money, ids) use the annotated types below.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, cast, overload
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from genpulse.errors import FieldCode, FieldError, ValidationFailed
from genpulse.money import to_micro

M = TypeVar("M", bound=BaseModel)

CODES: dict[str, FieldCode] = {
    "missing": "required",
    "union_tag_not_found": "required",
    "extra_forbidden": "unknown",
    "string_too_long": "too_long",
    "bytes_too_long": "too_long",
    "too_long": "too_long",
    "greater_than": "too_small",
    "greater_than_equal": "too_small",
    "less_than": "too_large",
    "less_than_equal": "too_large",
    "int_parsing_size": "too_large",
    "literal_error": "choice",
    "enum": "choice",
    "union_tag_invalid": "choice",
    "multiple_of": "format",
    "finite_number": "format",
    "string_pattern_mismatch": "format",
    "string_unicode": "format",
    "value_error": "format",
    "assertion_error": "format",
}
OWN_CODES = {"empty", "exclusive", "unique", "unknown_model", "too_small", "too_large", "choice"}
OWN_CODES |= {"format", "type", "required", "unknown", "too_short", "too_long"}
TOO_SHORT = {"string_too_short", "too_short", "bytes_too_short"}
MOST_ERRORS = 100
FORMATS = ("uuid_", "url_", "datetime_", "date_", "time_", "timezone_", "json_", "decimal_max")


class Body(BaseModel):
    """A native request body: closed, and no value is guessed from another type."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


def parse(model: type[M], data: object, *, prefix: str = "") -> M:
    """`data` as a `model`. Raises ValidationFailed; fields are dotted, below `prefix` when given."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise refusal(error, data, prefix=prefix) from None


def refusal(error: ValidationError, data: object, *, prefix: str = "") -> ValidationFailed:
    """The same complaints as fields, codes and messages of the contract."""
    details = error.errors(include_url=False)[:MOST_ERRORS]
    items = [_item(detail, data, prefix) for detail in details]
    fields = {item.field for item in items}
    unique: dict[str, FieldError] = {}
    for item in items:
        # A union complains once for each member; the one that looked deepest says the most.
        if not any(other.startswith(f"{item.field}.") for other in fields):
            unique.setdefault(item.field, item)
    first = next(iter(unique.values()))
    more = f" (and {len(unique) - 1} more)" if len(unique) > 1 else ""
    return ValidationFailed(f"{first.field}: {first.message}{more}", errors=list(unique.values()))


def _item(detail: ErrorDetails, data: object, prefix: str) -> FieldError:
    path = ".".join([prefix] * bool(prefix) + list(_steps(detail, data)))
    return FieldError(path or "body", _code(detail), detail["msg"])


def _steps(detail: ErrorDetails, data: object) -> Iterator[str]:
    """Parts of the place that lead through the data; the others are labels of union members."""
    loc = detail["loc"]
    for index, part in enumerate(loc):
        missing = detail["type"] == "missing" and index == len(loc) - 1
        field = index == 0 or missing  # by its own name, which an alias may have spelt otherwise
        if isinstance(data, Mapping) and (part in data or field):
            data = data.get(part)
            yield str(part)
        elif isinstance(data, (list, tuple)) and isinstance(part, int):
            data = data[part] if part < len(data) else None
            yield str(part)


def _code(detail: ErrorDetails) -> FieldCode:
    kind = detail["type"]
    if kind in OWN_CODES and kind not in CODES and kind not in TOO_SHORT:
        return cast(FieldCode, kind)
    if kind in TOO_SHORT:
        return "empty" if detail.get("ctx", {}).get("min_length") == 1 else "too_short"
    if kind.startswith(FORMATS) and not kind.endswith("_type"):
        return "format"
    return CODES.get(kind, "type")


def wrong(code: FieldCode, message: str) -> PydanticCustomError:
    """What a validator of a model raises: the code of the contract and the way to fix it."""
    return PydanticCustomError(code, cast(Any, message))


DURATION = re.compile(r"(\d{1,9})([smhd]?)")
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
AMOUNT = re.compile(r"-?\d{1,18}(\.\d+)?", re.ASCII)


def _duration(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise wrong("too_small", "must not be negative")
        return value
    if not isinstance(value, str):
        raise wrong("type", "want whole seconds or a text such as 30s, 10m, 2h, 1d")
    match = DURATION.fullmatch(value)
    if not match:
        raise wrong("format", "want whole seconds or a text such as 30s, 10m, 2h, 1d")
    return int(match[1]) * UNITS[match[2]]


def _money(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise wrong("type", "want credits as a decimal text or a number")
    if isinstance(value, str) and not AMOUNT.fullmatch(value):
        raise wrong("format", 'want credits as plain decimal text such as "1.5"')
    try:
        return to_micro(value)
    except ValueError as error:
        code: FieldCode = "too_large" if "range" in str(error) else "format"
        raise wrong(code, str(error)) from None


def _time(value: Any) -> datetime:
    if not isinstance(value, str):
        raise wrong("type", "want an RFC 3339 time as text")
    if not RFC3339.fullmatch(value):
        raise wrong("format", "want RFC 3339 with an offset, such as 2026-11-21T10:00:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong("format", "no such time") from None


def _words(value: Any) -> Any:
    return (
        [word.strip() for word in value.split(",") if word.strip()]
        if isinstance(value, str)
        else value
    )


def _flag(value: Any) -> bool:
    flags = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in flags:
        raise wrong("choice", "want true, false, 1 or 0")
    return flags[str(value).lower()]


Duration = Annotated[int, BeforeValidator(_duration)]  # seconds
MoneyMicro = Annotated[int, BeforeValidator(_money)]  # micro-credits
AwareTime = Annotated[datetime, BeforeValidator(_time)]  # in UTC
Id = Annotated[UUID, Strict(strict=False)]
CommaList = Annotated[list[str], BeforeValidator(_words)]  # query: `a,b`
Flag = Annotated[bool, BeforeValidator(_flag)]  # query: true, false, 1, 0


@overload
def render_time(value: datetime) -> str: ...
@overload
def render_time(value: None) -> None: ...
@overload
def render_time(value: datetime | None) -> str | None: ...
def render_time(value: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds: `2026-11-21T10:00:00.123Z`."""
    if value is None:
        return None
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
