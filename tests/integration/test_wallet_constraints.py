"""Take each rule out of the database in turn: a bad write that it refused must then break the books.

So every constraint and trigger of the ledger is what stops something, and the audit sees what.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection, transaction

from genpulse.ids import new_id
from tests.integration.wallet_cast import account, breaches
from wallet import services
from wallet.services import Freeze, Settlement

pytestmark = pytest.mark.django_db


def sql(statement: str, **values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)


def commit() -> None:
    """Check what is checked at a commit, without one."""
    sql("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


class Story:
    """Alice has 100, 10 of them in an open hold; 5 were charged before, 7 released."""

    def __init__(self) -> None:
        self.alice = account("alice")
        services.deposit(self.alice.id, 105, reason="gift", reference="gift")
        self.task = new_id()
        self.charged, self.released = self.freeze(5, reference="r"), self.freeze(7)
        services.settle([Settlement(self.charged, 5), Settlement(self.released, None)])
        self.open = self.freeze(10, task_id=self.task)

    def freeze(self, amount: int, **more: Any) -> UUID:
        hold_id = new_id()
        services.freeze_many(
            [Freeze(hold_id=hold_id, account_id=self.alice.id, amount=amount, **more)]
        )
        return hold_id

    def journal(self, kind: str, hold: UUID | None = None, idem: str = "") -> UUID:
        journal_id = new_id()
        sql(
            """INSERT INTO wallet_journal (id, kind, hold_id, idem, reason, reference, actor, created_at)
            VALUES (%(id)s, %(kind)s, %(hold)s, %(idem)s, '', '', '', now())""",
            id=journal_id,
            kind=kind,
            hold=hold,
            idem=idem,
        )
        return journal_id

    def move(self, journal_id: UUID, available: int, held: int = 0) -> None:
        """A customer leg as the ledger writes it, wallet and all."""
        sql(
            """WITH wallet AS (
              UPDATE wallet_wallet SET available = available + %(available)s, held = held + %(held)s,
                last_seq = last_seq + 1 WHERE account_id = %(account)s RETURNING *
            )
            INSERT INTO wallet_entry (journal_id, account_id, platform, account_seq, available_change,
              held_change, available_after, held_after, created_at)
            SELECT %(journal)s, account_id, '', last_seq, %(available)s, %(held)s, available, held, now()
            FROM wallet""",
            journal=journal_id,
            account=self.alice.id,
            available=available,
            held=held,
        )

    def platform(self, journal_id: UUID, change: int, platform: str = "funding") -> None:
        sql(
            """INSERT INTO wallet_entry (journal_id, platform, available_change, held_change, created_at)
            VALUES (%(journal)s, %(platform)s, %(change)s, 0, now())""",
            journal=journal_id,
            platform=platform,
            change=change,
        )


def overdraw(story: Story) -> None:
    sql("UPDATE wallet_wallet SET available = -1")


def hold_less_than_nothing(story: Story) -> None:
    sql("UPDATE wallet_wallet SET held = -1")


def hold_nothing(story: Story) -> None:
    sql(
        """INSERT INTO wallet_hold (id, account_id, amount, status, charged, reference, created_at)
        SELECT gen_random_uuid(), account_id, 0, 'open', 0, '', now() FROM wallet_wallet"""
    )


def charge_above_the_hold(story: Story) -> None:
    services.settle([Settlement(story.open, 11)])


def end_without_a_trace(story: Story) -> None:
    sql("UPDATE wallet_hold SET status = 'released' WHERE id = %(id)s", id=story.open)


def freeze_a_task_twice(story: Story) -> None:
    story.freeze(1, task_id=story.task)


def freeze_a_reference_twice(story: Story) -> None:
    story.freeze(1, reference="r")


def charge_without_a_hold(story: Story) -> None:
    journal = story.journal("charge")
    story.move(journal, -1)
    story.platform(journal, 1, "revenue")


def pay_in_twice(story: Story) -> None:
    journal = story.journal("deposit", idem=f"{story.alice.id}:gift")
    story.move(journal, 105)
    story.platform(journal, -105)


def freeze_a_hold_again(story: Story) -> None:
    story.move(story.journal("hold", story.open), -10, 10)


def release_a_hold_again(story: Story) -> None:
    journal = story.journal("release", story.charged)
    story.move(journal, 5)
    story.platform(journal, -5)


def number_an_entry_twice(story: Story) -> None:
    sql("UPDATE wallet_wallet SET last_seq = last_seq - 1")
    journal = story.journal("deposit")
    story.move(journal, 1)
    story.platform(journal, -1)


def write_a_leg_without_balances(story: Story) -> None:
    journal = story.journal("deposit")
    story.platform(journal, -1)
    sql(
        """INSERT INTO wallet_entry (journal_id, account_id, platform, available_change, held_change, created_at)
        VALUES (%(journal)s, %(account)s, '', 1, 0, now())""",
        journal=journal,
        account=story.alice.id,
    )


def write_a_leg_of_nothing(story: Story) -> None:
    story.move(story.journal("deposit"), 0)


def write_a_journal_without_legs(story: Story) -> None:
    story.journal("deposit")
    commit()


def add_a_leg_to_an_old_journal(story: Story) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM wallet_journal WHERE kind = 'charge'")
        (old,) = cursor.fetchone()
    story.move(old, 1)
    commit()


def write_for_no_journal(story: Story) -> None:
    nothing = new_id()
    story.move(nothing, 1)
    story.platform(nothing, -1)
    commit()


def write_for_no_hold(story: Story) -> None:
    story.move(story.journal("hold", new_id()), -1, 1)
    commit()


def rewrite_an_entry(story: Story) -> None:
    sql("UPDATE wallet_entry SET available_change = 1 WHERE platform = 'funding'")


def delete_an_entry(story: Story) -> None:
    sql("DELETE FROM wallet_entry WHERE platform = 'funding'")


def truncate_entries(story: Story) -> None:
    sql("TRUNCATE wallet_entry")


def rewrite_a_journal(story: Story) -> None:
    sql("UPDATE wallet_journal SET kind = 'release' WHERE kind = 'charge'")


def delete_a_journal(story: Story) -> None:
    sql("ALTER TABLE wallet_entry DISABLE TRIGGER wallet_entry_append_only")
    sql(
        "DELETE FROM wallet_entry WHERE journal_id IN (SELECT id FROM wallet_journal WHERE kind = 'charge')"
    )
    sql("DELETE FROM wallet_journal WHERE kind = 'charge'")


def truncate_journals(story: Story) -> None:
    sql("ALTER TABLE wallet_entry DISABLE TRIGGER wallet_entry_append_only")
    sql("TRUNCATE wallet_journal, wallet_entry")


@dataclass(frozen=True)
class Rule:
    """A rule of the database and what it stops."""

    table: str
    name: str
    stops: Callable[[Story], None]
    kind: str = "CONSTRAINT"

    def take_out(self) -> None:
        if self.kind == "INDEX":
            sql(f"DROP INDEX {self.name}")
        elif self.kind == "TRIGGER":
            sql(f"DROP TRIGGER {self.name} ON {self.table}")
        else:
            sql(f"ALTER TABLE {self.table} DROP CONSTRAINT {self.name}")


WALLET, HOLD, JOURNAL, ENTRY = "wallet_wallet", "wallet_hold", "wallet_journal", "wallet_entry"
RULES = [
    Rule(WALLET, "wallet_available_covered", overdraw),
    Rule(WALLET, "wallet_held_covered", hold_less_than_nothing),
    Rule(HOLD, "hold_amount_positive", hold_nothing),
    Rule(HOLD, "hold_charge_covered", charge_above_the_hold),
    Rule(HOLD, "hold_status_consistent", end_without_a_trace),
    Rule(HOLD, "wallet_hold_task_id_key", freeze_a_task_twice),
    Rule(HOLD, "hold_reference_once", freeze_a_reference_twice, "INDEX"),
    Rule(JOURNAL, "journal_kind_has_hold", charge_without_a_hold),
    Rule(JOURNAL, "journal_idem_once", pay_in_twice, "INDEX"),
    Rule(JOURNAL, "journal_one_freeze", freeze_a_hold_again, "INDEX"),
    Rule(JOURNAL, "journal_one_resolution", release_a_hold_again, "INDEX"),
    Rule(ENTRY, "entry_account_seq_once", number_an_entry_twice, "INDEX"),
    Rule(ENTRY, "entry_one_side", write_a_leg_without_balances),
    Rule(ENTRY, "entry_moves_something", write_a_leg_of_nothing),
    Rule(JOURNAL, "wallet_journal_balanced", write_a_journal_without_legs, "TRIGGER"),
    Rule(ENTRY, "wallet_entry_balanced", add_a_leg_to_an_old_journal, "TRIGGER"),
    Rule(JOURNAL, "wallet_journal_hold_id_67ecb347_fk_wallet_hold_id", write_for_no_hold),
    Rule(ENTRY, "wallet_entry_journal_id_f3b73c00_fk_wallet_journal_id", write_for_no_journal),
    Rule(ENTRY, "wallet_entry_append_only", rewrite_an_entry, "TRIGGER"),
    Rule(ENTRY, "wallet_entry_append_only", delete_an_entry, "TRIGGER"),
    Rule(ENTRY, "wallet_entry_append_only", truncate_entries, "TRIGGER"),
    Rule(JOURNAL, "wallet_journal_append_only", rewrite_a_journal, "TRIGGER"),
    Rule(JOURNAL, "wallet_journal_append_only", delete_a_journal, "TRIGGER"),
    Rule(JOURNAL, "wallet_journal_append_only", truncate_journals, "TRIGGER"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.name}-{rule.stops.__name__}")
def test_every_rule_stops_something(rule: Rule):
    story = Story()
    commit()
    assert breaches() == {}

    with pytest.raises(DatabaseError), transaction.atomic():
        rule.stops(story)
    assert breaches() == {}

    rule.take_out()
    rule.stops(story)
    assert breaches().keys() - {"I8 triggers"}


def test_every_rule_of_the_ledger_is_tried():
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT conname FROM pg_constraint WHERE conrelid::regclass::text = ANY(%(tables)s)
              AND contype IN ('c', 'u', 'f', 't')
            UNION
            SELECT indexrelid::regclass::text FROM pg_index
            WHERE indrelid::regclass::text = ANY(%(tables)s) AND indisunique AND NOT indisprimary
            UNION
            SELECT tgname FROM pg_trigger
            WHERE tgrelid::regclass::text = ANY(%(tables)s) AND NOT tgisinternal
            """,
            {"tables": [WALLET, HOLD, JOURNAL, ENTRY]},
        )
        present = {name for (name,) in cursor.fetchall()}
    accounts = {name for name in present if name.startswith("wallet_wallet_account_id_")}
    assert present - accounts == {rule.name for rule in RULES}
