"""The way to the functions that move credits (migration 0003); only `wallet.services` uses it.

One conditional UPDATE per wallet decides, so there is nothing to read first and nothing to retry.
Holds are locked in the order of their ids, then wallets in that of their accounts, last.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import psycopg
from django.db import IntegrityError

from genpulse import sql
from genpulse.errors import HoldAlreadyResolved, InsufficientCredits, Problem
from genpulse.events.log import NewEvent, announce
from genpulse.ids import new_id
from genpulse.money import to_credits
from wallet.models import JournalKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A movement of one account: signed changes in micro-credits. What they do not cancel comes from
    or goes to the platform."""

    account_id: UUID
    available: int
    held: int = 0
    hold_id: UUID | None = None
    task_id: UUID | None = None
    batch_id: UUID | None = None
    reference: str = ""
    expires_at: datetime | None = None
    id: UUID = field(default_factory=new_id)


class Posted(NamedTuple):
    """One line of the journal, its changes, and the balances right after it (micro-credits)."""

    id: UUID
    kind: JournalKind
    account_id: UUID
    hold_id: UUID | None
    task_id: UUID | None
    batch_id: UUID | None
    available_change: int
    held_change: int
    available: int
    held: int
    deposited: int  # all the account was ever given and charged, after all its lines
    charged: int


def post(
    kind: JournalKind, line: Line, *, idem: str = "", reason: str = "", actor: str = ""
) -> Posted:
    """Write one line. Raises InsufficientCredits."""
    (posted,) = _call(
        "SELECT * FROM wallet_post(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [[kind], *_columns([line]), idem, reason, actor],
    )
    return posted


def freeze(lines: Iterable[Line]) -> list[Posted]:
    """Make the hold of each line, of `held` micro-credits. Raises InsufficientCredits."""
    ordered = sorted(lines, key=lambda line: line.account_id)
    return _call(
        "SELECT * FROM wallet_freeze(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [*_columns(ordered), [line.expires_at for line in ordered]],
    )


def settle(ends: Sequence[tuple[UUID, int | None]], reason: str) -> list[Posted]:
    """End holds: `(hold, charge)`, charge None releases. Raises HoldAlreadyResolved."""
    return _call(
        "SELECT * FROM wallet_settle(%s, %s, %s, %s)",
        [
            _array(new_id() for _ in ends),
            _array(hold_id for hold_id, _ in ends),
            _array(charge for _, charge in ends),
            reason,
        ],
    )


def _call(statement: str, parameters: Sequence[Any]) -> list[Posted]:
    """All of it or, raising, nothing. The owners' bells ring at the commit."""
    try:
        posted = [Posted(*row) for row in sql.fetch(statement, parameters)]
    except IntegrityError as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise refusal from None
    announce(NewEvent(account=line.account_id, type="wallet", task=line.task_id) for line in posted)
    return posted


def _refusal(error: IntegrityError) -> Problem | None:
    """What the functions refuse on purpose; None for a constraint that a bug ran into."""
    diagnosis = cast(psycopg.Error, error.__cause__).diag
    if diagnosis.constraint_name == "hold_not_open":
        return HoldAlreadyResolved()
    if diagnosis.constraint_name != "wallet_not_covered":
        return None
    amounts = (diagnosis.message_detail or "").split()
    required, available = (to_credits(int(amount)) for amount in amounts)
    detail = f"This needs {required} credits; {available} are available."
    return InsufficientCredits(detail, required=required, available=available)


def _columns(lines: Sequence[Line]) -> list[Any]:
    return [
        _array(line.id for line in lines),
        _array(line.account_id for line in lines),
        _array(line.available for line in lines),
        _array(line.held for line in lines),
        _array(line.hold_id for line in lines),
        _array(line.task_id for line in lines),
        _array(line.batch_id for line in lines),
        [line.reference for line in lines],
    ]


def _array(values: Iterable[UUID | int | None]) -> str:
    """PostgreSQL's text of an array whose values need no quotes: the driver takes ten times longer."""
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"
