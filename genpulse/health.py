"""Is it alive, is it ready, what is missing. Answers name what fails, never a host or a password."""

from collections.abc import Callable
from tempfile import TemporaryFile
from typing import Any

import structlog
from django.core.files.storage import default_storage
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

from genpulse import __version__, sql
from genpulse.config import config
from genpulse.events.bells import live
from genpulse.http.parsing import render_time
from genpulse.http.plain import read_only

log = structlog.get_logger(__name__)

WORKERS = """
SELECT name, queues, threads, free, draining, last_seen FROM tasks_worker
WHERE last_seen > now() - %s * interval '1 second' ORDER BY name
"""
LEADER = "SELECT holder FROM tasks_orchestratorlease WHERE until > now() AND holder <> ''"
WAITING = """
SELECT family, count(*) AS waiting FROM tasks_task WHERE status IN ('queued', 'blocked') GROUP BY family
"""
# A chore may be late by one round of the loop that starts it.
OVERDUE = """
SELECT name FROM tasks_chore
WHERE coalesce(last_run, now()) < now() - (2 * every + 60) * interval '1 second' ORDER BY name
"""


@read_only
async def healthz(request: HttpRequest) -> JsonResponse:
    """`GET /healthz`: the process answers; nothing is touched."""
    return JsonResponse({"status": "ok"})


@read_only
def health(request: HttpRequest) -> JsonResponse:
    """`GET /health`: 200 while the process lives, `degraded` when a part is missing."""
    database, answering = passes(check_database), passes(check_redis)
    leader = [row["holder"] for row in rows(LEADER)]
    workers = rows(WORKERS, config.lease_seconds)
    status = "ok" if database and answering and leader and workers else "degraded"
    body: dict[str, Any] = {
        "status": status,
        "success": True,
        "data": {"status": status},
        "message": "",
        "redis": answering,
        "database": database,
        "version": __version__,
    }
    if request.GET.get("full") in {"true", "1"}:
        body["details"] = {
            "database": database,
            "redis": answering,
            "storage": passes(check_storage),
            "orchestrator_leader": next(iter(leader), None),
            "workers_online": len(workers),
            "workers": [{**row, "last_seen": render_time(row["last_seen"])} for row in workers],
            "queues": {row["family"]: row["waiting"] for row in rows(WAITING)},
            "chores_overdue": [row["name"] for row in rows(OVERDUE)],
        }
    return JsonResponse(body)


@read_only
def ready(request: HttpRequest) -> JsonResponse:
    """`GET /ready`: 503 with the text of what fails."""
    results = {name: failure_of(check) for name, check in CHECKS.items()}
    good = not any(results.values())
    checks = {name: failure or True for name, failure in results.items()}
    return JsonResponse({"ready": good, "checks": checks}, status=200 if good else 503)


def check_database() -> None:
    sql.fetch("SELECT 1")


def check_redis() -> None:
    live().ping()


def check_migrations() -> None:
    """Raises RuntimeError while the schema is older than the program."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise RuntimeError(f"{len(missing)} migrations are missing")


def check_storage() -> None:
    """Write locally, ask elsewhere: a HEAD costs nothing and proves address and key."""
    if config.storage_type == "local" and config.storage_local_path:
        config.storage_local_path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=config.storage_local_path).close()
    else:
        default_storage.exists("health/check")


CHECKS: dict[str, Callable[[], None]] = {
    "database": check_database,
    "redis": check_redis,
    "migrations": check_migrations,
    "storage": check_storage,
}


def failure_of(check: Callable[[], None]) -> str:
    """What to tell the world: no address, no key that a driver's message may hold."""
    try:
        check()
    except RuntimeError as error:
        return str(error)
    except Exception as error:  # storage vendors' libraries have no common error
        log.warning("health.failed", check=check.__name__, error=str(error))
        return f"not reachable ({type(error).__name__})"
    return ""


def passes(check: Callable[[], None]) -> bool:
    return not failure_of(check)


def rows(query: str, *parameters: Any) -> list[dict[str, Any]]:
    """Nothing while the database is away or not migrated: this answers always."""
    try:
        return sql.fetch_dicts(query, parameters)
    except Error as error:
        log.warning("health.unread", error=type(error).__name__)
        return []
