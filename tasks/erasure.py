"""Everything a user has made is removed: hidden and emptied at once, deleted when it has ended. The ledger stays.

What still runs is canceled, and what a vendor could not stop is watched for its cost: such tasks keep an empty,
hidden row until then. A chore goes on until nothing is left.
"""

from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from genpulse import sql
from genpulse.auth.models import Account
from genpulse.http.models import Idempotency
from media import services as media
from tasks import keeping, snapshots, verbs
from tasks.models import Batch, Conversation, Erasure, Task

PORTION = 500
PORTIONS_AT_ONCE = 20  # of the request; the chore does the rest

BEGIN = """
INSERT INTO tasks_erasure (account_id, before) VALUES (%s, clock_timestamp())
ON CONFLICT (account_id) DO UPDATE SET before = excluded.before
"""
OF_ERASURE = """
tasks_task t JOIN tasks_erasure e ON e.account_id = t.account_id AND t.created_at <= e.before
WHERE t.account_id = %s
"""
HIDE = f"""
UPDATE tasks_task SET hidden_at = now() WHERE id IN (
  SELECT t.id FROM {OF_ERASURE} AND t.hidden_at IS NULL LIMIT %s)
RETURNING id
"""  # noqa: S608
LEFT = f"SELECT t.id FROM {OF_ERASURE} AND t.finished_at IS NOT NULL LIMIT %s"  # noqa: S608
EMPTY = (
    *keeping.EMPTY,
    "UPDATE tasks_taskcontent SET metadata = '{}', options = '{}', error = NULL WHERE task_id = ANY(%s)",
)
ENDED = f"""
SELECT t.id FROM {OF_ERASURE} AND t.finished_at IS NOT NULL AND NOT EXISTS (
  SELECT 1 FROM tasks_attempt a WHERE a.task_id = t.id AND (a.slot OR a.next_poll_at IS NOT NULL))
ORDER BY t.id LIMIT %s FOR UPDATE OF t SKIP LOCKED
"""  # noqa: S608
OF_TASKS = (
    "DELETE FROM tasks_delivery WHERE task_id = ANY(%s)",
    "DELETE FROM events_event WHERE task_id = ANY(%s)",
    "DELETE FROM tasks_attempt WHERE task_id = ANY(%s)",
    "DELETE FROM tasks_taskcontent WHERE task_id = ANY(%s)",
    "DELETE FROM tasks_task WHERE id = ANY(%s)",
)
EMPTY_BATCHES = """
SELECT b.id FROM tasks_batch b JOIN tasks_erasure e ON e.account_id = b.account_id AND b.created_at <= e.before
WHERE b.account_id = %s AND NOT EXISTS (SELECT 1 FROM tasks_task t WHERE t.batch_id = b.id) LIMIT %s FOR UPDATE OF b
"""
OF_BATCHES = (
    "DELETE FROM tasks_delivery WHERE batch_id = ANY(%s)",
    "DELETE FROM events_event WHERE batch_id = ANY(%s)",
    "DELETE FROM tasks_batch WHERE id = ANY(%s)",
)
OTHER_EVENTS = """
DELETE FROM events_event WHERE account_id = %s AND type LIKE ANY (ARRAY['asset.%%', 'ability-task.%%'])
AND at <= (SELECT before FROM tasks_erasure WHERE account_id = %s)
"""
FINISH = """
DELETE FROM tasks_erasure e WHERE account_id = %s AND NOT EXISTS (
  SELECT 1 FROM tasks_task t WHERE t.account_id = e.account_id AND t.created_at <= e.before)
"""


def erase(account: Account, *, by: str) -> dict[str, int]:
    """Counts of tasks, assets and conversations, all of which are gone for every reader when this returns."""
    sql.execute(BEGIN, [account.id])
    assets = _purge_assets(account.id)
    conversations, _ = Conversation.objects.filter(account=account).delete()
    Idempotency.objects.filter(owner=account.name).delete()
    Batch.objects.filter(account=account).update(
        hidden_at=Now(), title=None, metadata={}, tags=[], webhook=None
    )
    tasks = Task.objects.filter(account=account, hidden_at=None).count()
    _cancel(account.id, by=by)
    advance(account.id, portions=PORTIONS_AT_ONCE)
    return {"tasks": tasks, "assets": assets, "conversations": conversations}


def sweep() -> int:
    """Chore: go on with what was asked for; how many tasks were deleted."""
    accounts = Erasure.objects.values_list("account_id", flat=True)
    return sum(advance(account) for account in list(accounts))


def advance(account: UUID, portions: int | None = None) -> int:
    """Delete what has ended; how many tasks."""
    _repeat(lambda: _hide(account))
    deleted = _repeat(lambda: _delete_tasks(account), portions)
    _empty(account)
    _repeat(lambda: _delete_batches(account), portions)
    sql.execute(OTHER_EVENTS, [account, account])
    sql.execute(FINISH, [account])
    return deleted


def _repeat(step: Callable[[], int], times: int | None = None) -> int:
    total = 0
    while times is None or times > 0:
        done = step()
        total += done
        if done == 0:
            break
        times = None if times is None else times - 1
    return total


def _purge_assets(account: UUID) -> int:
    rows = media.Asset.objects.filter(account_id=account, deleted_at=None)
    return _repeat(lambda: media.purge(rows[:PORTION]))


@transaction.atomic
def _hide(account: UUID) -> int:
    ids = [id_ for (id_,) in sql.fetch(HIDE, [account, PORTION])]
    for id_ in ids:
        transaction.on_commit(partial(snapshots.forget, id_), robust=True)
    return len(ids)


def _cancel(account: UUID, *, by: str) -> None:
    open_ones = Task.objects.filter(account=account, finished_at=None, cancel_requested=False)
    ids = list(open_ones.values_list("id", flat=True))
    for start in range(0, len(ids), PORTION):
        verbs.cancel(ids[start : start + PORTION], by=by)


@transaction.atomic
def _delete_tasks(account: UUID) -> int:
    ids = [id_ for (id_,) in sql.fetch(ENDED, [account, PORTION])]
    if ids:
        media.purge(media.Asset.objects.filter(task_id__in=ids, deleted_at=None))
        for statement in OF_TASKS:
            sql.execute(statement, [ids])
    return len(ids)


@transaction.atomic
def _empty(account: UUID) -> None:
    """Tasks that have ended while their vendor is still watched: few, and soon gone."""
    ids = [id_ for (id_,) in sql.fetch(LEFT, [account, PORTION])]
    for statement in EMPTY if ids else ():
        sql.execute(statement, [ids])


@transaction.atomic
def _delete_batches(account: UUID) -> int:
    ids = [id_ for (id_,) in sql.fetch(EMPTY_BATCHES, [account, PORTION])]
    if ids:
        for statement in OF_BATCHES:
            sql.execute(statement, [ids])
    return len(ids)
