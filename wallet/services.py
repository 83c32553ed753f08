"""Freeze, confirm, release, deposit: everything that moves credits. Amounts are micro-credits.

Functions run in the caller's transaction (or one of their own) and take locks in one order: holds by
id, then wallets by account id, last. A raised error leaves the transaction fit for a rollback only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from genpulse.errors import HoldAlreadyResolved, HoldConflict, InsufficientCredits, NotFound
from genpulse.events import log
from genpulse.ids import new_id
from genpulse.money import to_credits
from wallet import holds
from wallet.holds import Freeze, Resolved, Settlement
from wallet.ledger import Line, Posted, post
from wallet.models import Hold, HoldStatus, Journal, JournalKind, Wallet
from wallet.statements import Transaction, transaction_of

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


@dataclass(frozen=True, slots=True)
class Balance:
    """What a wallet has now, and all it was ever given and charged."""

    available: int = 0
    held: int = 0
    deposited: int = 0
    charged: int = 0


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
class Held:
    """The hold of a client's reference, and what the wallet has left."""

    hold_id: UUID
    available: int


def balance(account_id: UUID) -> Balance:
    """Zeros for an account that never had credits."""
    wallets = Wallet.objects.filter(pk=account_id)
    row = wallets.values_list("available", "held", "deposited", "charged").first()
    return Balance(*row) if row else Balance()


@transaction.atomic(savepoint=False)
def freeze_many(freezes: Sequence[Freeze]) -> dict[UUID, Balance]:
    """Make all the holds or none; answers the balances by account. Raises InsufficientCredits."""
    if not freezes:
        return {}
    holds.insert(freezes)
    return {
        after.account_id: Balance(after.available, after.held, after.deposited, after.charged)
        for after in _pay_in(freezes)
    }


@transaction.atomic(savepoint=False)
def settle(settlements: Sequence[Settlement], *, reason: str = "") -> dict[UUID, Settled]:
    """End all the holds or none; answers by hold. Raises HoldAlreadyResolved when one is not open."""
    if not settlements:
        return {}
    resolved = holds.resolve(settlements)
    if len(resolved) < len(settlements):
        raise HoldAlreadyResolved
    posted = post([_end_of(hold, reason) for hold in resolved])
    ends = {
        hold.hold_id: Settled(
            account_id=hold.account_id,
            task_id=hold.task_id,
            amount=hold.amount,
            charged=hold.charged,
            released=hold.amount - hold.charged,
            available=after.available,
            held=after.held,
        )
        for hold, after in zip(resolved, posted, strict=True)
    }
    log.append([_end_event(hold, ends[hold.hold_id]) for hold in resolved])
    return ends


@transaction.atomic(savepoint=False)
def freeze(account_id: UUID, reference: str, amount: int) -> Held:
    """A hold that waits for `confirm`, `release` or a task that adopts it, at most HOLD_TTL.

    Repeated with the same amount: the same hold. Raises HoldConflict for another amount or a
    reference that is spent, InsufficientCredits.
    """
    hold_id = adopt(
        Freeze(hold_id=new_id(), account_id=account_id, amount=amount, reference=reference)
    )
    return Held(hold_id, balance(account_id).available)


@transaction.atomic(savepoint=False)
def adopt(wanted: Freeze) -> UUID:
    """The open hold of the same reference and amount becomes the task's; without one, freeze now.

    Answers the id of the hold. Raises HoldConflict, InsufficientCredits.
    """
    hold_id = holds.claim(wanted)
    if hold_id is None:
        raise HoldConflict
    if hold_id == wanted.hold_id:
        _pay_in([wanted])
    return hold_id


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


def deposit(
    account_id: UUID, amount: int, *, reason: str, reference: str = "", actor: str = ""
) -> Transaction:
    """Put `amount` > 0 into the wallet; the same `reference` again answers the first deposit."""
    return _fund(
        Line(
            kind=JournalKind.DEPOSIT,
            account_id=account_id,
            available=amount,
            held=0,
            idem=f"deposit:{account_id}:{reference}" if reference else None,
            reason=reason,
            reference=reference,
            actor=actor,
        )
    )


