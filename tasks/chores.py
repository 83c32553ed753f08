"""Slow periodic work: rows with a name and a period, claimed by whichever orchestrator comes first.

A chore runs as a Celery job on the queue of the media worker, so that no sweep ever waits for it.
There is no scheduler process; a chore that was due while everything was down runs once, soon after.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.contrib.sessions.backends.db import SessionStore

from admin_integrations import probes
from genpulse import sql
from genpulse.auth import tokens
from genpulse.http import idempotency
from media import services as media
from tasks import audit, departures, erasure, keeping, publish
from wallet import services as wallet

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ChoreSpec:
    """`every` in seconds."""

    every: float
    run: Callable[[], object]


CHORES: dict[str, ChoreSpec] = {
    "expired-holds": ChoreSpec(60, wallet.release_expired_holds),
    "idempotency": ChoreSpec(300, idempotency.purge_expired),
    "sessions": ChoreSpec(86400, SessionStore.clear_expired),
    "spent-tokens": ChoreSpec(86400, tokens.purge_spent),
    "media-sweep": ChoreSpec(60, media.sweep),
    "thumbnails": ChoreSpec(30, media.make_missing_thumbnails),
    "departures": ChoreSpec(5, departures.sweep),
    "erasures": ChoreSpec(5, erasure.sweep),
    "probes": ChoreSpec(30, probes.check_all),
    "contents": ChoreSpec(30, keeping.purge_contents),
    "events": ChoreSpec(3600, keeping.drop_old_events),
    "deliveries": ChoreSpec(3600, keeping.drop_old_deliveries),
    "dead-letters": ChoreSpec(3600, keeping.drop_dead_letters),
    "logs": ChoreSpec(3600, keeping.drop_old_logs),
    "workers": ChoreSpec(3600, keeping.forget_workers),
    "audit": ChoreSpec(86400, audit.report),
}

SEED = (
    "INSERT INTO tasks_chore (name, every, last_error) SELECT name, every, '' FROM "  # noqa: S608
    + sql.unnest({"name": "text", "every": "float8"})
    + " ON CONFLICT (name) DO UPDATE SET every = excluded.every"
)
CLAIM = """
UPDATE tasks_chore SET last_run = now() WHERE name IN (
  SELECT name FROM tasks_chore
  WHERE name = ANY(%s) AND (last_run IS NULL OR last_run < now() - make_interval(secs => every))
  FOR UPDATE SKIP LOCKED)
RETURNING name
"""
_seeded = False


def claim() -> list[str]:
    """Claim what is due and ring a worker for each; the names."""
    global _seeded  # noqa: PLW0603 - once for a process
    if not _seeded:
        sql.execute(SEED, sql.columns([(name, spec.every) for name, spec in CHORES.items()]))
        _seeded = True
    names = [name for (name,) in sql.fetch(CLAIM, [list(CHORES)])]
    publish.publish([publish.chore(name) for name in names])
    return names


def run(name: str) -> str:
    """Do one chore; its error is kept in its row for operators."""
    try:
        CHORES[name].run()
    except Exception as error:
        log.exception("chore.failed", chore=name)
        sql.execute(
            "UPDATE tasks_chore SET last_error = %s WHERE name = %s", [type(error).__name__, name]
        )
        return "failed"
    sql.execute("UPDATE tasks_chore SET last_error = '' WHERE name = %s", [name])
    return "done"
