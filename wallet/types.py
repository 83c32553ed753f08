"""What goes into and comes out of `wallet.services`. Amounts are micro-credits."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A hold that came to its end, and the balances right after it."""

    account_id: UUID
    task_id: UUID | None
    amount: int
    charged: int
    released: int
    available: int
    held: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet has now, and all it was ever given and charged."""

    available: int = 0
    held: int = 0
    deposited: int = 0
    charged: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """The hold of a client's reference, and what the wallet has left."""

    hold_id: UUID
    available: int
