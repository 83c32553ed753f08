"""Money stories: what happens, and what everybody has afterwards (credits)."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from genpulse.auth import services as users
from genpulse.config import config
from genpulse.errors import HoldAlreadyResolved, HoldConflict, InsufficientCredits, NotFound
from genpulse.events.models import Event
from genpulse.ids import new_id
from genpulse.money import MICRO, to_credits
from tests.integration.wallet_cast import account, breaches, frozen, has
from wallet import services, statements
from wallet.models import Entry, Hold, Journal, Wallet
from wallet.services import Freeze, Settlement

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def books_balance(db):
    yield
    assert breaches() == {}


def test_a_picture_that_succeeds_is_paid_and_the_rest_comes_back():
    alice = account("alice", 100)

    hold = frozen(alice, 12, task_id=new_id())
    assert has(alice) == (88, 12)

    services.settle([Settlement(hold, 10 * MICRO)])
    assert has(alice) == (90, 0)
    assert services.balance(alice.id).charged == 10 * MICRO


def test_a_picture_that_fails_costs_nothing():
    alice = account("alice", 100)
    hold = frozen(alice, 12, task_id=new_id())

    (end,) = services.settle([Settlement(hold, None)]).values()

    assert (end.amount, end.charged, end.released) == (12 * MICRO, 0, 12 * MICRO)
    assert has(alice) == (100, 0)


def test_a_success_may_be_free():
    alice = account("alice", 5)
    services.settle([Settlement(frozen(alice, 5), 0)])
    assert has(alice) == (5, 0)
    assert Hold.objects.get().status == "confirmed"


def test_a_batch_is_frozen_as_a_whole_or_not_at_all():
    alice = account("alice", 10)
    three = [Freeze(hold_id=new_id(), account_id=alice.id, amount=4 * MICRO) for _ in range(3)]

    with pytest.raises(InsufficientCredits) as refused, transaction.atomic():
        services.freeze_many(three)
    assert refused.value.extra == {"required": "12", "available": "10"}
    assert (has(alice), Hold.objects.count()) == ((10, 0), 0)

    balances = services.freeze_many(three[:2])
    assert balances[alice.id].available == 2 * MICRO
    assert has(alice) == (2, 8)


def test_one_poor_account_refuses_the_whole_group():
    rich, poor = account("rich", 10), account("poor", 1)
    both = [
        Freeze(hold_id=new_id(), account_id=owner.id, amount=2 * MICRO) for owner in (rich, poor)
    ]
    with pytest.raises(InsufficientCredits) as refused, transaction.atomic():
        services.freeze_many(both)
    assert refused.value.extra == {"required": "2", "available": "1"}
    assert (has(rich), has(poor)) == ((10, 0), (1, 0))


def test_who_never_had_credits_has_none():
    nobody = account("nobody")
    with pytest.raises(InsufficientCredits) as refused, transaction.atomic():
        frozen(nobody, 1)
    assert refused.value.extra == {"required": "1", "available": "0"}
    assert not Wallet.objects.filter(account=nobody).exists()


def test_a_group_of_ends_settles_several_wallets_in_order():
    alice, bob = account("alice", 10), account("bob", 10)
    first, second = frozen(alice, 3), frozen(alice, 4)
    third = frozen(bob, 5)

    ends = services.settle(
        [Settlement(second, None), Settlement(third, 1 * MICRO), Settlement(first, 3 * MICRO)]
    )

    assert ends[second].available == 7 * MICRO  # alice: 3 still held
    assert ends[first].available == 7 * MICRO
    assert (has(alice), has(bob)) == ((7, 0), (9, 0))
    kinds = statements.transactions(alice.id).order_by("account_seq")
    assert [entry.journal.kind for entry in kinds][-2:] == ["release", "charge"]


def test_an_end_comes_once():
    alice = account("alice", 10)
    hold, other = frozen(alice, 3), frozen(alice, 4)
    services.settle([Settlement(hold, 3 * MICRO)])

    for ends in ([Settlement(hold, None)], [Settlement(other, None), Settlement(hold, 0)]):
        with pytest.raises(HoldAlreadyResolved), transaction.atomic():
            services.settle(ends)

    assert has(alice) == (3, 4)  # the other one is still open


def test_nothing_to_do_is_nothing_done():
    assert services.freeze_many([]) == {}
    assert services.settle([]) == {}


def test_each_side_of_each_journal_is_on_record():
    alice = account("alice", 10)
    hold = frozen(alice, 4)
    services.settle([Settlement(hold, 1 * MICRO)])

    legs = Entry.objects.order_by("id").values_list(
        "journal__kind", "platform", "available_change", "held_change"
    )
    assert [(kind, side, moved / MICRO, held / MICRO) for kind, side, moved, held in legs] == [
        ("deposit", "", 10, 0),
        ("deposit", "funding", -10, 0),
        ("hold", "", -4, 4),
        ("charge", "", 3, -4),
        ("charge", "revenue", 1, 0),
    ]


def test_a_deposit_with_a_reference_counts_once():
    alice, bob = account("alice"), account("bob")
    first, created = services.deposit(alice.id, 5 * MICRO, reason="invoice", reference="inv-1")
    again, created_again = services.deposit(alice.id, 9 * MICRO, reason="retry", reference="inv-1")
    services.deposit(bob.id, 7 * MICRO, reason="invoice", reference="inv-1")

    assert (first.journal_id, created, created_again) == (again.journal_id, True, False)
    assert (has(alice), has(bob)) == ((5, 0), (7, 0))


def test_an_adjustment_takes_what_is_there_and_no_more():
    alice = account("alice", 5)
    frozen(alice, 2)
    services.adjust(alice.id, -3 * MICRO, reason="mistake", actor="root")
    with pytest.raises(InsufficientCredits), transaction.atomic():
        services.adjust(alice.id, -1, reason="too much")
    assert has(alice) == (0, 2)
    assert services.balance(alice.id).deposited == 5 * MICRO


def test_a_client_freezes_confirms_and_releases_by_its_own_id():
    alice = account("alice", 10)

    held = services.freeze(alice.id, "order-1", 4 * MICRO)
    assert held.available == 6 * MICRO
    assert services.freeze(alice.id, "order-1", 4 * MICRO) == held  # asked twice, frozen once
    with pytest.raises(HoldConflict), transaction.atomic():
        services.freeze(alice.id, "order-1", 5 * MICRO)

    assert services.release(held.hold_id, alice.id).released == 4 * MICRO
    again = services.freeze(alice.id, "order-1", 5 * MICRO)  # a released id may be frozen anew
    assert services.confirm(again.hold_id, alice.id).charged == 5 * MICRO
    with pytest.raises(HoldConflict), transaction.atomic():
        services.freeze(alice.id, "order-1", 5 * MICRO)  # now it is spent
    assert has(alice) == (5, 0)


def test_a_hold_is_ended_by_its_owner_only_and_once():
    alice, bob = account("alice", 10), account("bob")
    hold = services.freeze(alice.id, "order-1", 4 * MICRO).hold_id

    for foreign_or_unknown in ((hold, bob.id), (new_id(), None)):
        with pytest.raises(NotFound), transaction.atomic():
            services.confirm(*foreign_or_unknown)
    services.release(hold)  # an operator's key may end anybody's
    for end in (services.confirm, services.release):
        with pytest.raises(HoldAlreadyResolved), transaction.atomic():
            end(hold, alice.id)
    assert has(alice) == (10, 0)


def test_a_task_adopts_the_hold_of_its_id_and_then_owns_it():
    alice = account("alice", 10)
    hold = services.freeze(alice.id, "t-1", 4 * MICRO).hold_id
    task = new_id()

    def taken(amount: int, task_id=task) -> object:
        wanted = Freeze(
            hold_id=new_id(), account_id=alice.id, amount=amount, reference="t-1", task_id=task_id
        )
        with transaction.atomic():
            return services.adopt(wanted)

    with pytest.raises(HoldConflict):
        taken(5 * MICRO)
    assert taken(4 * MICRO) == hold
    assert has(alice) == (6, 4)
    with pytest.raises(HoldConflict):
        taken(4 * MICRO, task_id=new_id())
    with pytest.raises(HoldConflict), transaction.atomic():
        services.confirm(hold, alice.id)

    services.settle([Settlement(hold, None)])
    with pytest.raises(HoldConflict), transaction.atomic():
        services.freeze(alice.id, "t-1", 4 * MICRO)  # its task has ended: the id is spent
    assert Hold.objects.get(pk=hold).task_id == task


def test_a_task_without_a_hold_to_adopt_freezes_its_own():
    alice = account("alice", 10)
    wanted = Freeze(
        hold_id=new_id(), account_id=alice.id, amount=MICRO, reference="t-1", task_id=new_id()
    )
    assert services.adopt(wanted) == wanted.hold_id
    assert (has(alice), Hold.objects.get().expires_at) == ((9, 1), None)


def test_a_forgotten_hold_comes_back_and_an_adopted_one_does_not():
    alice = account("alice", 10)
    forgotten = services.freeze(alice.id, "t-1", 4 * MICRO).hold_id
    adopted = services.freeze(alice.id, "t-2", 3 * MICRO).hold_id
    services.adopt(
        Freeze(
            hold_id=new_id(),
            account_id=alice.id,
            amount=3 * MICRO,
            reference="t-2",
            task_id=new_id(),
        )
    )
    assert services.release_expired_holds() == 0

    Hold.objects.filter(pk=forgotten).update(expires_at=Now() - timedelta(days=1))
    assert services.release_expired_holds() == 1

    assert (has(alice), Hold.objects.get(pk=adopted).status) == ((7, 3), "open")
    assert Journal.objects.get(kind="release").reason == "expired"


def test_a_hold_of_a_client_waits_for_hold_ttl(monkeypatch):
    monkeypatch.setattr(config, "hold_ttl", 60)
    alice = account("alice", 1)
    services.freeze(alice.id, "t-1", MICRO)
    hold = Hold.objects.get()
    assert hold.expires_at == hold.created_at + timedelta(seconds=60)


def test_everything_is_told_as_it_happens():
    alice = account("alice", 10)
    task = new_id()
    hold = frozen(alice, 4, task_id=task)
    services.settle([Settlement(hold, MICRO)])
    services.settle([Settlement(frozen(alice, 2), None)])
    services.adjust(alice.id, -MICRO, reason="fee")

    told = Event.objects.filter(account=alice).order_by("id").values_list("type", "data")
    assert [(kind, data["amount"], data["available"]) for kind, data in told] == [
        ("wallet.deposited", "10", "10"),
        ("wallet.held", "4", "6"),
        ("wallet.charged", "1", "9"),
        ("wallet.held", "2", "7"),
        ("wallet.released", "2", "9"),
        ("wallet.adjusted", "-1", "8"),
    ]
    charged = Event.objects.get(type="wallet.charged")
    assert charged.data == {
        "hold_id": str(hold),
        "task_id": str(task),
        "amount": "1",
        "available": "9",
        "held": "0",
    }
    assert (charged.task_id, charged.seq) == (task, None)


def test_a_month_adds_up():
    alice = account("alice", 10)
    services.settle([Settlement(frozen(alice, 4), 1 * MICRO)])
    services.adjust(alice.id, 2 * MICRO, reason="sorry")
    frozen(alice, 3)
    now = datetime.now(UTC)

    month = statements.statement(alice.id, now.year, now.month)

    assert (to_credits(month.opening), to_credits(month.closing)) == ("0", "11")
    assert statements.deposited_since(alice.id, now - timedelta(hours=1)) == 10 * MICRO
    moved = sum(entry.available_change + entry.held_change for entry in month.entries)
    assert month.opening + moved == month.closing
    assert [entry.account_seq for entry in month.entries] == [1, 2, 3, 4, 5]
    next_year = statements.statement(alice.id, now.year + 1, 12)
    assert (next_year.opening, next_year.closing, next_year.entries) == (11 * MICRO, 11 * MICRO, [])
    with connection.cursor() as cursor:  # the deposit was made a month ago
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE wallet_entry DISABLE TRIGGER wallet_entry_append_only")
        cursor.execute(
            "UPDATE wallet_entry SET created_at = date_trunc('month', now()) - interval '2 hours'"
            " WHERE account_seq = 1"
        )
        cursor.execute("ALTER TABLE wallet_entry ENABLE TRIGGER wallet_entry_append_only")
    month = statements.statement(alice.id, now.year, now.month)
    assert (month.opening, month.closing, len(month.entries)) == (10 * MICRO, 11 * MICRO, 4)
    assert statements.deposited_since(alice.id, now - timedelta(hours=1)) == 0


def test_a_new_user_is_welcomed_with_sign_up_credits(monkeypatch):
    monkeypatch.setattr(config, "signup_credits", "2.5")
    assert has(users.create_user("carol").account) == (2.5, 0)
    monkeypatch.setattr(config, "signup_credits", "0")
    assert not Wallet.objects.filter(account=users.create_user("dave").account).exists()
