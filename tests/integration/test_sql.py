"""Statements that travel together."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from django.db import DatabaseError, connection, transaction

from genpulse import sql
from genpulse.auth.models import Account

pytestmark = pytest.mark.django_db(transaction=True)
RENAME = "UPDATE accounts_account SET name = %s WHERE name = 'alice'"


@pytest.fixture(autouse=True)
def _alice(transactional_db: None) -> None:
    Account.objects.create(name="alice")


def test_answers_are_read_in_any_order():
    with sql.together():
        first, second = sql.later("SELECT 1"), sql.later("SELECT 2 AS two")
        assert sql.fetch("SELECT 3") == [(3,)]
    assert second.dicts() == [{"two": 2}]
    assert first.rows() == [(1,)]


@transaction.atomic
def rename_and_fail() -> None:
    with sql.together():
        sql.execute(RENAME, ["bob"])
        sql.execute("SELECT 1 / 0")
        sql.execute("SELECT 1")


def test_what_is_refused_undoes_all_of_it():
    with pytest.raises(DatabaseError, match="division by zero"):
        rename_and_fail()
    assert Account.objects.get().name == "alice"


@contextmanager
def frozen(longest: str) -> Iterator[None]:
    """Another session stands between two statements, and never goes on while the block lasts."""
    here, leave = threading.Event(), threading.Event()

    def freeze() -> None:
        with (
            closing(connection),
            suppress(DatabaseError),
            transaction.atomic(),
            sql.together(longest),
        ):
            sql.execute(RENAME, ["bob"])
            here.set()
            leave.wait(30)

    thread = threading.Thread(target=freeze)
    thread.start()
    assert here.wait(10)
    try:
        yield
    finally:
        leave.set()
        thread.join()


def test_who_freezes_between_two_statements_holds_nothing_for_ever():
    with frozen("500ms"):
        sql.execute(RENAME, ["carol"])  # waits for the lock, at most its 3 s
    assert Account.objects.get().name == "carol"


def test_the_first_block_of_a_transaction_says_how_long_it_may_last():
    with pytest.raises(DatabaseError), transaction.atomic():
        begin_and_dawdle()
    connection.close()
    assert Account.objects.get().name == "alice"


def begin_and_dawdle() -> None:
    with sql.together("300ms"):
        sql.execute(RENAME, ["bob"])
    with sql.together():
        sql.execute("SELECT pg_sleep(3)")


def test_an_older_server_gets_one_statement_at_a_time(monkeypatch):
    monkeypatch.setattr(sql, "CAPPED", 10**6)
    with transaction.atomic(), sql.together():
        answer = sql.later("SELECT 1")
        assert sql.execute(RENAME, ["bob"]) == 1
    assert answer.rows() == [(1,)]
