"""Freeze, confirm, release, deposit: everything that moves credits. Amounts are micro-credits.

Functions run in the caller's transaction (or one of their own) and take locks in one order: holds by
id, then wallets by account id, last. After a raised error the transaction can only be rolled back.
Every movement stores its `wallet.*` event with it.
"""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from genpulse.errors import HoldAlreadyResolved, HoldConflict, NotFound
from genpulse.ids import new_id
from wallet import holds, ledger
from wallet.ledger import Line, Posted
from wallet.models import Entry, Hold, HoldStatus, Journal, JournalKind, Wallet
from wallet.types import Balance, Freeze, Held, Settled, Settlement

__all__ = [
    "Balance",
    "Freeze",
    "Held",
    "Settled",
    "Settlement",
    "adjust",
    "adopt",
    "balance",
    "confirm",
    "deposit",
    "freeze",
    "freeze_many",
    "release",
    "release_expired_holds",
    "settle",
]


def balance(account_id: UUID) -> Balance:
    """Zeros for an account that never had credits."""
    wallets = Wallet.objects.filter(pk=account_id)
    row = wallets.values_list("available", "held", "deposited", "charged").first()
    return Balance(*row) if row else Balance()


def freeze_many(freezes: Sequence[Freeze]) -> dict[UUID, Balance]:
    """Make all the holds or none; answers the balances by account. Raises InsufficientCredits."""
    if not freezes:
        return {}
    return {
        after.account_id: Balance(after.available, after.held, after.deposited, after.charged)
        for after in ledger.freeze(_line_of(freeze) for freeze in freezes)
    }


def settle(settlements: Sequence[Settlement], *, reason: str = "") -> dict[UUID, Settled]:
    """End all the holds or none; answers by hold. Raises HoldAlreadyResolved when one is not open."""
    if not settlements:
        return {}
    ends = [(end.hold_id, end.charge) for end in settlements]
    return {
        after.hold_id: _settled(after) for after in ledger.settle(ends, reason) if after.hold_id
    }


@transaction.atomic(savepoint=False)
def adopt(wanted: Freeze) -> UUID:
    """The open hold of the same reference and amount becomes the task's; without one, freeze now.

    Answers the id of the hold. Raises HoldConflict, InsufficientCredits.
    """
    hold_id = holds.claim(wanted)
    if hold_id is None:
        raise HoldConflict
    if hold_id == wanted.hold_id:
        ledger.post(JournalKind.HOLD, _line_of(wanted))
    return hold_id


@transaction.atomic(savepoint=False)
def freeze(account_id: UUID, reference: str, amount: int) -> Held:
    """A hold that waits for `confirm`, `release` or a task that adopts it, at most HOLD_TTL.

    Repeated with the same amount: the same hold. Raises HoldConflict for another amount or a
    reference that is spent, InsufficientCredits.
    """
    wanted = Freeze(hold_id=new_id(), account_id=account_id, amount=amount, reference=reference)
    return Held(adopt(wanted), balance(account_id).available)


def confirm(hold_id: UUID, account_id: UUID | None = None) -> Settled:
    """Charge the whole hold, unless a task owns it. `account_id` None: of any account.

    Raises NotFound, HoldConflict.
    """
    return _settle_free(hold_id, account_id, charge=True)


def release(hold_id: UUID, account_id: UUID | None = None) -> Settled:
    """Give the hold back, unless a task owns it. Raises NotFound, HoldConflict."""
    return _settle_free(hold_id, account_id, charge=False)


@transaction.atomic(savepoint=False)
def release_expired_holds(limit: int = 500) -> int:
    """Release holds no task adopted within HOLD_TTL, at most `limit`; answers how many."""
    expired = holds.lock_expired(limit)
    settle([Settlement(hold_id, None) for hold_id in expired], reason="expired")
    return len(expired)


@transaction.atomic(savepoint=False)
def deposit(
    account_id: UUID, amount: int, *, reason: str, reference: str = "", actor: str = ""
) -> tuple[Entry, bool]:
    """Put `amount` > 0 into the wallet. The same `reference` again: the first deposit, and False."""
    Wallet.objects.bulk_create([Wallet(account_id=account_id)], ignore_conflicts=True)
    idem = f"{account_id}:{reference}" if reference else ""
    if idem:
        Wallet.objects.select_for_update().get(pk=account_id)  # twins of the reference queue here
        known = Journal.objects.filter(idem=idem).first()
        if known:
            return Entry.objects.select_related("journal").get(
                journal=known, account=account_id
            ), False
    line = Line(account_id=account_id, available=amount, reference=reference)
    after = ledger.post(JournalKind.DEPOSIT, line, idem=idem, reason=reason, actor=actor)
    return _entry_of(after), True


@transaction.atomic(savepoint=False)
def adjust(account_id: UUID, amount: int, *, reason: str, actor: str = "") -> Entry:
    """Correct the wallet by `amount` != 0. Raises InsufficientCredits below zero available."""
    Wallet.objects.bulk_create([Wallet(account_id=account_id)], ignore_conflicts=True)
    line = Line(account_id=account_id, available=amount)
    return _entry_of(ledger.post(JournalKind.ADJUSTMENT, line, reason=reason, actor=actor))


def _line_of(freeze: Freeze) -> Line:
    return Line(
        account_id=freeze.account_id,
        available=-freeze.amount,
        held=freeze.amount,
        hold_id=freeze.hold_id,
        task_id=freeze.task_id,
        batch_id=freeze.batch_id,
        reference=freeze.reference,
        expires_at=freeze.expires_at,
    )


def _entry_of(after: Posted) -> Entry:
    return Entry.objects.select_related("journal").get(journal=after.id, account=after.account_id)


def _settle_free(hold_id: UUID, account_id: UUID | None, *, charge: bool) -> Settled:
    with transaction.atomic(savepoint=False):
        amount = holds.lock_free(hold_id, account_id)
        if amount is None:
            raise _refusal(hold_id, account_id)
        return settle([Settlement(hold_id, amount if charge else None)])[hold_id]


def _refusal(hold_id: UUID, account_id: UUID | None) -> NotFound | HoldConflict:
    hold = Hold.objects.filter(pk=hold_id).first()
    if hold is None or account_id not in {None, hold.account_id}:
        return NotFound()
    return HoldConflict() if hold.status == HoldStatus.OPEN else HoldAlreadyResolved()


def _settled(after: Posted) -> Settled:
    return Settled(
        account_id=after.account_id,
        task_id=after.task_id,
        amount=-after.held_change,
        charged=-(after.available_change + after.held_change),
        released=after.available_change,
        available=after.available,
        held=after.held,
    )
