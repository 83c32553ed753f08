"""The one JSON reader of all doors: what it lets through can be stored in PostgreSQL and read again."""

import json
import math
from collections.abc import Iterator
from typing import IO, Any, NoReturn

from rest_framework.parsers import BaseParser

from genpulse.config import config
from genpulse.errors import BodyTooLarge, MalformedBody, ValidationFailed

MAX_DEPTH = 64


class StrictJSONParser(BaseParser):
    """`application/json` -> dict. Raises MalformedBody, BodyTooLarge, ValidationFailed."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> dict[str, Any]:
        raw = stream.read(config.max_body_bytes + 1)
        if len(raw) > config.max_body_bytes:
            raise BodyTooLarge(limit=config.max_body_bytes)
        return loads(raw)


def loads(raw: bytes) -> dict[str, Any]:
    """A JSON object: finite numbers, at most 64 levels, texts that PostgreSQL can hold."""
    try:
        text = raw.decode()
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise MalformedBody("The body is not valid JSON.") from error
    if not isinstance(data, dict):
        raise MalformedBody("The body must be a JSON object.")
    if text.count("{") + text.count("[") > MAX_DEPTH or "\\u" in text:
        _inspect(data)
    return data


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(digits)
    return value


def _inspect(data: dict[str, Any]) -> None:
    """Depth, and texts that PostgreSQL refuses: NUL characters and halves of surrogate pairs."""
    pending: list[tuple[str, Any, int]] = [("", data, 1)]
    while pending:
        path, value, depth = pending.pop()
        if isinstance(value, str):
            storable(path, value)
        elif isinstance(value, (dict, list)):
            if depth > MAX_DEPTH:
                raise MalformedBody(f"The body is nested deeper than {MAX_DEPTH} levels.")
            pending.extend((_join(path, key), item, depth + 1) for key, item in _items(path, value))


def _items(path: str, value: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, list):
        yield from enumerate(value)
        return
    for key, item in value.items():
        storable(path or "body", key)
        yield key, item


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def storable(path: str, text: str) -> None:
    """Raises ValidationFailed for a text that PostgreSQL would refuse."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationFailed.of(path, "format", "must not hold unpaired surrogates") from None
    if "\x00" in text:
        raise ValidationFailed.of(path, "format", "must not hold NUL characters")
