"""Everybody at once, on real connections. `HYPOTHESIS_PROFILE=chaos` runs the full size."""

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event, Thread
from typing import Any
from uuid import UUID

import pytest
from django.db import connection

from genpulse.errors import HoldAlreadyResolved, HoldConflict, InsufficientCredits
from genpulse.ids import new_id
from genpulse.money import MICRO
from tests.integration.wallet_cast import account, breaches, has
from wallet import services
from wallet.models import Hold, Journal, Wallet
from wallet.services import Freeze, Settlement

pytestmark = pytest.mark.django_db(transaction=True)
FULL = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"


def together(actions: Iterable[Callable[[], Any]]) -> list[Any]:
    """Run each in a thread with a connection of its own, started at the same moment."""
    waiting = list(actions)
    start = Barrier(len(waiting))

    def run(action: Callable[[], Any]) -> Any:
        try:
            start.wait()
            return action()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(waiting)) as pool:
        return list(pool.map(run, waiting))


@contextmanager
def watched() -> Iterator[list[int]]:
    """Every balance somebody could have seen meanwhile that was below zero."""
    below: list[int] = []
    over = Event()

    def watch() -> None:
        while not over.wait(0.002):
            balances = Wallet.objects.values_list("available", "held")
            below.extend(amount for pair in balances for amount in pair if amount < 0)
        connection.close()

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield below
    finally:
        over.set()
        watcher.join()


def test_thirty_two_threads_cannot_spend_more_than_there_is():
    """1000 freezes of 1 on 100 credits: exactly 100 succeed, and nobody ever sees a debt."""
    threads, each, credits_ = 32, 32, 100
    alice = account("alice", credits_)

    def spend() -> Counter[str]:
        results: Counter[str] = Counter()
        for _ in range(each):
            try:
                services.freeze_many([Freeze(hold_id=new_id(), account_id=alice.id, amount=MICRO)])
                results["frozen"] += 1
            except InsufficientCredits:
                results["refused"] += 1
        return results

    with watched() as below:
        spent = together([spend] * threads)

    assert sum(spent, Counter[str]()) == {"frozen": credits_, "refused": threads * each - credits_}
    assert has(alice) == (0, credits_)
    assert (below, breaches()) == ([], {})


def test_confirm_release_and_expiry_race_and_one_wins():
    """Three actors meet on every hold: one ends it, the others are told so."""
    holds = 2000 if FULL else 250
    owners = [account(credits_=holds) for _ in range(5)]
    ids = [new_id() for _ in range(holds)]
    for owner in range(5):
        services.freeze_many(
            [
                Freeze(hold_id=hold_id, account_id=owners[owner].id, amount=MICRO)
                for hold_id in ids[owner::5]
            ]
        )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE wallet_hold SET expires_at = now() - interval '1 second'")

    def actor(end: Callable[[UUID], Any], seed: int) -> Callable[[], Counter[str]]:
        order = random.Random(seed).sample(ids, len(ids))

        def act() -> Counter[str]:
            results: Counter[str] = Counter()
            for hold_id in order:
                try:
                    end(hold_id)
                    results["won"] += 1
                except HoldAlreadyResolved:
                    results["lost"] += 1
            return results

        return act

    def expire() -> Counter[str]:
        won = 0
        while Hold.objects.filter(status="open").exists():
            won += services.release_expired_holds(limit=3)
        return Counter(won=won)

    confirmed, released, expired = together(
        [actor(services.confirm, 1), actor(services.release, 2), expire]
    )

    assert confirmed["won"] + released["won"] + expired["won"] == holds
    assert confirmed.total() == released.total() == holds
    ended = Counter(Journal.objects.exclude(kind="hold").values_list("kind", "reason"))
    assert ended["charge", ""] == confirmed["won"]
    assert ended["release", ""] == released["won"]
    assert ended["release", "expired"] == expired["won"]
    assert breaches() == {}


def test_groups_over_the_same_wallets_never_deadlock():
    """Settlements and freezes of many accounts, in any order, by many workers: all succeed."""
    owners = [account(credits_=1000) for _ in range(6)]
    workers, rounds = 8, 20 if FULL else 4

    def work(seed: int) -> Callable[[], None]:
        chance = random.Random(seed)

        def act() -> None:
            for _ in range(rounds):
                chosen = chance.sample(owners, len(owners))
                freezes = [
                    Freeze(hold_id=new_id(), account_id=owner.id, amount=chance.randint(1, 9))
                    for owner in chosen
                ]
                services.freeze_many(freezes)
                ends = [Settlement(freeze.hold_id, chance.choice([None, 1])) for freeze in freezes]
                services.settle(chance.sample(ends, len(ends)))

        return act

    together([work(seed) for seed in range(workers)])

    assert Hold.objects.filter(status="open").count() == 0
    assert Hold.objects.count() == workers * rounds * len(owners)
    assert breaches() == {}


def test_one_reference_makes_one_hold_and_one_deposit():
    """A client that asks for the same thing twenty times at once gets it once."""
    alice = account("alice", 100)

    held = together([lambda: services.freeze(alice.id, "order-1", 5 * MICRO).hold_id] * 20)
    deposits = together(
        [lambda: services.deposit(alice.id, MICRO, reason="x", reference="inv-1")[0].journal_id]
        * 20
    )

    assert len(set(held)) == len(set(deposits)) == 1
    assert has(alice) == (96, 5)
    assert breaches() == {}


def test_a_client_and_a_task_cannot_both_have_a_hold():
    """Twenty tasks and a client reach for one frozen id: one of them gets it."""
    alice = account("alice", 100)
    hold_id = services.freeze(alice.id, "t-1", 5 * MICRO).hold_id

    def adopt() -> str:
        wanted = Freeze(
            hold_id=new_id(),
            account_id=alice.id,
            amount=5 * MICRO,
            reference="t-1",
            task_id=new_id(),
        )
        try:
            return "task" if services.adopt(wanted) == hold_id else "another hold"
        except HoldConflict:
            return "refused"

    def confirm() -> str:
        try:
            services.confirm(hold_id, alice.id)
        except HoldConflict:
            return "refused"
        return "client"

    results = Counter(together([adopt] * 10 + [confirm] + [adopt] * 10))

    assert results["refused"] == 20
    assert results["task"] + results["client"] == 1
    assert breaches() == {}
