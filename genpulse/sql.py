"""Set-based writes: many rows in one statement, whose text depends on the columns alone."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper
from psycopg.types.json import Jsonb

# A sender that freezes between two statements is not idle for the server: only a cap on the whole transaction,
# which PostgreSQL has since 17, frees what it holds. Older servers get one statement at a time.
CAPPED = 170000
CAP = "SELECT set_config('transaction_timeout', %s, true)"
LONGEST = "15s"

Row = Sequence[Any]
Parameters = Sequence[Any] | Mapping[str, Any]


def unnest(types: Mapping[str, str], alias: str = "new") -> str:
    """`unnest(%s::uuid[], ...) AS new(id, ...)`: one array parameter for each column."""
    arrays = ", ".join(f"%s::{kind}[]" for kind in types.values())
    return f"unnest({arrays}) AS {alias}({', '.join(types)})"


def columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Rows -> the parameters of `unnest`. At least one row."""
    return [list(column) for column in zip(*rows, strict=True)]


def records(types: Mapping[str, str], alias: str = "new") -> str:
    """Like `unnest` with one JSON parameter, made by `dump`: several times cheaper for many columns."""
    columns_ = ", ".join(f"{name} {kind}" for name, kind in types.items())
    return f"json_to_recordset(%s) AS {alias}({columns_})"


def dump(types: Iterable[str], rows: Iterable[Row]) -> str:
    """Rows -> the parameter of `records`; values stand in the order of `types`."""
    names = list(types)
    return json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_plain)


def _plain(value: Any) -> Any:
    """What a row may hold besides JSON's own types."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.obj if isinstance(value, Jsonb) else str(value)


def insert(table: str, types: Mapping[str, str], rows: Sequence[Row]) -> None:
    """Insert `rows`, whose values stand in the order of `types`."""
    if rows:
        names = ", ".join(types)
        source = records(types)
        execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM {source}", [dump(types, rows)])  # noqa: S608


def _cursor() -> CursorWrapper:
    """Parameters go beside the statement, so that PostgreSQL keeps the plan of what comes again and again."""
    connection.ensure_connection()
    cursor: Any = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrap(cursor)


@contextmanager
def together(longest: str = LONGEST) -> Iterator[None]:
    """Statements of the block travel together: each waits only where its answer is read.

    What one of them refuses is raised where the next answer is read, or at the end. `execute` cannot count rows here,
    and `fetch` waits at once; `later` does not. A block inside another one is part of it. The first block of a
    transaction says how long that may last.
    """
    connection.ensure_connection()
    raw: Any = connection.connection
    if raw.info.server_version < CAPPED or raw.pgconn.pipeline_status:
        yield
        return
    with connection.wrap_database_errors, raw.pipeline():
        if connection.in_atomic_block:
            later(CAP, [longest])
        yield


class Answer:
    """What a query found, read when it is wanted."""

    def __init__(self, cursor: CursorWrapper) -> None:
        self._cursor = cursor

    def rows(self) -> list[tuple[Any, ...]]:
        return list(self._cursor.fetchall())

    def dicts(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        rows = self._cursor.fetchall()
        names: Iterable[str] = [column.name for column in self._cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in rows]


def later(statement: str, parameters: Parameters = ()) -> Answer:
    """Send one query in a block of `together`; only who reads the answer waits for it."""
    cursor = _cursor()
    cursor.execute(statement, parameters)
    return Answer(cursor)


def execute(statement: str, parameters: Parameters = ()) -> int:
    """Run one statement; the number of rows it touched."""
    with _cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def fetch(statement: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
    """Run one query; all its rows."""
    return later(statement, parameters).rows()


def fetch_dicts(statement: str, parameters: Parameters = ()) -> list[dict[str, Any]]:
    """Run one query; its rows by column name."""
    return later(statement, parameters).dicts()


def loads(value: Any) -> Any:
    """A jsonb column of `fetch`: Django leaves them as text for its own field to read."""
    return json.loads(value) if isinstance(value, str) else value
