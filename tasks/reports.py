"""What tasks came to: counts and charges for their owners, costs and margin for operators."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from genpulse import sql
from genpulse.money import to_credits

DAY = "to_char(t.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
USAGE_GROUPS = {
    "day": DAY,
    "model": "t.model",
    "key": "t.key_id::text",
    "user": "a.name",
    "tag": "tagged.tag",
}
MARGIN_GROUPS = {"model": "{0}.model", "provider": "{0}.provider", "day": DAY}
FILTERS = {
    "since": "t.created_at >= %(since)s",
    "until": "t.created_at < %(until)s",
    "model": "t.model = %(model)s",
    "key": "t.key_id = %(key)s",
    "tag": "t.tags @> ARRAY[%(tag)s]::varchar[]",
    "account": "t.account_id = %(account)s",
}
TAGS = "LEFT JOIN LATERAL unnest(t.tags) AS tagged(tag) ON true"
USAGE = """
SELECT $columns count(*) AS count, count(*) FILTER (WHERE t.status = 'succeeded') AS succeeded,
  count(*) FILTER (WHERE t.status IN ('failed', 'expired')) AS failed,
  coalesce(sum(t.charged), 0)::bigint AS charged, coalesce(sum(t.vendor_cost), 0)::bigint AS vendor_cost
FROM tasks_task t JOIN accounts_account a ON a.id = t.account_id $joins WHERE $where $grouped
"""
# A job that ended after its task was booked at its attempt alone.
MARGIN = """
SELECT name AS "group", sum(count)::bigint AS count, sum(charged)::bigint AS charged,
  sum(vendor_cost)::bigint AS vendor_cost, sum(late_cost)::bigint AS late_cost
FROM (
  SELECT $of_task AS name, 1 AS count, t.charged, coalesce(t.vendor_cost, 0) AS vendor_cost, 0 AS late_cost
  FROM tasks_task t WHERE $where
  UNION ALL
  SELECT $of_attempt, 0, 0, 0, late.vendor_cost
  FROM tasks_attempt late JOIN tasks_task t ON t.id = late.task_id
  WHERE late.late AND late.vendor_cost IS NOT NULL AND $where
) AS booked GROUP BY name ORDER BY name
"""


def usage(
    groups: Sequence[str], wanted: Mapping[str, Any], *, costs: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One item for each combination of `groups` (USAGE_GROUPS) that occurs, and the total over all tasks.

    `wanted`: values for FILTERS, None = any. `costs`: with what vendors took.
    """
    items = _usage(groups, wanted)
    [total] = _usage([], wanted)
    hidden = set() if costs else {"vendor_cost"}
    shown = [_in_credits(row, hidden) for row in [*items, total]]
    return shown[:-1], shown[-1]


def _usage(groups: Sequence[str], wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = "".join(f'{USAGE_GROUPS[name]} AS "{name}", ' for name in groups)
    places = ", ".join(str(number + 1) for number in range(len(groups)))
    parts = {
        "columns": columns,
        "joins": TAGS if "tag" in groups else "",
        "where": _where(wanted),
        "grouped": f"GROUP BY {places} ORDER BY {places}" if groups else "",
    }
    return sql.fetch_dicts(_filled(USAGE, parts), dict(wanted))


def margin(
    group: str, since: datetime | None, until: datetime | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Items for each of `group` (MARGIN_GROUPS), and the total."""
    wanted = {"since": since, "until": until}
    parts = {
        "of_task": MARGIN_GROUPS[group].format("t"),
        "of_attempt": MARGIN_GROUPS[group].format("late"),
        "where": _where(wanted),
    }
    items = sql.fetch_dicts(_filled(MARGIN, parts), wanted)
    total = {
        name: sum(row[name] for row in items)
        for name in ("count", "charged", "vendor_cost", "late_cost")
    }
    return [_with_margin(row) for row in items], _with_margin(total)


def _with_margin(row: Mapping[str, Any]) -> dict[str, Any]:
    margin = row["charged"] - row["vendor_cost"] - row["late_cost"]
    return _in_credits({**row, "margin": margin}, set())


def _in_credits(row: Mapping[str, Any], hidden: set[str]) -> dict[str, Any]:
    money = {"charged", "vendor_cost", "late_cost", "margin"}
    return {
        name: to_credits(value) if name in money else value
        for name, value in row.items()
        if name not in hidden
    }


def _where(wanted: Mapping[str, Any]) -> str:
    given = [FILTERS[name] for name, value in wanted.items() if value is not None]
    return " AND ".join(given) or "true"


def _filled(statement: str, parts: Mapping[str, str]) -> str:
    for name, text in parts.items():
        statement = statement.replace(f"${name}", text)
    return statement
