"""Reading the ledger: one customer's transactions in order, and what a month came to."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet, Sum

from genpulse.http.parsing import render_time
from genpulse.money import to_credits
from wallet.models import Entry, JournalKind

TEXTS = ("reason", "reference", "actor")


def transactions(account_id: UUID) -> QuerySet[Entry]:
    """The movements of one wallet, each with its journal; `account_seq` is their order."""
    return Entry.objects.filter(account=account_id).select_related("journal")


def deposited_since(account_id: UUID, since: datetime) -> int:
    """Micro-credits paid in from `since` on."""
    deposits = transactions(account_id).filter(
        created_at__gte=since, journal__kind=JournalKind.DEPOSIT
    )
    return deposits.aggregate(total=Sum("available_change"))["total"] or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One month (UTC) of a wallet. opening + all changes = closing, both available + held."""

    opening: int
    entries: Sequence[Entry]

    @property
    def closing(self) -> int:
        """By the last entry, so that a movement of this moment cannot come between the two."""
        return _both(self.entries[-1]) if self.entries else self.opening

    def total(self, kind: JournalKind) -> int:
        """What movements of this kind changed of available + held."""
        return sum(
            entry.available_change + entry.held_change
            for entry in self.entries
            if entry.journal.kind == kind
        )


def statement(account_id: UUID, year: int, month: int) -> Statement:
    start = datetime(year, month, 1, tzinfo=UTC)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    within = transactions(account_id).filter(created_at__gte=start, created_at__lt=end)
    before = Entry.objects.filter(account=account_id, created_at__lt=start)
    last = before.order_by("-created_at", "-account_seq").first()
    return Statement(
        opening=_both(last) if last else 0, entries=list(within.order_by("account_seq"))
    )


def _both(entry: Entry) -> int:
    return (entry.available_after or 0) + (entry.held_after or 0)


def render(entry: Entry) -> dict[str, Any]:
    """A transaction as the API shows it."""
    journal = entry.journal
    return {
        "id": str(journal.id),
        "type": journal.kind,
        "amount": to_credits(entry.available_change),
        "available_before": to_credits(entry.available_before),
        "available_after": to_credits(entry.available_after or 0),
        "held_after": to_credits(entry.held_after or 0),
        "charged": to_credits(entry.charged),
        "task_id": journal.task_id and str(journal.task_id),
        "batch_id": journal.batch_id and str(journal.batch_id),
        "hold_id": journal.hold_id and str(journal.hold_id),
        "reason": journal.reason,
        "reference": journal.reference,
        "actor": journal.actor,
        "at": render_time(entry.created_at),
    }


def as_csv(items: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """One line per transaction under a header line (RFC 4180)."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns)
    writer.writeheader()
    writer.writerows({**item, **{name: _harmless(item[name]) for name in TEXTS}} for item in items)
    return out.getvalue()


def _harmless(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula; a quote before it keeps it a text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
