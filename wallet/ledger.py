"""The way to the functions that move credits (migration 0003); only `wallet.services` uses it.

One conditional UPDATE per wallet decides, so there is nothing to read first and nothing to retry.
Holds are locked in the order of their ids, then wallets in that of their accounts, last.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from genpulse import sql
from genpulse.ids import new_id
from wallet.models import JournalKind

Line = dict[str, Any]  # what a function takes: values are text, int or None


class Posted(NamedTuple):
    """One line of the journal, its signed changes, and the balances right after it (micro-credits)."""

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
    deposited: int  # all the account was ever given and charged, after all lines
    charged: int


def line(kind: JournalKind, account_id: UUID, *, available: int, held: int, **more: Any) -> Line:
    """A movement of one account; `more`: hold_id, task_id, batch_id, idem, reason, reference, actor."""
    texts = {name: value and str(value) for name, value in more.items()}
    return texts | {
        "id": str(new_id()),
        "kind": kind,
        "account_id": str(account_id),
        "available": available,
        "held": held,
    }


def post(lines: Sequence[Line]) -> list[Posted]:
    """Write the lines, in order. Those of an account that does not cover all of its own, or has no
    wallet, are left out altogether: compare the lengths, and roll back."""
    return _call("SELECT * FROM wallet_post(%s)", json.dumps(lines))


def freeze(lines: Sequence[Line]) -> list[Posted]:
    """Make the hold of each line (of `held` micro-credits), then as `post`."""
    return _call("SELECT * FROM wallet_freeze(%s)", json.dumps(lines))


def settle(ends: Sequence[tuple[UUID, int | None]], reason: str) -> list[Posted]:
    """End holds: `(hold, charge)`, charge None releases. Those that are not open are left out."""
    wanted = [
        {"id": str(new_id()), "hold_id": str(hold_id), "charge": charge} for hold_id, charge in ends
    ]
    return _call("SELECT * FROM wallet_settle(%s, %s)", json.dumps(wanted), reason)


def _call(statement: str, *parameters: str) -> list[Posted]:
    return [Posted(*row) for row in sql.fetch(statement, parameters)]
