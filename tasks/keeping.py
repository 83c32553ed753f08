"""What is not kept for ever: bodies and results of tasks, events, deliveries, dead letters, dead workers.

Each function is a chore. It works in small transactions, so that none of them stands in anybody's way, and
stops when nothing is left; the ledger is never touched.
"""

from collections.abc import Callable, Iterator
from uuid import UUID

from django.db import transaction

from genpulse import sql
from genpulse.config import config
from media import services as media

PORTION = 500
DELIVERED_DAYS, FAILED_DAYS, DEAD_LETTER_DAYS = 7, 30, 30
WORKER_SECONDS = 3600.0

DUE = """
UPDATE tasks_task SET purge_at = NULL, purged_at = now() WHERE id IN (
  SELECT id FROM tasks_task WHERE purge_at <= now() ORDER BY purge_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id
"""
EMPTY = (
    """UPDATE tasks_taskcontent SET input = NULL, output = NULL, prompt = '', options = options - 'context'
    WHERE task_id = ANY(%s)""",
    "UPDATE tasks_attempt SET result = NULL WHERE task_id = ANY(%s) AND result IS NOT NULL",
    """UPDATE events_event SET data = data || '{"output": null}'
    WHERE task_id = ANY(%s) AND type = 'task.succeeded'""",
    "UPDATE tasks_delivery SET body = NULL WHERE task_id = ANY(%s) AND status <> 'pending'",
)
# Ids follow time, so a range of ids is a range of time. A task's own events go all at once or not at all.
OF_TASKS = """
DELETE FROM events_event WHERE seq IS NOT NULL AND task_id IN (
  SELECT e.task_id FROM events_event e LEFT JOIN tasks_task t ON t.id = e.task_id
  WHERE e.id BETWEEN %(first)s AND %(last)s AND e.seq IS NOT NULL
    AND coalesce(t.finished_at, CASE WHEN t.id IS NULL THEN e.at END) < now() - make_interval(secs => %(keep)s))
"""
OTHERS = """
DELETE FROM events_event e WHERE e.id BETWEEN %(first)s AND %(last)s AND e.seq IS NULL
AND e.at < now() - make_interval(secs => %(keep)s)
AND NOT EXISTS (SELECT 1 FROM tasks_batch b WHERE b.id = e.batch_id
  AND coalesce(b.finished_at > now() - make_interval(secs => %(keep)s), true))
"""
NEXT_RANGE = """
SELECT min(id), max(id), min(at) < now() - make_interval(secs => %s) FROM (
  SELECT id, at FROM events_event WHERE id > %s ORDER BY id LIMIT %s) AS portion
"""
OLD_DELIVERIES = """
DELETE FROM tasks_delivery WHERE id IN (
  SELECT id FROM tasks_delivery WHERE status <> 'pending' AND created_at < now() - make_interval(days =>
    CASE status WHEN 'delivered' THEN %s ELSE %s END) LIMIT %s)
"""
OLD_LETTERS = """
DELETE FROM tasks_deadletter WHERE id IN (
  SELECT id FROM tasks_deadletter WHERE failed_at < now() - make_interval(days => %s) LIMIT %s)
"""
OLD_LOGS = "DELETE FROM sys_logs WHERE created_at < now() - make_interval(days => %s)"
GONE_WORKERS = "DELETE FROM tasks_worker WHERE last_seen < now() - make_interval(secs => %s)"


def purge_contents() -> int:
    """Empty tasks whose time is over (`store: false`, retention): bodies null, result and input assets gone."""
    return sum(_portions(_purge_some))


def _purge_some() -> int:
    with transaction.atomic():
        ids: list[UUID] = [id_ for (id_,) in sql.fetch(DUE, [PORTION])]
        if ids:
            for statement in EMPTY:
                sql.execute(statement, [ids])
            media.purge(media.Asset.objects.filter(task_id__in=ids, origin__in=["result", "input"]))
    return len(ids)


def drop_old_events() -> int:
    """Events go with their task or batch, EVENT_RETENTION after its end; others at that age."""
    last, dropped = 0, 0
    while True:
        first, end, old = sql.fetch(NEXT_RANGE, [config.event_retention, last, PORTION])[0]
        if not old:
            return dropped
        keep = {"first": first, "last": end, "keep": config.event_retention}
        dropped += sql.execute(OF_TASKS, keep) + sql.execute(OTHERS, keep)
        last = end


def drop_old_deliveries() -> int:
    """Delivered ones after a week, failed ones after a month."""
    return sum(
        _portions(lambda: sql.execute(OLD_DELIVERIES, [DELIVERED_DAYS, FAILED_DAYS, PORTION]))
    )


def drop_dead_letters() -> int:
    return sum(_portions(lambda: sql.execute(OLD_LETTERS, [DEAD_LETTER_DAYS, PORTION])))


def drop_old_logs() -> int:
    """Errors kept in the database, as long as the log files."""
    return sql.execute(OLD_LOGS, [config.log_keep_days])


def forget_workers() -> int:
    """Rows of workers that were killed; those that stop in order sign off themselves."""
    return sql.execute(GONE_WORKERS, [max(WORKER_SECONDS, 10 * config.lease_seconds)])


def _portions(step: Callable[[], int]) -> Iterator[int]:
    return iter(step, 0)
