"""The one writer of tasks: `apply(moves)`.

One transaction, one order of statements, always: (1) race batches, (2) tasks, (3) attempts and contents,
(4) events, (5) batches and deliveries, (6) holds, (7) wallets with their journal. Rows of one kind are locked by id, so two groups
with crossed rows wait for each other and never deadlock. What a move means is decided by `tasks.moves`, purely,
between the lock and the write; a move that does not fit any more changes nothing.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.db import OperationalError, transaction
from psycopg import errors as pg

from genpulse import sql
from genpulse.events.log import NewEvent, announce_work, append
from genpulse.money import to_credits
from tasks import counting, deliveries, rows
from tasks.models import TERMINAL, Batch, Status
from tasks.moves import (
    Admit,
    AttemptFailed,
    Cancel,
    Canceled,
    Move,
    Sending,
    Settle,
    Start,
    Succeed,
)
from tasks.state import Step, TaskState, batch_outcome
from wallet import services as wallet

RACES = """
SELECT b.id, b.winner_id FROM tasks_batch b
WHERE b.mode = 'race' AND b.id IN (SELECT batch_id FROM tasks_task WHERE id = ANY(%s))
ORDER BY b.id FOR UPDATE
"""
CLOSE_BATCHES = (
    "UPDATE tasks_batch AS b SET open = b.open - new.ended,"  # noqa: S608
    " finished_at = CASE WHEN b.open = new.ended THEN now() ELSE b.finished_at END FROM "
    + sql.unnest({"id": "uuid", "ended": "int"})
    + " WHERE b.id = new.id RETURNING b.id, b.account_id, b.open, b.winner_id"
)
# They end nothing, so no race is decided by them or decides about them.
HARMLESS = (Admit, Start, Sending)
RETRIES = 3
NEVER = datetime.min.replace(tzinfo=UTC)
RACE, RACE_LOST = "canceled_by_race", "Another task of the race was first."


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a move: `task` is the row after it, None when no such task exists; `ok`: it changed something."""

    move: Move
    ok: bool
    task: TaskState | None


Along = Callable[[Sequence[Applied]], object]


def apply(moves: Sequence[Move], along: Along | None = None) -> list[Applied]:
    """Apply `moves` in order, together. Inside a transaction it joins that one.

    When anything changes, `along` is called among the writes: its statements travel with them, and see them.

    Raises what the database raises; deadlocks, serialization failures and lock time-outs are tried again
    when the transaction is our own.
    """
    if transaction.get_connection().in_atomic_block:
        return _apply(moves, along)
    for attempt in range(RETRIES):
        try:
            with transaction.atomic():
                return _apply(moves, along)
        except OperationalError as error:
            if attempt == RETRIES - 1 or not passing(error):
                raise
    raise AssertionError("unreachable")


def passing(error: OperationalError) -> bool:
    """Would the same transaction succeed if it were tried again?"""
    return isinstance(
        error.__cause__, (pg.DeadlockDetected, pg.SerializationFailure, pg.LockNotAvailable)
    )


def _apply(moves: Sequence[Move], along: Along | None) -> list[Applied]:
    ids = sorted({move.task_id for move in moves})
    harmless = all(isinstance(move, HARMLESS) for move in moves)
    with sql.together():
        races, tasks = None if harmless else sql.later(RACES, [ids]), rows.lock(ids)
        group = Group(tasks(), dict(races.rows()) if races else {})
        applied = [group.take(move) for move in moves]
        if group.steps:
            group.write(partial(along, applied) if along else None)
    group.check()
    return applied


def lock_races(tasks: Sequence[UUID]) -> dict[UUID, UUID | None]:
    """The races these tasks run in, with their winners; before any task is locked."""
    return dict(sql.fetch(RACES, [list(tasks)]))


