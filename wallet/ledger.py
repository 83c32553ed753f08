"""The one statement that moves credits: wallets, journal and entries change here and nowhere else.

One conditional UPDATE per wallet decides, so there is nothing to read first and nothing to retry;
the journal's running balances are chained back from what it returns. Wallets are locked in the order
of their account ids, as the last locks of a transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from genpulse.ids import new_id
from wallet.models import JournalKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One journal entry to be of one account: signed changes in micro-credits.

    What `available` and `held` do not cancel comes from or goes to the platform.
    """

    kind: JournalKind
    account_id: UUID
    available: int
    held: int
    hold_id: UUID | None = None
    task_id: UUID | None = None
    batch_id: UUID | None = None
    idem: str | None = None
    reason: str = ""
    reference: str = ""
    actor: str = ""
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Posted:
    """The balances right after a line, in micro-credits."""

    line: UUID
    account_id: UUID
    available: int
    held: int
    deposited: int  # totals of the account, after all lines
    charged: int
    at: datetime


TYPES = {
    "kind": "text",
    "account_id": "uuid",
    "available": "bigint",
    "held": "bigint",
    "hold_id": "uuid",
    "task_id": "uuid",
    "batch_id": "uuid",
    "idem": "text",
    "reason": "text",
    "reference": "text",
    "actor": "text",
    "id": "uuid",
}
COLUMNS = [column.name for column in fields(Line)]

# The clock is read while the wallet is locked: times never run against account_seq.
POST = f"""
WITH line AS (
  SELECT * FROM unnest({", ".join(f"%s::{TYPES[name]}[]" for name in COLUMNS)})
    WITH ORDINALITY AS line({", ".join(COLUMNS)}, place)
), total AS (
  SELECT account_id, sum(available)::bigint AS available, sum(held)::bigint AS held, count(*) AS lines,
    coalesce(sum(available) FILTER (WHERE kind = 'deposit'), 0)::bigint AS deposited,
    coalesce(-sum(available + held) FILTER (WHERE kind = 'charge'), 0)::bigint AS charged
  FROM line GROUP BY account_id
), locked AS MATERIALIZED (
  SELECT account_id FROM wallet_wallet WHERE account_id IN (SELECT account_id FROM total)
  ORDER BY account_id FOR UPDATE
), wallet AS (
  UPDATE wallet_wallet AS w SET
    available = w.available + total.available, held = w.held + total.held,
    deposited = w.deposited + total.deposited, charged = w.charged + total.charged,
    last_seq = w.last_seq + total.lines
  FROM total JOIN locked USING (account_id)
  WHERE w.account_id = total.account_id AND w.available + total.available >= 0
  RETURNING w.*, clock_timestamp() AS at
), chained AS (
  SELECT line.*, wallet.deposited, wallet.charged, wallet.at,
    wallet.last_seq - count(*) OVER later AS seq,
    wallet.available - coalesce(sum(line.available) OVER later, 0)::bigint AS available_after,
    wallet.held - coalesce(sum(line.held) OVER later, 0)::bigint AS held_after
  FROM line JOIN wallet USING (account_id)
  WINDOW later AS (PARTITION BY account_id ORDER BY place DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), journal AS (
  INSERT INTO wallet_journal (id, kind, hold_id, idem, reason, reference, actor, task_id, batch_id, created_at)
  SELECT id, kind, hold_id, idem, reason, reference, actor, task_id, batch_id, at FROM chained ORDER BY place
), entry AS (
  INSERT INTO wallet_entry (journal_id, account_id, platform, account_seq, available_change, held_change,
                            available_after, held_after, created_at)
  SELECT id, account_id, '', seq, available, held, available_after, held_after, at FROM chained
  UNION ALL
  SELECT id, NULL, CASE kind WHEN 'charge' THEN 'revenue' ELSE 'funding' END, NULL,
    -(available + held), 0, NULL, NULL, at FROM chained WHERE available + held <> 0
)
SELECT id, account_id, available_after, held_after, deposited, charged, at FROM chained ORDER BY place
"""  # noqa: S608 - column names of this file


def post(lines: Sequence[Line]) -> list[Posted]:
    """Write `lines` in the current transaction; answers them in order with the balances.

    Lines of an account that does not cover all of its lines, or has no wallet, are left out
    altogether: compare the lengths, and roll back.
    """
    columns: list[list[Any]] = [[getattr(line, name) for line in lines] for name in COLUMNS]
    with connection.cursor() as cursor:
        cursor.execute(POST, columns)
        return [Posted(*row) for row in cursor.fetchall()]
