"""Any order of anything: the wallet always equals a model of a few dictionaries, and its audit is clean.

`HYPOTHESIS_PROFILE=chaos` runs the long form.
"""

import os
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from genpulse.errors import HoldAlreadyResolved, HoldConflict, InsufficientCredits, Problem
from genpulse.ids import new_id
from tests.integration.wallet_cast import account, breaches
from wallet import services
from wallet.models import Hold
from wallet.services import Balance, Freeze, Settlement

PROFILES = {"quick": (8, 20), "chaos": (300, 50)}
EXAMPLES, STEPS = PROFILES[os.environ.get("HYPOTHESIS_PROFILE", "quick")]
OWNERS = st.integers(0, 2)
AMOUNTS = st.integers(1, 60)
REFERENCES = st.sampled_from(["a", "b", "c"])


@dataclass
class Purse:
    available: int = 0
    held: int = 0
    deposited: int = 0
    charged: int = 0
    references: dict[str, UUID] = field(default_factory=dict)
    deposits: set[str] = field(default_factory=set)


@dataclass
class Claim:
    owner: int
    amount: int
    reference: str = ""
    task: bool = False
    status: str = "open"


class WalletMachine(RuleBasedStateMachine):
    holds = Bundle("holds")

    @initialize()
    def open_wallets(self) -> None:
        self.example = transaction.atomic()
        self.example.__enter__()
        self.accounts = [account().id for _ in range(3)]
        self.purses = [Purse() for _ in range(3)]
        self.claims: dict[UUID, Claim] = {}

    def teardown(self) -> None:
        if hasattr(self, "example"):
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    def attempt(self, action: Any, *args: Any, expect: type[Problem] | None = None) -> Any:
        """Run `action` as one transaction; it must be refused with `expect`, or not at all."""
        if expect is None:
            with transaction.atomic():
                return action(*args)
        with pytest.raises(expect), transaction.atomic():
            action(*args)
        return None

    def freeze_model(self, hold_id: UUID, claim: Claim) -> None:
        purse = self.purses[claim.owner]
        purse.available -= claim.amount
        purse.held += claim.amount
        self.claims[hold_id] = claim
        if claim.reference:
            purse.references[claim.reference] = hold_id

    def end_model(self, hold_id: UUID, charge: int | None) -> None:
        claim = self.claims[hold_id]
        purse = self.purses[claim.owner]
        purse.held -= claim.amount
        purse.available += claim.amount - (charge or 0)
        purse.charged += charge or 0
        claim.status = "released" if charge is None else "confirmed"
        if claim.status == "released" and not claim.task:
            purse.references.pop(claim.reference, None)

    @rule(owner=OWNERS, amount=AMOUNTS, reference=st.sampled_from(["", "d1", "d2"]))
    def deposit(self, owner: int, amount: int, reference: str) -> None:
        purse = self.purses[owner]
        known = reference in purse.deposits
        with transaction.atomic():
            _, created = services.deposit(
                self.accounts[owner], amount, reason="x", reference=reference
            )
        assert created is not known
        if created:
            purse.available += amount
            purse.deposited += amount
            purse.deposits |= {reference} - {""}

    @rule(owner=OWNERS, amount=st.integers(-80, 40).filter(bool))
    def adjust(self, owner: int, amount: int) -> None:
        purse = self.purses[owner]
        short = purse.available + amount < 0

        def act() -> None:
            services.adjust(self.accounts[owner], amount, reason="x")

        self.attempt(act, expect=InsufficientCredits if short else None)
        purse.available += 0 if short else amount

    @rule(target=holds, wanted=st.lists(st.tuples(OWNERS, AMOUNTS), min_size=1, max_size=4))
    def freeze_many(self, wanted: list[tuple[int, int]]) -> Any:
        freezes = [
            Freeze(
                hold_id=new_id(),
                account_id=self.accounts[owner],
                amount=amount,
                task_id=new_id(),
            )
            for owner, amount in wanted
        ]
        asked = [sum(amount for who, amount in wanted if who == owner) for owner in range(3)]
        short = any(asked[owner] > self.purses[owner].available for owner, _ in wanted)
        self.attempt(services.freeze_many, freezes, expect=InsufficientCredits if short else None)
        if short:
            return multiple()
        for freeze, (owner, amount) in zip(freezes, wanted, strict=True):
            self.freeze_model(freeze.hold_id, Claim(owner, amount, task=True))
        return multiple(*(freeze.hold_id for freeze in freezes))

    @rule(target=holds, owner=OWNERS, amount=AMOUNTS, reference=REFERENCES, task=st.booleans())
    def claim(self, owner: int, amount: int, reference: str, task: bool) -> Any:
        """A client freezes by its own id, or a task adopts what it froze."""
        purse = self.purses[owner]
        known = self.claims.get(purse.references.get(reference, new_id()))
        wanted = Freeze(
            hold_id=new_id(),
            account_id=self.accounts[owner],
            amount=amount,
            reference=reference,
            task_id=new_id() if task else None,
        )
        if known:
            taken = known.status != "open" or known.amount != amount or (task and known.task)
            found = self.attempt(services.adopt, wanted, expect=HoldConflict if taken else None)
            assert taken or found == purse.references[reference]
            known.task = known.task or (task and not taken)
            return multiple()
        short = amount > purse.available
        self.attempt(services.adopt, wanted, expect=InsufficientCredits if short else None)
        if short:
            return multiple()
        self.freeze_model(wanted.hold_id, Claim(owner, amount, reference, task))
        return wanted.hold_id

    @rule(hold_id=holds, part=st.none() | st.integers(0, 100))
    def settle(self, hold_id: UUID, part: int | None) -> None:
        """Confirm a part or all of it, or release; again: refused, whichever end came first."""
        claim = self.claims[hold_id]
        charge = None if part is None else claim.amount * part // 100
        over = claim.status != "open"
        ends = [Settlement(hold_id, charge)]
        self.attempt(services.settle, ends, expect=HoldAlreadyResolved if over else None)
        if not over:
            self.end_model(hold_id, charge)

    @rule(group=st.lists(consumes(holds), max_size=5, unique=True))
    def settle_group(self, group: list[UUID]) -> None:
        """All of a group end together, or none when one has ended before."""
        over = any(self.claims[hold_id].status != "open" for hold_id in group)
        ends = [Settlement(hold_id, 1 if at % 2 else None) for at, hold_id in enumerate(group)]
        self.attempt(services.settle, ends, expect=HoldAlreadyResolved if over else None)
        for end in [] if over else ends:
            self.end_model(end.hold_id, end.charge)

    @rule(hold_id=holds, confirm=st.booleans())
    def end_by_client(self, hold_id: UUID, confirm: bool) -> None:
        claim = self.claims[hold_id]
        refused = claim.status != "open" or claim.task
        action = services.confirm if confirm else services.release
        self.attempt(
            action, hold_id, self.accounts[claim.owner], expect=HoldConflict if refused else None
        )
        if not refused:
            self.end_model(hold_id, claim.amount if confirm else None)

    @rule(hold_id=holds)
    def expire(self, hold_id: UUID) -> None:
        """Time passes for one hold; only an open one that no task adopted comes back."""
        Hold.objects.filter(pk=hold_id, expires_at__isnull=False).update(
            expires_at=Now() - timedelta(days=1)
        )
        claim = self.claims[hold_id]
        due = claim.status == "open" and not claim.task
        assert self.attempt(services.release_expired_holds) == int(due)
        if due:
            self.end_model(hold_id, None)

    @invariant()
    def books_equal_the_model(self) -> None:
        if not hasattr(self, "purses"):
            return
        for account_id, purse in zip(self.accounts, self.purses, strict=True):
            assert services.balance(account_id) == Balance(
                purse.available, purse.held, purse.deposited, purse.charged
            )

    @invariant()
    def audit_is_clean(self) -> None:
        with connection.cursor() as cursor:  # as at a commit
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
        assert breaches() == {}


@pytest.mark.django_db
@pytest.mark.timeout(1200)
def test_any_order_of_anything():
    run_state_machine_as_test(
        WalletMachine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
