"""queues, purge, drain, resume: the operations of `/api/v1/queues` from the command line."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genpulse.cli.client import ApiError, Client
from genpulse.cli.terminal import (
    DEFAULT_DATA,
    NOT_RUNNING,
    WRONG_USAGE,
    AsJson,
    Data,
    err,
    fail,
    out,
    print_json,
    running,
)

if TYPE_CHECKING:
    from rich.table import Table

commands = typer.Typer()
PATH = "/api/v1/queues"
LOOK_EVERY = 0.5  # seconds
COLUMNS = {  # what a column adds up
    "blocked": ("blocked",),
    "later": ("scheduled", "retrying"),
    "active": ("admitted", "running", "awaiting", "verifying"),
    "slots": ("capacity",),
}

Family = Annotated[str, typer.Argument(help="One queue; none: every one.")]
Reason = Annotated[str, typer.Option(help="Shown to those who look at the queue.")]


@contextmanager
def api(data: Path) -> Iterator[Client]:
    """The API of the running instance as its operator; what it refuses ends the command."""
    instance = running(data)
    try:
        yield Client(instance.base_url, instance.admin_key)
    except ApiError as error:
        fail(str(error), WRONG_USAGE if error.status in {404, 422} else 1)
    except OSError as error:
        fail(f"the service does not answer: {error}", NOT_RUNNING)


@commands.command()
def queues(
    data: Data = DEFAULT_DATA,
    *,
    json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
) -> None:
    """What waits and runs in each queue."""
    with api(data) as client:
        if json:
            print_json(client.get(PATH))
            while watch:
                time.sleep(LOOK_EVERY)
                print_json(client.get(PATH))
        elif watch:
            _watch(client)
        else:
            out.print(_table(client.get(PATH)["items"]))


def _watch(client: Client) -> None:
    from rich.live import Live

    with Live(_table(client.get(PATH)["items"]), console=out) as live:
        while True:
            time.sleep(LOOK_EVERY)
            live.update(_table(client.get(PATH)["items"]))


def _table(items: list[dict[str, Any]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("family", "state", "critical", "default", "low", *COLUMNS, "oldest"):
        words = name in {"family", "state"}
        table.add_column(name, justify="left" if words else "right", no_wrap=True)
    for queue in items:
        waiting, oldest = queue["waiting"], queue["oldest_waiting_seconds"]
        numbers = [waiting["critical"], waiting["default"], waiting["low"]]
        numbers += [sum(queue[name] for name in names) for names in COLUMNS.values()]
        age = "" if oldest is None else f"{oldest} s"
        style = None if queue["state"] == "active" else "yellow"
        table.add_row(queue["family"], queue["state"], *map(str, numbers), age, style=style)
    return table


@commands.command()
def purge(
    family: Annotated[str, typer.Argument(help="Its waiting and blocked tasks are canceled.")],
    data: Data = DEFAULT_DATA,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Cancel what waits in a queue; every hold is released."""
    if not yes and not sys.stdin.isatty():
        fail("purge asks first; say --yes where nobody can answer", WRONG_USAGE)
    with api(data) as client:
        waiting = client.get(f"{PATH}/{family}")
        number = waiting["waiting"]["total"] + waiting["blocked"]
        if not yes and not typer.confirm(f"Cancel {number} tasks that wait in {family}?", err=True):
            fail("nothing changed")
        answer = client.post(f"{PATH}/{family}/purge", {"confirm": family}, timeout=300)
    print_json(answer) if json else out.print(f"{answer['canceled']} tasks canceled")


@commands.command()
def drain(
    family: Family = "",
    data: Data = DEFAULT_DATA,
    *,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait until nothing is active.")
    ] = 0,
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Refuse new tasks, of one queue or of all; what waits still runs. Exit 1 when --wait is over."""
    with api(data) as client:
        client.post(_path(family, "drain"), {"reason": reason})
        left = _drained(client, family, wait)
        shown = _items(client, family)
    if json:
        print_json({"drained": not left, "items": shown})
    elif left:
        err.print(f"still active: {', '.join(left)}", markup=False)
    else:
        out.print("drained")
    if wait and left:
        raise typer.Exit(1)


def _drained(client: Client, family: str, patience: float) -> list[str]:
    """The queues that still have work when nothing is left or the time is over."""
    until = time.monotonic() + patience
    while True:
        queues = _items(client, family)
        left = [queue["family"] for queue in queues if queue["state"] == "draining"]
        if not left or time.monotonic() >= until:
            return left
        time.sleep(LOOK_EVERY)


def _items(client: Client, family: str) -> list[dict[str, Any]]:
    return [client.get(f"{PATH}/{family}")] if family else list(client.get(PATH)["items"])


@commands.command()
def resume(family: Family = "", data: Data = DEFAULT_DATA, *, json: AsJson = False) -> None:
    """Back to normal, one queue or all."""
    with api(data) as client:
        client.post(_path(family, "resume"), {})
        shown = _items(client, family)
    print_json({"items": shown}) if json else out.print(f"active: {family or 'every queue'}")


def _path(family: str, verb: str) -> str:
    return f"{PATH}/{family}/{verb}" if family else f"{PATH}/{verb}"
