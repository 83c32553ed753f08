"""`genpulse doctor`: is everything there, and if not, what to do about it."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import typer

from genpulse.cli.client import ApiError, Client
from genpulse.cli.instance import Instance
from genpulse.cli.terminal import DEFAULT_DATA, FAILED, AsJson, Data, first_line, out, print_json
from genpulse.embedded.system import is_free
from genpulse.refusals import ConfigError

commands = typer.Typer()

Level = Literal["ok", "warn", "fail"]
ENOUGH_DISK = 2 << 30  # bytes
CLOCK_SKEW = 2.0  # seconds
STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True)
class Finding:
    """`advice` says what to do, when there is something to do."""

    check: str
    level: Level
    message: str
    advice: str = ""


@commands.command()
def doctor(data: Data = DEFAULT_DATA, *, json: AsJson = False) -> None:
    """Check this machine and the instance; exit 1 when something fails."""
    instance = Instance(data)
    instance.enter()
    findings = list(examine(instance))
    if json:
        print_json({"checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            advice = f"  -> {finding.advice}" if finding.advice else ""
            out.print(f"{finding.level:4}", style=STYLES[finding.level], end=" ")
            out.print(f"{finding.check}: {finding.message}{advice}", markup=False)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(FAILED)


def examine(instance: Instance) -> Iterator[Finding]:
    """Every check; one that breaks is a finding too."""
    yield from _of_the_machine(instance)
    try:
        from genpulse.config import config
    except ConfigError as error:
        for reason in error.reasons:
            yield Finding("environment", "fail", reason, "see docs/configuration.md")
        return
    needs = {_database: config.database_url, _redis: config.redis_url, _clock: config.database_url}
    for check in (_database, _redis, _storage, _clock):
        yield _guarded(check) if needs.get(check, "local") else _without_address(check)
    yield from _of_the_service(instance)


def _without_address(check: Callable[[], Finding]) -> Finding:
    advice = "`genpulse up` brings its own, or set DATABASE_URL and REDIS_URL"
    return Finding(check.__name__.strip("_"), "warn", "no server is named", advice)


def _guarded(check: Callable[[], Finding]) -> Finding:
    name = check.__name__.strip("_")
    try:
        return check()
    except Exception as error:
        message = f"{type(error).__name__}: {first_line(error)}"
        return Finding(name, "fail", message, "is it running, and its address right?")


def _of_the_machine(instance: Instance) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info >= (3, 11)
    yield Finding(
        "python", "ok" if fits else "fail", version, "" if fits else "install 3.11 or newer"
    )
    yield _port(instance)
    place = instance.home if instance.home.exists() else instance.home.parent
    free = shutil.disk_usage(place).free
    told = f"{free / (1 << 30):.1f} GiB free at {place}"
    yield (
        Finding("disk", "ok", told)
        if free > ENOUGH_DISK
        else Finding("disk", "warn", told, "make room; tasks keep their results there")
    )


def _port(instance: Instance) -> Finding:
    if instance.supervisor_pid() is not None:
        return Finding("port", "ok", f"serving at {instance.base_url}")
    port = int(os.environ.get("PORT") or 8000)
    if is_free(port):
        return Finding("port", "ok", f"{port} is free")
    return Finding("port", "warn", f"{port} is taken", "choose another with --port")


def _database() -> Finding:
    from genpulse import schema, startup
    from genpulse.cli.terminal import set_up_django

    set_up_django()
    version = startup.postgres_version()
    if reason := startup.old_postgres(version):
        return Finding("database", "fail", reason, "upgrade PostgreSQL")
    state = schema.state()
    if state == "older":
        return Finding("database", "fail", "migrations are missing", "run `genpulse init-db`")
    if state == "newer":
        return Finding(
            "database", "fail", "the schema is newer than this program", "upgrade GenPulse"
        )
    return Finding("database", "ok", f"PostgreSQL {version // 10000}, schema current")


def _redis() -> Finding:
    from genpulse import addresses, startup
    from genpulse.config import config

    policy = startup.broker_policy()
    if policy != "noeviction":
        return Finding("redis", "warn", f"the broker evicts keys ({policy})", "set noeviction")
    if addresses.same_server(config.redis_url, config.redis_live_url) and config.production:
        return Finding(
            "redis", "warn", "broker and live state share a server", "set REDIS_LIVE_URL"
        )
    return Finding("redis", "ok", "answers, keeps its keys")


def _storage() -> Finding:
    from genpulse.cli.terminal import set_up_django

    set_up_django()
    from django.core.files.base import ContentFile
    from django.core.files.storage import default_storage

    name = default_storage.save("doctor/probe.txt", ContentFile(b"genpulse"))
    default_storage.delete(name)
    return Finding("storage", "ok", "can write and delete")


def _clock() -> Finding:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        skew = abs(float(cursor.fetchone()[0]) - time.time())
    if skew > CLOCK_SKEW:
        return Finding("clock", "warn", f"{skew:.1f} s from the database's", "run a time service")
    return Finding("clock", "ok", "agrees with the database's")


def _of_the_service(instance: Instance) -> Iterator[Finding]:
    if instance.supervisor_pid() is None:
        yield Finding("processes", "warn", "nothing runs", "start it with `genpulse up`")
        return
    for process in instance.supervisor.processes():
        if process["state"] in {"backoff", "fatal", "exited"}:
            name = process["name"]
            advice = f"see `genpulse logs {name}`"
            yield Finding("processes", "fail", f"{name} does not stay up", advice)
    api = Client(instance.base_url, instance.admin_key)
    yield from _providers(api)
    yield from _executors(api)


def _providers(api: Client) -> Iterator[Finding]:
    for provider in _items(api, "/api/v1/providers"):
        level: Level = "ok" if provider["configured"] else "warn"
        said = "configured" if provider["configured"] else "no credential"
        advice = "" if provider["configured"] else "set its key when you want to use it"
        yield Finding("credentials", level, f"{provider['name']}: {said}", advice)


def _executors(api: Client) -> Iterator[Finding]:
    for executor in _items(api, "/api/v1/executors"):
        health = executor["health"]["status"]
        level: Level = "warn" if health in {"down", "degraded"} else "ok"
        message = executor["health"].get("message") or ""
        yield Finding("executors", level, f"{executor['name']}: {health}", message)


def _items(api: Client, path: str) -> list[dict[str, Any]]:
    try:
        return list(api.get(path)["items"])
    except (ApiError, OSError):
        return []
