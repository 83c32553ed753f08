"""Reading the ledger: one customer's transactions, in order, with the balances around each."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One movement of a wallet; amounts in micro-credits. `amount` is the change of available."""

    id: UUID
    seq: int
    type: str
    amount: int
    held_change: int
    available_after: int
    held_after: int
    task_id: UUID | None
    batch_id: UUID | None
    hold_id: UUID | None
    reason: str
    reference: str
    actor: str
    at: datetime

    @property
    def available_before(self) -> int:
        return self.available_after - self.amount

    @property
    def charged(self) -> int:
        """Credits that left the wallet for good; 0 for anything but a charge."""
        return -(self.amount + self.held_change) if self.type == "charge" else 0


SELECT = """
SELECT journal.id, entry.account_seq, journal.kind, entry.available_change, entry.held_change,
  entry.available_after, entry.held_after, journal.task_id, journal.batch_id, journal.hold_id,
  journal.reason, journal.reference, journal.actor, entry.created_at
FROM wallet_entry AS entry JOIN wallet_journal AS journal ON journal.id = entry.journal_id
WHERE entry.account_id IS NOT NULL AND """
NAMES = [column.name for column in fields(Transaction)]


def select(where: str, params: dict[str, Any]) -> list[Transaction]:
    with connection.cursor() as cursor:
        cursor.execute(SELECT + where, params)
        return [Transaction(**dict(zip(NAMES, row, strict=True))) for row in cursor.fetchall()]


def transaction_of(journal_id: UUID) -> Transaction:
    """The customer's side of one journal."""
    return select("journal.id = %(id)s", {"id": journal_id})[0]
