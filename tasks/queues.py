"""Queues as operators see and steer them: one for each family, counted from rows."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import redis
import structlog

from admin_integrations import states
from admin_integrations.states import States
from genpulse import sql
from genpulse.celery import PRIORITY_STEPS
from genpulse.config import config
from genpulse.errors import NotFound
from genpulse.events.bells import ring_admit
from providers import registry
from tasks import insight, routes
from tasks.lifecycle import apply
from tasks.models import Status
from tasks.moves import Cancel
from tasks.render import PRIORITY_NAMES

log = structlog.get_logger(__name__)
PORTION = 500
LEVELS = tuple(PRIORITY_NAMES.values())
RUNNING = ("admitted", "running", "awaiting", "verifying")

WAITING = "SELECT route_id, priority, count(*) FROM tasks_task WHERE status = 'queued' AND ready GROUP BY 1, 2"
LATER = "SELECT family, attempt > 0, count(*) FROM tasks_task WHERE status = 'queued' AND NOT ready GROUP BY 1, 2"
BLOCKED = "SELECT family, count(*) FROM tasks_task WHERE status = 'blocked' GROUP BY 1"
ACTIVE = """
SELECT t.family, t.status, count(*) FROM tasks_attempt a JOIN tasks_task t ON t.id = a.task_id AND t.attempt = a.number
WHERE (a.slot OR a.next_poll_at IS NOT NULL) AND t.finished_at IS NULL GROUP BY 1, 2
"""
ENDED = """
SELECT family, count(*), count(*) FILTER (WHERE status = 'failed') FROM tasks_task
WHERE finished_at > now() - interval '1 hour' GROUP BY 1
"""
# One branch for each partial index; the statuses of a task are disjoint.
PURGEABLE = """
SELECT id FROM (
  SELECT id, family, priority, account_id, created_at FROM tasks_task WHERE status = 'queued' AND ready UNION ALL
  SELECT id, family, priority, account_id, created_at FROM tasks_task WHERE status = 'queued' AND NOT ready UNION ALL
  SELECT id, family, priority, account_id, created_at FROM tasks_task WHERE status = 'blocked') AS waiting
WHERE family = %(family)s AND (%(priority)s::smallint IS NULL OR priority = %(priority)s)
  AND (%(account)s::uuid IS NULL OR account_id = %(account)s)
  AND (%(older_than)s::int IS NULL OR created_at < now() - make_interval(secs => %(older_than)s)) LIMIT %(most)s
"""


def known(family: str) -> str:
    """Raises NotFound when there is no such family."""
    if family not in names():
        raise NotFound(f"There is no queue {family!r}.")
    return family


def names() -> list[str]:
    return [family.name for family in registry.families()]


def show(only: str | None = None) -> list[dict[str, Any]]:
    """Every queue, or one."""
    counts, wishes = count(), states.read()
    capacity, messages = _capacity(), _messages(names())
    return [
        _queue(name, counts[name], wishes, capacity[name], messages.get(name))
        for name in names()
        if only in {None, name}
    ]


def count() -> Mapping[str, Counter[str]]:
    """By family: waiting tasks by level, and all other states by their names."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    waiting = sql.fetch(WAITING)
    known_routes = routes.views({route for route, _, _ in waiting})
    for route, level, number in waiting:
        found[known_routes[route].family][LEVELS[level]] += number
    for family, again, number in sql.fetch(LATER):
        found[family]["retrying" if again else "scheduled"] += number
    for family, number in sql.fetch(BLOCKED):
        found[family]["blocked"] += number
    for family, status, number in sql.fetch(ACTIVE):
        found[family][status] += number
    for family, ended, failed in sql.fetch(ENDED):
        found[family].update(finished_last_hour=ended, failed_last_hour=failed)
    for family, seconds in _oldest().items():
        found[family]["oldest"] = seconds
    return found


def _oldest() -> Mapping[str, int]:
    """Seconds the first task of each family has waited; ids of tasks carry their time."""
    firsts: dict[str, UUID] = {}
    for lane in insight.current().lanes:
        family = lane.route.family
        firsts[family] = min(firsts.get(family, lane.first), lane.first)
    if not firsts:
        return {}
    now: datetime = sql.fetch("SELECT now()")[0][0]
    return {
        family: max(int(now.timestamp() - (first.int >> 80) / 1000), 0)
        for family, first in firsts.items()
    }


def _queue(
    name: str, counts: Counter[str], wishes: States, capacity: int, messages: int | None
) -> dict[str, Any]:
    waiting = {level: counts[level] for level in LEVELS}
    total = sum(waiting.values())
    return {
        "family": name,
        "state": _state(wishes.of(name), counts, total),
        "waiting": {**waiting, "total": total},
        "scheduled": counts["scheduled"],
        "blocked": counts["blocked"],
        **{status: counts[status] for status in RUNNING},
        "retrying": counts["retrying"],
        "capacity": capacity,
        "oldest_waiting_seconds": counts["oldest"] if total else None,
        "finished_last_hour": counts["finished_last_hour"],
        "failed_last_hour": counts["failed_last_hour"],
        "broker_messages": messages,
    }


def _state(wish: str, counts: Counter[str], waiting: int) -> str:
    """A draining queue is drained when nothing of it runs or will run by itself soon."""
    left = waiting + counts["retrying"] + sum(counts[status] for status in RUNNING)
    return "drained" if wish == states.DRAINING and not left else wish


def _capacity() -> Mapping[str, int]:
    """Slots of the executors in use, by family."""
    slots: Counter[str] = Counter()
    for executor in insight.current().fleet.executors:
        if executor.status == "active":
            slots[executor.type] += executor.max_concurrency
    return {family.name: slots[family.provider] for family in registry.families()}


def _messages(families: Iterable[str]) -> Mapping[str, int]:
    """Messages in the broker, by family; empty while it is away."""
    wanted = list(families)
    prefix = "gp:"
    try:
        with redis.Redis.from_url(config.redis_url, socket_timeout=2) as client:
            pipe = client.pipeline(transaction=False)
            for name in wanted:
                for step in PRIORITY_STEPS.values():
                    pipe.llen(f"{prefix}{name}\x06\x16{step}" if step else f"{prefix}{name}")
            lengths = pipe.execute()
    except redis.RedisError as error:
        log.warning("broker.unread", error=type(error).__name__)
        return {}
    steps = len(PRIORITY_STEPS)
    return {name: sum(lengths[at * steps : (at + 1) * steps]) for at, name in enumerate(wanted)}


def set_state(name: str, state: str, reason: str) -> None:
    """`name` is a family or `*`."""
    states.set_state(name, state, reason)
    insight.forget()
    if state == states.ACTIVE:
        ring_admit()


def purge(
    family: str,
    *,
    by: str,
    priority: int | None = None,
    account: UUID | None = None,
    older_than: int | None = None,
) -> int:
    """Cancel what waits, in portions, each in a transaction with the release of its holds; how many."""
    wanted = {
        "family": family,
        "priority": priority,
        "account": account,
        "older_than": older_than,
        "most": PORTION,
    }
    canceled = 0
    while True:
        ids = [id_ for (id_,) in sql.fetch(PURGEABLE, wanted)]
        message = "Purged by the operator."
        moves = [
            Cancel(task_id=id_, by=by, code="purged_by_operator", message=message) for id_ in ids
        ]
        done = sum(
            one.ok and one.task is not None and one.task.status == Status.CANCELED
            for one in (apply(moves) if moves else [])
        )
        canceled += done
        if len(ids) < PORTION or not done:
            return canceled
