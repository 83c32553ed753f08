"""up, down, status, logs, init-db."""

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genpulse.cli import bootstrap, demo, launch
from genpulse.cli.client import ApiError, Client
from genpulse.cli.instance import Instance, given
from genpulse.cli.terminal import (
    DEFAULT_DATA,
    FAILED,
    NOT_RUNNING,
    AsJson,
    Data,
    django,
    err,
    fail,
    out,
    print_json,
    set_up_django,
)
from genpulse.embedded import ServerError
from genpulse.refusals import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

commands = typer.Typer()


@commands.command()
def up(
    port: Annotated[
        int, typer.Option(envvar="PORT", min=0, max=65535, help="0: a free one.")
    ] = 8000,
    data: Data = DEFAULT_DATA,
    *,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Skip the demo batch.")] = False,
    json: AsJson = False,
) -> None:
    """Start everything in the background; returns when it is ready."""
    instance = Instance(data)
    with instance.one_at_a_time():
        _ensure_running(instance, port)
    if not no_demo and not instance.demo_mark.exists():
        demo.first(instance)
    print_json(_summary(instance)) if json else _greet(instance)


def _ensure_running(instance: Instance, port: int) -> None:
    try:
        if instance.supervisor_pid() is None:
            _start(instance, port)
        else:
            instance.enter()
            launch.await_ready(instance)
    except BaseException as error:
        _explain(error)
        raise
    launch.start_the_rest(instance)


def _start(instance: Instance, port: int) -> None:
    """Leaves nothing running when it fails."""
    began = time.monotonic()
    try:
        launch.Launch(instance, port, lambda text: err.print(f"  {text}")).start()
        set_up_django()
        bootstrap.bring_up_to_date(instance)
        launch.await_ready(instance)
    except BaseException:
        launch.stop(instance)
        raise
    err.print(f"ready after {time.monotonic() - began:.1f} s")


def _explain(error: BaseException) -> None:
    if isinstance(error, ConfigError):
        for reason in error.reasons:
            err.print(f"genpulse: {reason}", markup=False)
        raise typer.Exit(FAILED) from None
    if isinstance(error, (launch.LaunchError, ServerError)):
        fail(str(error))


def _summary(instance: Instance) -> dict[str, Any]:
    state = instance.state
    return {
        "base_url": state["base_url"],
        "admin_key": instance.admin_key,
        "pid": instance.supervisor_pid(),
        "data_dir": str(instance.home),
        "database_url": state["database_url"],
        "redis_url": state["environment"].get("REDIS_URL"),
        "flower_url": state["flower_url"],
        "flower_auth": state["flower_auth"],
    }


def _greet(instance: Instance) -> None:
    told = _summary(instance)
    lines = {
        "Console": f"{told['base_url']}/console/",
        "Sign in": f"{_one_time_url(instance)}  (once, within 15 minutes)",
        "API key": told["admin_key"],
        "API docs": f"{told['base_url']}/docs",
    }
    if told["flower_url"]:
        lines["Flower"] = f"{told['flower_url']}  {told['flower_auth'].replace(':', ' / ', 1)}"
    for label, value in lines.items():
        out.print(f"{label:9} {value}", markup=False)
    out.print(
        "\nNext: genpulse status · genpulse logs -f · genpulse key create --user NAME · genpulse down"
        f"\n  curl -H 'Authorization: Bearer {told['admin_key']}' {told['base_url']}/api/v1/models",
        markup=False,
    )


def _one_time_url(instance: Instance) -> str:
    if not given("BASE_URL", "PUBLIC_URL"):
        os.environ["BASE_URL"] = instance.base_url  # PORT may have been 0
    set_up_django()
    from genpulse.auth.login import one_time_login_url
    from genpulse.auth.services import get_or_create_user

    return one_time_login_url(get_or_create_user(bootstrap.ADMIN))


@commands.command()
def down(
    data: Data = DEFAULT_DATA,
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the folder.")] = False,
) -> None:
    """Stop the instance; fine when none runs."""
    instance = Instance(data)
    try:
        stopped = launch.stop(instance, purge=purge)
    except launch.LaunchError as error:
        fail(str(error))
    err.print(f"stopped {instance.home}" if stopped else f"nothing runs in {instance.home}")


