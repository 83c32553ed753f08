"""Single holds of clients: claimed by reference, adopted by a task, or left to expire."""

from uuid import UUID

from genpulse import sql
from genpulse.config import config
from wallet.types import Freeze

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

LOCK_FREE = """
SELECT amount FROM wallet_hold
WHERE id = %s AND status = 'open' AND task_id IS NULL AND account_id = coalesce(%s, account_id) FOR UPDATE
"""

LOCK_EXPIRED = """
SELECT id FROM wallet_hold WHERE status = 'open' AND task_id IS NULL AND expires_at <= now()
ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED
"""


def claim(freeze: Freeze) -> UUID | None:
    """The hold of this (account, reference): `freeze.hold_id` if made now, another id if it was open
    with the same amount (a task adopts it), None if it is spent, taken or of another amount."""
    rows = sql.fetch(
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
    return rows[0][0] if rows else None


def lock_free(hold_id: UUID, account_id: UUID | None) -> int | None:
    """Lock the hold if it is open, no task owns it and the account (None: any) does; its amount."""
    rows = sql.fetch(LOCK_FREE, [hold_id, account_id])
    return rows[0][0] if rows else None


def lock_expired(limit: int) -> list[UUID]:
    """Lock open holds that no task adopted in time, skipping those somebody else works on."""
    return [hold_id for (hold_id,) in sql.fetch(LOCK_EXPIRED, [limit])]
