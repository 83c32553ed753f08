"""Who the wallet's tests are about, and what must be true after each."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from genpulse.auth.models import Account
from genpulse.ids import new_id
from genpulse.money import MICRO
from wallet import audit, services
from wallet.services import Freeze


def account(name: str = "", credits_: int = 0) -> Account:
    """A new account with `credits_` in its wallet."""
    made = Account.objects.create(name=name or f"account-{new_id()}")
    if credits_:
        services.deposit(made.id, credits_ * MICRO, reason="gift")
    return made


def frozen(owner: Account, credits_: int, **more: Any) -> UUID:
    """The id of a new hold."""
    hold_id = new_id()
    services.freeze_many(
        [Freeze(hold_id=hold_id, account_id=owner.id, amount=credits_ * MICRO, **more)]
    )
    return hold_id


def has(owner: Account) -> tuple[float, float]:
    """(available, held) in credits."""
    balance = services.balance(owner.id)
    return balance.available / MICRO, balance.held / MICRO


def breaches() -> dict[str, Iterable[str]]:
    """The invariants that do not hold, with the rows that break them."""
    return {check.name: check.sample for check in audit.run() if check.violations}