def adjust(account_id: UUID, amount: int, *, reason: str, actor: str = "") -> Transaction:
    """Correct the wallet by `amount` != 0. Raises InsufficientCredits below zero available."""
    return _fund(
        Line(
            kind=JournalKind.ADJUSTMENT,
            account_id=account_id,
            available=amount,
            held=0,
            reason=reason,
            actor=actor,
        )
    )


@transaction.atomic(savepoint=False)
def _fund(line: Line) -> Transaction:
    Wallet.objects.bulk_create([Wallet(account_id=line.account_id)], ignore_conflicts=True)
    Wallet.objects.select_for_update().get(pk=line.account_id)  # twins of a reference queue here
    known = Journal.objects.filter(idem=line.idem).first() if line.idem else None
    if known:
        return transaction_of(known.pk)
    _require_all([line], post([line]))
    done = transaction_of(line.id)
    log.append([_fund_event(done, line.account_id)])
    return done


def _pay_in(freezes: Sequence[Freeze]) -> list[Posted]:
    lines = [
        Line(
            kind=JournalKind.HOLD,
            account_id=freeze.account_id,
            available=-freeze.amount,
            held=freeze.amount,
            hold_id=freeze.hold_id,
            task_id=freeze.task_id,
            batch_id=freeze.batch_id,
            reference=freeze.reference,
        )
        for freeze in freezes
    ]
    posted = post(lines)
    _require_all(lines, posted)
    log.append([_held_event(line, after) for line, after in zip(lines, posted, strict=True)])
    return posted


def _require_all(lines: Sequence[Line], posted: Sequence[Posted]) -> None:
    paid = {after.account_id for after in posted}
    short = next((line.account_id for line in lines if line.account_id not in paid), None)
    if short is None:
        return
    required = to_credits(-sum(line.available for line in lines if line.account_id == short))
    available = to_credits(balance(short).available)
    raise InsufficientCredits(
        f"This needs {required} credits; {available} are available.",
        required=required,
        available=available,
    )


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


def _end_of(hold: Resolved, reason: str) -> Line:
    confirmed = hold.status == HoldStatus.CONFIRMED
    return Line(
        kind=JournalKind.CHARGE if confirmed else JournalKind.RELEASE,
        account_id=hold.account_id,
        available=hold.amount - hold.charged,
        held=-hold.amount,
        hold_id=hold.hold_id,
        task_id=hold.task_id,
        batch_id=hold.batch_id,
        reference=hold.reference,
        reason=reason,
    )


def _held_event(line: Line, after: Posted) -> log.NewEvent:
    return log.NewEvent(
        account=line.account_id,
        type="wallet.held",
        task=line.task_id,
        batch=line.batch_id,
        data=_hold_data(line.hold_id, line.task_id, line.held, after.available, after.held),
    )


def _end_event(hold: Resolved, end: Settled) -> log.NewEvent:
    charged = hold.status == HoldStatus.CONFIRMED
    amount = end.charged if charged else end.released
    return log.NewEvent(
        account=hold.account_id,
        type="wallet.charged" if charged else "wallet.released",
        task=hold.task_id,
        batch=hold.batch_id,
        data=_hold_data(hold.hold_id, hold.task_id, amount, end.available, end.held),
    )


def _hold_data(
    hold_id: UUID | None, task_id: UUID | None, amount: int, available: int, held: int
) -> dict[str, str | None]:
    return {
        "hold_id": str(hold_id),
        "task_id": str(task_id) if task_id else None,
        "amount": to_credits(amount),
        "available": to_credits(available),
        "held": to_credits(held),
    }


def _fund_event(done: Transaction, account_id: UUID) -> log.NewEvent:
    return log.NewEvent(
        account=account_id,
        type="wallet.deposited" if done.type == JournalKind.DEPOSIT else "wallet.adjusted",
        data={
            "amount": to_credits(done.amount),
            "available": to_credits(done.available_after),
            "reason": done.reason,
        },
    )
