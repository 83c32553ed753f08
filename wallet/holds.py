"""Rows of holds: made, adopted by a task, resolved once. What they mean in money is `wallet.services`' part."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from genpulse.config import config
from wallet.models import HoldStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A hold to be, of `amount` > 0. `reference` is a client's own id, unique per account when given."""

    hold_id: UUID
    account_id: UUID
    amount: int
    task_id: UUID | None = None
    batch_id: UUID | None = None
    reference: str = ""
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """`charge` None releases the hold; a number (0..amount) confirms it and returns the rest."""

    hold_id: UUID
    charge: int | None


class Resolved(NamedTuple):
    hold_id: UUID
    account_id: UUID
    task_id: UUID | None
    batch_id: UUID | None
    reference: str
    amount: int
    charged: int
    status: HoldStatus


INSERT = """
INSERT INTO wallet_hold (id, account_id, task_id, batch_id, amount, reference, expires_at, status, charged, created_at)
SELECT *, 'open', 0, now()
FROM unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::text[], %s::timestamptz[])
"""

# The reference decides between two clients, and between a client and a task: one row, one winner.
CLAIM = """
INSERT INTO wallet_hold (id, account_id, task_id, batch_id, amount, reference, expires_at, status, charged, created_at)
VALUES (%(hold_id)s, %(account_id)s, %(task_id)s::uuid, %(batch_id)s::uuid, %(amount)s, %(reference)s,
        CASE WHEN %(task_id)s::uuid IS NULL THEN now() + %(ttl)s * interval '1 second' END, 'open', 0, now())
ON CONFLICT (account_id, reference) WHERE reference <> '' AND (status <> 'released' OR task_id IS NOT NULL)
DO UPDATE SET task_id = coalesce(wallet_hold.task_id, excluded.task_id),
  batch_id = coalesce(wallet_hold.batch_id, excluded.batch_id),
  expires_at = CASE WHEN excluded.task_id IS NULL THEN wallet_hold.expires_at END
WHERE wallet_hold.status = 'open' AND wallet_hold.amount = excluded.amount
  AND (excluded.task_id IS NULL OR wallet_hold.task_id IS NULL)
RETURNING id
"""

RESOLVE = """
WITH locked AS MATERIALIZED (
  SELECT id FROM wallet_hold WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
)
UPDATE wallet_hold AS hold SET resolved_at = now(), charged = coalesce(new.charge, 0),
  status = CASE WHEN new.charge IS NULL THEN 'released' ELSE 'confirmed' END
FROM unnest(%(ids)s, %(charges)s::bigint[]) AS new(id, charge) JOIN locked USING (id)
WHERE hold.id = new.id AND hold.status = 'open'
RETURNING hold.id, hold.account_id, hold.task_id, hold.batch_id, hold.reference, hold.amount,
  hold.charged, hold.status
"""

LOCK_FREE = """
SELECT amount FROM wallet_hold
WHERE id = %s AND status = 'open' AND task_id IS NULL AND account_id = coalesce(%s, account_id) FOR UPDATE
"""

LOCK_EXPIRED = """
SELECT id FROM wallet_hold WHERE status = 'open' AND task_id IS NULL AND expires_at <= now()
ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""


def insert(freezes: Sequence[Freeze]) -> None:
    columns: list[list[Any]] = [
        [getattr(freeze, name) for freeze in freezes]
        for name in (
            "hold_id",
            "account_id",
            "task_id",
            "batch_id",
            "amount",
            "reference",
            "expires_at",
        )
    ]
    with connection.cursor() as cursor:
        cursor.execute(INSERT, columns)


def claim(freeze: Freeze) -> UUID | None:
    """The hold of this (account, reference): `freeze.hold_id` if made now, another id if it was open
    with the same amount (a task adopts it), None if it is spent, taken or of another amount."""
    with connection.cursor() as cursor:
        cursor.execute(
            CLAIM,
            {
                "hold_id": freeze.hold_id,
                "account_id": freeze.account_id,
                "task_id": freeze.task_id,
                "batch_id": freeze.batch_id,
                "amount": freeze.amount,
                "reference": freeze.reference,
                "ttl": config.hold_ttl,
            },
        )
        row = cursor.fetchone()
    return row[0] if row else None


def resolve(settlements: Sequence[Settlement]) -> list[Resolved]:
    """Close those that are open, in the order asked for; the others are missing from the answer."""
    ids = [settlement.hold_id for settlement in settlements]
    charges = [settlement.charge for settlement in settlements]
    with connection.cursor() as cursor:
        cursor.execute(RESOLVE, {"ids": ids, "charges": charges})
        rows = {row[0]: Resolved(*row) for row in cursor.fetchall()}
    return [rows[hold_id] for hold_id in ids if hold_id in rows]


def lock_free(hold_id: UUID, account_id: UUID | None) -> int | None:
    """Lock the hold if it is open, no task owns it and the account (None: any) does; its amount."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK_FREE, [hold_id, account_id])
        row = cursor.fetchone()
    return row[0] if row else None


def lock_expired(limit: int) -> list[UUID]:
    """Lock open holds that no task adopted in time, skipping those somebody else works on."""
    with connection.cursor() as cursor:
        cursor.execute(LOCK_EXPIRED, [limit])
        return [hold_id for (hold_id,) in cursor.fetchall()]
