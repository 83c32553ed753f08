"""Set-based writes: many rows in one statement, whose text depends on the columns alone."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection

Row = Sequence[Any]
Parameters = Sequence[Any] | Mapping[str, Any]


def unnest(types: Mapping[str, str], alias: str = "new") -> str:
    """`unnest(%s::uuid[], ...) AS new(id, ...)`: one array parameter for each column."""
    arrays = ", ".join(f"%s::{kind}[]" for kind in types.values())
    return f"unnest({arrays}) AS {alias}({', '.join(types)})"


def columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows -> the parameters of `unnest`. At least one row."""
    return [list(column) for column in zip(*rows, strict=True)]


def insert(table: str, types: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Insert `rows`, whose values stand in the order of `types`."""
    if rows:
        names = ", ".join(types)
        source = unnest(types)
        execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {source}", columns(rows))  # noqa: S608


def execute(statement: str, parameters: Parameters = ()) -> int:
    """Run one statement; the number of rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def fetch(statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
    """Run one query; all its rows."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return list(cursor.fetchall())


def fetch_dicts(statement: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Run one query; its rows by column name."""
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        names: Iterable[str] = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def loads(value: Any) -> Any:
    """A jsonb column of `fetch`: Django leaves them as text for its own field to read."""
    return json.loads(value) if isinstance(value, str) else value
