"""A task as the state machine sees it: the mutable columns of its row, and what one step does to them."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from tasks.models import Stage, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """Read under lock, changed by `dataclasses.replace`, written back whole. Field names are column names."""

    id: UUID
    # Never changed by a move.
    account_id: UUID
    key_id: UUID | None = None
    batch_id: UUID | None = None
    task_type: str = ""
    source: str = ""
    priority: int = 1
    max_attempts: int = 5
    hold_id: UUID | None = None
    quoted: int = 0
    timeout: int = 600
    run_at: datetime | None = None
    start_deadline: datetime | None = None
    store: bool = True
    retention: int | None = None
    stream: bool = False
    created_at: datetime | None = None
    # Written back after every move.
    status: Status = Status.QUEUED
    family: str = ""
    provider: str = ""
    model: str | None = None
    route_id: int = 0
    ready: bool = True
    due_at: datetime | None = None
    rank: int = 0
    attempt: int = 0
    tries: int = 0
    here: int = 0
    crashes: int = 0
    alone_crashes: int = 0
    waited: float = 0.0
    cancel_requested: bool = False
    executor_id: UUID | None = None
    executor: str | None = None
    charged: int = 0
    vendor_cost: int | None = None
    seq: int = 0
    phase: str = ""
    ran: float = 0.0
    run_deadline: datetime | None = None
    purge_at: datetime | None = None
    blocked_at: datetime | None = None
    admitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    def evolve(self, **changes: Any) -> "TaskState":
        """A copy with `changes`; `dataclasses.replace` for a class of this many fields, in a fifth of its time."""
        new = object.__new__(TaskState)
        for name in TaskState.__slots__:
            value = changes[name] if name in changes else getattr(self, name)
            object.__setattr__(new, name, value)
        return new

    @property
    def suspect(self) -> bool:
        """Workers died under it twice: only the quarantine worker may have it."""
        return self.crashes >= SUSPECT_AFTER


SUSPECT_AFTER = 2  # deaths among others
POISON_AFTER = 3  # deaths while alone

MUTABLE: dict[str, str] = {  # column -> SQL type, in the order they are written
    "status": "text",
    "family": "text",
    "provider": "text",
    "model": "text",
    "route_id": "bigint",
    "ready": "boolean",
    "due_at": "timestamptz",
    "rank": "bigint",
    "attempt": "int",
    "tries": "int",
    "here": "int",
    "crashes": "int",
    "alone_crashes": "int",
    "waited": "float8",
    "cancel_requested": "boolean",
    "executor_id": "uuid",
    "executor": "text",
    "charged": "bigint",
    "vendor_cost": "bigint",
    "seq": "int",
    "phase": "text",
    "ran": "float8",
    "run_deadline": "timestamptz",
    "purge_at": "timestamptz",
    "blocked_at": "timestamptz",
    "admitted_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptChange:
    """What a step does to one attempt. None keeps a column, except that `lease_until` and `next_poll_at`
    are always overwritten: an attempt is held by a lease or by a timer, and each step says which."""

    number: int
    stage: Stage | None = None
    slot: bool = True
    worker: str | None = None
    lease_until: datetime | None = None
    next_poll_at: datetime | None = None
    finds: int | None = None
    external_id: str | None = None
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: dict[str, Any] | None = None
    vendor_cost: int | None = None
    possible_cost: bool | None = None
    late: bool | None = None
    outcome: str | None = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttempt:
    """The attempt an admission makes."""

    number: int
    executor_id: UUID
    executor: str
    credential_id: UUID | None
    submit_key: UUID
    alone: bool
    published_at: datetime
    verdicts: list[dict[str, Any]] | None = None


@dataclass(slots=True, kw_only=True)
class Step:
    """The whole effect of one move on one task, decided without I/O."""

    task: TaskState
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    new_attempt: NewAttempt | None = None
    attempt: AttemptChange | None = None
    output: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def batch_outcome(counts: Counter[str], winner: UUID | None) -> str:
    """`completed` (all succeeded, or the race is won), `partial` (some did), `failed` (none)."""
    succeeded = counts[Status.SUCCEEDED.value]
    if winner or succeeded == counts.total():
        return "completed"
    return "partial" if succeeded else "failed"