@commands.command()
def status(data: Data = DEFAULT_DATA, *, json: AsJson = False) -> None:
    """Processes, queues and executors. Exit 3 when it does not run."""
    instance = Instance(data)
    report = _report(instance)
    if json:
        print_json({name: report[name] for name in ("running", "base_url", "processes", "queues")})
    else:
        _show(report)
    if not report["running"]:
        raise typer.Exit(NOT_RUNNING)


def _report(instance: Instance) -> dict[str, Any]:
    is_running = instance.supervisor_pid() is not None
    report: dict[str, Any] = {
        "running": is_running,
        "base_url": instance.base_url if is_running else None,
        "processes": _processes(instance) if is_running else [],
        "queues": [],
        "executors": [],
    }
    if is_running:
        api = Client(instance.base_url, instance.admin_key)
        for name in ("queues", "executors"):
            report[name] = _items(api, f"/api/v1/{name}")
    return report


def _processes(instance: Instance) -> list[dict[str, Any]]:
    """Those that run or should; the one on demand only while it runs."""
    found = instance.supervisor.processes()
    return [dict(one) for one in found if one["pid"] or one["state"] != "stopped"]


def _items(api: Client, path: str) -> list[dict[str, Any]]:
    """Empty while web is down: the processes say so."""
    try:
        return list(api.get(path, timeout=5)["items"])
    except (ApiError, OSError):
        return []


def _show(report: dict[str, Any]) -> None:
    if not report["running"]:
        out.print("not running")
        return
    out.print(report["base_url"])
    out.print(_table(report["processes"], ["name", "state", "pid", "restarts"]))
    if report["queues"]:
        rows = [{**queue, "waiting": queue["waiting"]["total"]} for queue in report["queues"]]
        out.print(_table(rows, ["family", "state", "waiting", "running", "awaiting", "blocked"]))
    if report["executors"]:
        out.print(_table(report["executors"], ["name", "provider", "state"]))


def _table(rows: list[dict[str, Any]], columns: list[str]) -> "Table":
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(row[name]) for name in columns))
    return table


@commands.command()
def logs(
    process: Annotated[
        str, typer.Argument(help="web, worker, postgres, ...; none: app.log.")
    ] = "app",
    data: Data = DEFAULT_DATA,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0)] = 100,
) -> None:
    """The end of a log."""
    path = Instance(data).logs / f"{process}.log"
    if not path.exists():
        names = ", ".join(sorted(file.stem for file in path.parent.glob("*.log"))) or "none yet"
        fail(f"no log of {process!r}; there are: {names}")
    with path.open(errors="replace") as file:
        for line in deque(file, maxlen=lines):
            typer.echo(line, nl=False)
    if follow:
        _follow(path)


def _follow(path: Path) -> None:
    """New lines, also of the file that takes the place of a rotated one. Ends with Ctrl-C."""
    file = path.open(errors="replace")
    file.seek(0, os.SEEK_END)
    while True:
        for line in file:
            typer.echo(line, nl=False)
        if path.exists() and path.stat().st_ino != os.fstat(file.fileno()).st_ino:
            file.close()
            file = path.open(errors="replace")
        time.sleep(0.2)


@commands.command("init-db")
def init_db(
    data: Data = DEFAULT_DATA,
    *,
    reset: Annotated[bool, typer.Option("--reset", help="Drop everything first; asks.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Bring the database schema up to date; safe to start twice at once."""
    with django(data):
        from genpulse import schema

        if reset:
            _confirm_reset(yes=yes)
            schema.reset()
        count = schema.migrate()
    err.print(f"schema is up to date ({count} migrations applied)")


def _confirm_reset(*, yes: bool) -> None:
    from genpulse.config import config

    if config.production:
        fail("--reset is refused in production")
    if not yes and not typer.confirm("Drop every table of this database, with its data?", err=True):
        fail("nothing changed")
