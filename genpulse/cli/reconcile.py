"""reconcile: what nobody knows the outcome of, and how an operator ends it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from genpulse.cli.client import Client
from genpulse.cli.queues import api
from genpulse.cli.terminal import (
    DEFAULT_DATA,
    WRONG_USAGE,
    AsJson,
    Data,
    fail,
    out,
    print_json,
)

commands = typer.Typer()
Row = dict[str, Any]


@commands.command()
def reconcile(
    data: Data = DEFAULT_DATA,
    *,
    older: Annotated[str, typer.Option(help="Only what is older: 30m, 1h, ...")] = "",
    resolve: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="TASK OUTCOME", help="succeeded, failed or resend."),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; needed with --resolve.")] = "",
    json: AsJson = False,
) -> None:
    """List tasks of unknown outcome and attempts that may have cost something; end one."""
    if resolve and not reason:
        fail("--resolve needs --reason", WRONG_USAGE)
    before = _moment(older)
    with api(data) as client:
        resolved = [_resolve(client, *resolve, reason)] if resolve else []
        unknown = list(_all(client, "/api/v1/tasks", status="verifying", created_before=before))
        costs = list(_all(client, "/api/v1/attempts", possible_cost="1", until=before))
    if json:
        print_json(
            {
                "checked": len(resolved) + len(unknown) + len(costs),
                "resolved": resolved,
                "unresolved": [task["id"] for task in unknown],
            }
        )
    else:
        _show(resolved, unknown, costs)


def _moment(older: str) -> str | None:
    """The time before which things count, as the API wants it."""
    if not older:
        return None
    from genpulse.config import seconds

    try:
        span = seconds(older)
    except ValueError as error:
        fail(f"--older: {error}", WRONG_USAGE)
    moment = datetime.now(UTC) - timedelta(seconds=span or 0)
    return str(moment.isoformat(timespec="milliseconds"))


def _resolve(client: Client, task: str, outcome: str, reason: str) -> Row:
    client.post(f"/api/v1/tasks/{task}/resolve", {"outcome": outcome, "reason": reason})
    return {"task_id": task, "outcome": outcome}


def _all(client: Client, path: str, **filters: str | None) -> Iterator[Row]:
    """Every item of a list, page by page."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    cursor: str | None = ""
    while cursor is not None:
        page = client.get(f"{path}?{urlencode({**wanted, 'limit': 100, 'cursor': cursor})}")
        yield from page["items"]
        cursor = page["next_cursor"]


def _show(resolved: list[Row], unknown: list[Row], costs: list[Row]) -> None:
    for one in resolved:
        out.print(f"resolved {one['task_id']}: {one['outcome']}", markup=False)
    for task in unknown:
        line = f"verifying {task['id']} {task['model']} on {task['executor']} since {task['started_at']}"
        out.print(line, markup=False)
    for attempt in costs:
        where = f"{attempt['task_id']} attempt {attempt['number']} on {attempt['executor']}"
        out.print(f"may have cost: {where}, {attempt['status']}", markup=False)
    if not (resolved or unknown or costs):
        out.print("nothing is in doubt")
