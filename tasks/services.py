"""What doors may do with tasks: submit, cancel, retry, clone, promote, hide. One transaction each.

Statement order is that of `lifecycle.apply`: tasks, contents, events, batches, holds, wallets.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from genpulse import meters, sql
from genpulse.config import config
from genpulse.errors import BudgetExceeded, TooManyWaiting
from genpulse.events.log import NewEvent, announce_work, append
from genpulse.money import to_credits
from media import services as media
from tasks import conversations, deliveries, drafts, feasibility
from tasks.drafts import Actor, Draft
from tasks.models import Batch
from tasks.new_tasks import Row, insert, options_of
from tasks.requests import TaskBody
from wallet import services as wallet

REOPEN = "UPDATE tasks_batch SET open = open + %s, finished_at = NULL WHERE id = %s"
NOW = (
    f"SELECT now(), {deliveries.ACCOUNT_IS_WATCHED.format(account='a.id')}, a.max_waiting, a.budget_amount, "  # noqa: S608
    "a.budget_window FROM accounts_account a WHERE a.id = %s"
)
WAITING_COUNT = "SELECT count(*) FROM tasks_task WHERE account_id = %s AND finished_at IS NULL"
SPENT = """
SELECT coalesce(sum(CASE WHEN finished_at IS NULL THEN quoted ELSE charged END), 0)::bigint FROM tasks_task
WHERE account_id = %s AND (%s::uuid IS NULL OR key_id = %s)
  AND created_at >= date_trunc(%s, now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """What a batch adds to its drafts."""

    mode: str = Batch.Mode.ALL
    title: str | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    webhook: dict[str, Any] | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Of an account; the budget in micro-credits."""

    waiting: int | None
    budget: int | None
    window: str | None


def _now(account_id: UUID) -> tuple[datetime, bool, Limits]:
    """The database's time, whether an endpoint hears of the account's events, and its limits."""
    now, watched, *limits = sql.fetch(NOW, [account_id])[0]
    return now, watched, Limits(*limits)


def submit(actor: Actor, body: TaskBody) -> UUID:
    """Check and store one task; its id. For doors without idempotency of their own."""
    made = drafts.draft(actor, body)
    with transaction.atomic():
        return write(actor, [made])[0]


def write(
    actor: Actor,
    made: Sequence[Draft],
    batch: BatchSpec | None = None,
    *,
    joins: UUID | None = None,
) -> list[UUID]:
    """Store drafts in the caller's transaction, with their holds and first events; the ids, in order.

    `batch`: make one for them; `joins`: they take places in this one, which opens again.

    All or nothing: raises InsufficientCredits, TooManyWaiting, BudgetExceeded, NotFeasible.
    """
    placed = place(actor, made, batch, joins=joins)
    placed.pay()
    return placed.ids


@dataclass(frozen=True, slots=True)
class Placed:
    """Tasks that are stored, but for their holds; and what was asked along with them."""

    ids: list[UUID]
    freezes: list[wallet.Freeze]
    asked: Any = None

    def pay(self) -> None:
        """The last thing of the transaction: all who spend from one wallet wait for each other. Raises InsufficientCredits."""
        wallet.freeze_many(self.freezes)


def place(
    actor: Actor,
    made: Sequence[Draft],
    batch: BatchSpec | None = None,
    *,
    joins: UUID | None = None,
    ask: Callable[[UUID], Any] | None = None,
) -> Placed:
    """`write` without the holds: the caller must `pay`. `ask` may send a question about the first task along."""
    now, watched, limits = _now(actor.account_id)
    price = sum(draft.price for draft in made)
    _check_waiting(actor, limits, len(made))
    _check_budgets(actor, limits, price)
    feasibility.check(made, actor.account_id)
    begun = _write_batch(actor, made, batch, price, now) if batch else None
    batch_id = begun.batch if begun else joins
    conversations.take_turns(actor.account_id, made)
    rows = [Row(actor, one, batch_id, now) for one in made]
    for row in rows:
        _adopt(row)
    events = [row.event() for row in rows]
    with sql.together():
        insert(rows)
        append(events)
        if watched or any("webhook" in options_of(draft) for draft in made):
            deliveries.write([*events, begun] if begun else events)
        _adopt_files(actor, made)
        if joins:
            sql.execute(REOPEN, [len(rows), joins])
        asked = ask(rows[0].id) if ask else None
    announce_work()
    for draft in made:
        meters.submitted.labels(draft.target.family, actor.source).inc()
    freezes = [_freeze(row) for row in rows if row.hold_id and not row.draft.adopts]
    return Placed([row.id for row in rows], freezes, asked)


def _adopt_files(actor: Actor, made: Sequence[Draft]) -> None:
    """Files that came inside the bodies belong to the submitter from now on."""
    for draft in made:
        if draft.files:
            for file in draft.files:
                file.account_id = actor.account_id
            media.insert_many(draft.files)


def _adopt(row: Row) -> None:
    """The client's open hold of the task's own id becomes the task's; without one it is frozen now."""
    if row.draft.adopts:
        row.hold_id = wallet.adopt(_freeze(row))


def _freeze(row: Row) -> wallet.Freeze:
    assert row.hold_id is not None  # noqa: S101 - asked only of priced rows
    return wallet.Freeze(
        hold_id=row.hold_id,
        account_id=row.actor.account_id,
        amount=row.draft.price,
        task_id=row.id,
        batch_id=row.batch_id,
        reference=row.draft.external_id or "" if row.draft.adopts else "",
    )


def _write_batch(
    actor: Actor, made: Sequence[Draft], spec: BatchSpec, price: int, now: datetime
) -> NewEvent:
    """The row; its first event, which names it."""
    batch = Batch.objects.create(
        account_id=actor.account_id,
        key_id=actor.key.id if actor.key else None,
        mode=spec.mode,
        source=actor.source,
        title=spec.title,
        total=len(made),
        open=len(made),
        metadata=spec.metadata or {},
        tags=list(spec.tags),
        webhook=spec.webhook,
        conversation_id=spec.conversation_id,
        created_at=now,
    )
    created = NewEvent(
        account=actor.account_id,
        type="batch.created",
        data={"total": len(made), "mode": spec.mode, "price": to_credits(price)},
        at=now,
        batch=batch.id,
    )
    append([created])
    return created


_waiting: dict[UUID, tuple[float, int]] = {}  # account -> when counted, count; at most a second old


def _check_waiting(actor: Actor, limits: Limits, more: int) -> None:
    limit = config.max_waiting_per_user if limits.waiting is None else limits.waiting
    if not limit:
        return
    counted, count = _waiting.get(actor.account_id, (0.0, 0))
    if time.monotonic() - counted > 1:
        counted, count = time.monotonic(), sql.fetch(WAITING_COUNT, [actor.account_id])[0][0]
    if count + more > limit:
        raise TooManyWaiting(f"At most {limit} tasks may wait for one user.", retry_after=5)
    if len(_waiting) > 10_000:
        _waiting.clear()
    _waiting[actor.account_id] = (counted, count + more)


def _check_budgets(actor: Actor, limits: Limits, price: int) -> None:
    budgets: list[tuple[int | None, str | None, UUID | None]] = [
        (limits.budget, limits.window, None)
    ]
    if actor.key:
        budgets.append((actor.key.budget_amount, actor.key.budget_window, actor.key.id))
    for amount, window, key in budgets:
        if amount is None:
            continue
        spent = sql.fetch(SPENT, [actor.account_id, key, key, window])[0][0]
        if spent + price > amount:
            raise BudgetExceeded(
                f"The budget of {to_credits(amount)} credits a {window} would be passed."
            )


def check_all(
    actor: Actor, bodies: Iterable[tuple[str, TaskBody]], *, quoting: bool = False
) -> list[Draft]:
    """Drafts of all, or the refusal of the first bad one; `prefix` names its place."""
    made: list[Draft] = []
    try:
        for index, (prefix, body) in enumerate(bodies):
            draft = drafts.draft(actor, body, prefix, quoting=quoting)
            draft.batch_index = index
            made.append(draft)
    except BaseException:
        for draft in made:
            media.discard(draft.files)
        raise
    return made


def quote(actor: Actor, bodies: Iterable[tuple[str, TaskBody]]) -> dict[str, Any]:
    """What these tasks would hold, and who could run them.

    Refuses what submit would refuse, but for money and for queues that take no new work at present.
    """
    free = [(prefix, body.model_copy(update={"max_price": None})) for prefix, body in bodies]
    made = check_all(actor, free, quoting=True)
    for draft in made:
        media.discard(draft.files)
    price = sum(draft.price for draft in made)
    available = wallet.balance(actor.account_id).available
    items = [feasibility.quoted(draft, actor.account_id, index) for index, draft in enumerate(made)]
    return {
        "price": to_credits(price),
        "currency": "credits",
        "available": to_credits(available),
        "affordable": price <= available,
        "feasible": all(item["feasible"] for item in items),
        "reasons": sorted({reason for item in items for reason in item.pop("reasons")}),
        "tasks": len(made),
        "items": items,
    }