class Group:
    """The tasks locked by one `apply`, as they are and as they become."""

    def __init__(self, locked: Sequence[rows.Locked], races: dict[UUID, UUID | None]) -> None:
        self.before = {one.task.id: one.task for one in locked}
        self.after = dict(self.before)
        self.races = races
        self.winners: dict[UUID, UUID] = {}
        self.now = locked[0].now if locked else NEVER  # without a task nobody asks
        self.steps: list[Step] = []
        self.events: list[NewEvent] = []
        self.watched = {one.task.id for one in locked if one.watched}
        self.check: Callable[[], None] = lambda: None  # after the writes

    def take(self, move: Move) -> Applied:
        task = self.after.get(move.task_id)
        if task is None:
            return Applied(move, False, None)
        step = self._raced(move, task).step(task, self.now)
        if step is None:
            counting.refused(move)
            return Applied(move, False, task)
        step.task = self._number(step)
        self.after[task.id] = step.task
        self.steps.append(step)
        if step.task.status == Status.SUCCEEDED and task.batch_id in self.races:
            self.races[task.batch_id] = self.winners[task.batch_id] = task.id
        return Applied(move, True, step.task)

    def _raced(self, move: Move, task: TaskState) -> Move:
        """A success after the winner's is canceled and uncharged; whoever is canceled then was the race's loser."""
        winner = self.races.get(task.batch_id) if task.batch_id else None
        if winner is None or winner == task.id:
            return move
        if isinstance(move, Canceled):
            return replace(move, code=RACE, message=RACE_LOST)
        if isinstance(move, Succeed) or (isinstance(move, AttemptFailed) and task.cancel_requested):
            return Canceled(task_id=task.id, attempt=move.attempt, code=RACE, message=RACE_LOST)
        if isinstance(move, Settle) and move.success:
            return Cancel(task_id=task.id, by="race", code=RACE, message=RACE_LOST)
        return move

    def _number(self, step: Step) -> TaskState:
        """Give the step's events their places in the task's own order."""
        task = step.task
        self.events.extend(
            NewEvent(
                account=task.account_id,
                type=kind,
                data=data,
                at=self.now,
                task=task.id,
                batch=task.batch_id,
                seq=number,
            )
            for number, (kind, data) in enumerate(step.events, task.seq + 1)
        )
        return task.evolve(seq=task.seq + len(step.events))

    def write(self, along: Callable[[], object] | None) -> None:
        ended = [
            task
            for id_, task in self.after.items()
            if task.status in TERMINAL and self.before[id_].status not in TERMINAL
        ]
        self.check = rows.update_tasks(self.before, self.after)
        rows.write_attempts(self.steps)
        rows.update_contents(self.steps)
        if along:
            along()
        append(self.events)
        batches = self._write_batches(ended)
        deliveries.write([event for event in self.events if event.task in self.watched] + batches)
        self._settle(ended)
        transaction.on_commit(partial(counting.written, self.steps, ended), robust=True)
        if ended or any(makes_room(step) for step in self.steps):
            announce_work()

    def _write_batches(self, ended: Sequence[TaskState]) -> list[NewEvent]:
        """The events of batches that end with these tasks."""
        counts = Counter(task.batch_id for task in ended if task.batch_id)
        if not counts:
            return []
        ids = sorted(counts)
        sql.fetch("SELECT 1 FROM tasks_batch WHERE id = ANY(%s) ORDER BY id FOR UPDATE", [ids])
        if self.winners:
            sql.execute(
                "UPDATE tasks_batch AS b SET winner_id = new.winner_id FROM "  # noqa: S608
                + sql.unnest({"id": "uuid", "winner_id": "uuid"})
                + " WHERE b.id = new.id",
                sql.columns(list(self.winners.items())),
            )
            transaction.on_commit(partial(cancel_losers, list(self.winners)), robust=True)
        closed = sql.fetch(CLOSE_BATCHES, sql.columns([(id_, counts[id_]) for id_ in ids]))
        events = batch_ends([row for row in closed if row[2] == 0])
        append(events)
        return events

    def _settle(self, ended: Sequence[TaskState]) -> None:
        wallet.settle(
            [
                wallet.Settlement(
                    hold_id=task.hold_id,
                    charge=task.charged if task.status == Status.SUCCEEDED else None,
                )
                for task in ended
                if task.hold_id
            ]
        )


def makes_room(step: Step) -> bool:
    """Whether a round of admission may find more to do: somebody waits, or a slot or a thread is free."""
    change = step.attempt
    freed = change is not None and not (change.slot and change.lease_until)
    return freed or step.task.status == Status.QUEUED


def batch_ends(closed: Sequence[tuple[Any, ...]]) -> list[NewEvent]:
    """The terminal event of each batch (id, account, open, winner) whose last child has just ended."""
    if not closed:
        return []
    counts: dict[UUID, Counter[str]] = defaultdict(Counter)
    charged: Counter[UUID] = Counter()
    for batch, status, count, credits_ in sql.fetch(
        "SELECT batch_id, status, count(*), sum(charged)::bigint FROM tasks_task"
        " WHERE batch_id = ANY(%s) AND NOT superseded GROUP BY batch_id, status",
        [[row[0] for row in closed]],
    ):
        counts[batch][status] = count
        charged[batch] += credits_
    return [
        NewEvent(
            account=account,
            type=f"batch.{batch_outcome(counts[id_], winner)}",
            data={
                "counts": {status.value: counts[id_][status.value] for status in Status},
                "charged": to_credits(charged[id_]),
                "winner_task_id": str(winner) if winner else None,
            },
            batch=id_,
        )
        for id_, account, _, winner in closed
    ]


def cancel_losers(batches: Sequence[UUID]) -> int:
    """Cancel what still runs in races that are won; the number of tasks asked. Repeatable."""
    found = sql.fetch(
        "SELECT t.id FROM tasks_task t JOIN tasks_batch b ON b.id = t.batch_id"
        " WHERE b.id = ANY(%s) AND b.winner_id IS NOT NULL AND t.finished_at IS NULL"
        " AND NOT t.cancel_requested AND t.id <> b.winner_id",
        [list(batches)],
    )
    moves = [
        Cancel(
            task_id=id_,
            by="race",
            code=RACE,
            message=RACE_LOST,
        )
        for (id_,) in found
    ]
    return sum(applied.ok for applied in apply(moves)) if moves else 0


def open_races() -> list[UUID]:
    """Races that are won while children still run: their losers' cancel got lost with a process."""
    return list(
        Batch.objects.filter(mode=Batch.Mode.RACE, winner_id__isnull=False, open__gt=0).values_list(
            "id", flat=True
        )
    )
