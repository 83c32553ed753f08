"""The sweeps: what time alone decides. Each is one look at the database and safe in any number of replicas.

Only the database's clock counts. A sweep does a bounded amount of work; the next tick does the rest.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db import transaction

from genpulse import sql
from genpulse.config import config
from genpulse.events.bells import ring_admit
from providers import registry
from tasks import publish
from tasks.lifecycle import apply, cancel_losers, lock_races, open_races
from tasks.models import Stage
from tasks.moves import Expire, LeaseLost, Move

MOST = 1000
POLL_CHUNK = 100
LONGEST_SILENCE = 6  # times REPUBLISH_SECONDS

WAKE = """
UPDATE tasks_task SET ready = true, due_at = NULL WHERE id IN (
  SELECT id FROM tasks_task WHERE status = 'queued' AND NOT ready AND due_at <= now()
  ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
"""
LATE_STARTS = """
SELECT id FROM tasks_task WHERE status IN ('queued', 'blocked', 'admitted') AND start_deadline <= now()
AND started_at IS NULL LIMIT %s
"""
BLOCKED_TOO_LONG = """
SELECT id FROM tasks_task WHERE status = 'blocked' AND blocked_at < now() - make_interval(secs => %s) LIMIT %s
"""
LOST = "slot AND stage IN ('claimed', 'sending') AND lease_until < clock_timestamp()"
MAY_BE_LOST = f"SELECT task_id FROM tasks_attempt WHERE {LOST} LIMIT %s"  # noqa: S608
FREE = "SELECT id FROM tasks_task WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED"
LOST_LEASES = f"SELECT task_id, number, stage, alone, provider FROM tasks_attempt WHERE {LOST} AND task_id = ANY(%s)"  # noqa: S608
# What nobody has taken yet is rung for again, each time after as long again as it has waited:
# where workers are only slow, copies of what waits would feed the jam.
UNCLAIMED = """
UPDATE tasks_attempt AS a SET published_at = now() FROM tasks_task t
WHERE t.id = a.task_id AND (a.task_id, a.number) IN (
  SELECT task_id, number FROM tasks_attempt
  WHERE slot AND stage = 'admitted' AND published_at < now() -
    greatest(make_interval(secs => %s), least(make_interval(secs => %s), published_at - created_at))
  LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING a.task_id, a.number, a.family, a.alone, t.priority
"""
OVERDUE_RUNS = """
UPDATE tasks_attempt AS a SET next_poll_at = now() FROM tasks_task t
WHERE t.id = a.task_id AND t.attempt = a.number AND a.slot AND a.stage = 'accepted'
AND t.run_deadline <= now() AND a.next_poll_at > now()
"""
# The age of the job decides how often it is asked for; the adapter's wish and a cap come on top.
DUE = """
UPDATE tasks_attempt AS a SET next_poll_at = CASE a.stage
    WHEN 'accepted' THEN now() + make_interval(secs => (%s + 0.2 * random()) *
      greatest(%s, least(%s, extract(epoch FROM now() - a.accepted_at) / 10)))
    WHEN 'done' THEN now() +
      greatest(make_interval(secs => %s), least(make_interval(secs => %s), now() - a.finished_at))
    ELSE now() + make_interval(secs => %s) END
WHERE (a.task_id, a.number) IN (
  SELECT task_id, number FROM tasks_attempt WHERE next_poll_at <= now()
    AND (stage <> 'done' OR lease_until IS NULL OR lease_until < now())
  ORDER BY next_poll_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING a.task_id, a.number, a.stage, a.family, a.executor_id, a.credential_id
"""


def wake() -> int:
    """Tasks whose time has come may be admitted."""
    woken = sql.execute(WAKE, [MOST])
    if woken:
        ring_admit()
    return woken


def expire() -> int:
    """Tasks that did not start in time, or that nobody could serve for too long."""
    late = _expire_all(
        LATE_STARTS, [MOST], "start_deadline", "It did not start within the time it was given."
    )
    stuck = _expire_all(
        BLOCKED_TOO_LONG,
        [config.blocked_ttl, MOST],
        "blocked_too_long",
        "Nobody could serve it for too long.",
    )
    return late + stuck


def _expire_all(query: str, parameters: list[Any], code: str, message: str) -> int:
    moves: list[Move] = [
        Expire(task_id=id_, code=code, message=message) for (id_,) in sql.fetch(query, parameters)
    ]
    return sum(done.ok for done in apply(moves)) if moves else 0


def reap() -> int:
    """Attempts whose worker died or froze: what follows depends on how far they had got.

    How far is read under the task's lock, or a worker that wakes up just now could begin to send meanwhile. A task
    that a frozen worker has locked waits; it holds up nobody else.
    """
    ids = [task for (task,) in sql.fetch(MAY_BE_LOST, [MOST])]
    if not ids:
        return 0
    with transaction.atomic():
        lock_races(ids)
        free = [task for (task,) in sql.fetch(FREE, [ids])]
        return _reap(free)


def _reap(free: list[UUID]) -> int:
    moves = [
        LeaseLost(
            task_id=task,
            attempt=number,
            stage=Stage(stage),
            alone=alone,
            resend=registry.get(provider).retry_submit in {"resend", "key"},
        )
        for task, number, stage, alone, provider in sql.fetch(LOST_LEASES, [free])
    ]
    return sum(done.ok for done in apply(moves)) if moves else 0


def republish() -> int:
    """Attempts nobody claimed: their message got lost, or workers are slow. A second copy does no harm."""
    rows = sql.fetch(UNCLAIMED, [*_again(), MOST])
    publish.publish(
        publish.submits(
            (task, number, publish.QUARANTINE if alone else family, priority)
            for task, number, family, alone, priority in rows
        )
    )
    return len(rows)


def _again() -> tuple[float, float]:
    """The shortest and the longest wait, in seconds, before a message is sent again."""
    return config.republish_seconds, config.republish_seconds * LONGEST_SILENCE


def end_races() -> int:
    """Losers whose cancel got lost with the process that owed it."""
    races = open_races()
    return cancel_losers(races) if races else 0


def due() -> int:
    """Ring for every attempt whose next look is due: poll, find or fetch, by its stage."""
    sql.execute(OVERDUE_RUNS)
    polls = [0.9, config.poll_min, config.poll_max]
    shortest, longest = _again()
    rows = sql.fetch(DUE, [*polls, shortest, longest, longest, MOST * 2])
    publish.publish(list(_messages(rows)))
    return len(rows)


def _messages(rows: Iterable[tuple[Any, ...]]) -> Iterable[publish.Message]:
    polls: dict[tuple[str, UUID, UUID | None], list[tuple[str, int]]] = defaultdict(list)
    for task, number, stage, family, executor, credential in rows:
        if stage == Stage.ACCEPTED.value:
            polls[(family, executor, credential)].append((str(task), number))
        elif stage == Stage.SENDING.value:
            yield publish.find(task, number, family)
        elif stage == Stage.DONE.value:
            yield publish.fetch(task, number)
    for (family, executor, _), jobs in polls.items():
        random.shuffle(jobs)
        for chunk in publish.batched(jobs, POLL_CHUNK):
            yield publish.Message("gp.poll", family, (str(executor), chunk), priority=0)
