"""Clients that ask for a task ten times a second: answered without the database, never with what is out of date."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
import redis
from django.db import connection
from django.test.utils import CaptureQueriesContext

from genpulse.events import bells
from tasks import snapshots
from tasks.lifecycle import apply
from tasks.moves import Promote
from tests.integration.cast import caller
from tests.integration.stack import eventually, sandbox
from wallet import services as wallet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def alice():
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


@pytest.fixture
def task(alice):
    body = {"model": "sandbox-text", "input": {"prompt": "a red kite"}}
    return alice.post("/api/v1/tasks", body).json()["id"]


def promote(task):
    apply([Promote(task_id=UUID(task), by="x", rank=0)])


def queries_of_tasks(who, task):
    with CaptureQueriesContext(
        connection,
    ) as asked:
        assert who.get(f"/api/v1/tasks/{task}").status_code == 200
    return [query["sql"] for query in asked if "tasks_" in query["sql"]]


def test_the_second_look_costs_no_query(alice, task):
    path = f"/api/v1/tasks/{task}"
    first = alice.get(path)

    def unasked():
        return not queries_of_tasks(alice, task)

    assert eventually(unasked)
    again = alice.get(path)
    assert again.json() == first.json()
    assert again.headers["ETag"] == first.headers["ETag"]
    tag = first.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):  # compressed answers have weak tags
        assert alice.get(path, If_None_Match=known).status_code == 304
    assert alice.get(path, If_None_Match='"other"').status_code == 200
    kept = bells.live()
    assert 0 < kept.pttl(bells.newest(task)) <= 2000


def test_a_client_sees_what_it_did_whoever_else_looks(alice, task):
    """Others put what they read just before into the same place."""
    path, done = f"/api/v1/tasks/{task}", threading.Event()
    other = caller("alice")

    def look():
        while not done.is_set():
            other.get(path)
        connection.close()

    with ThreadPoolExecutor(2) as threads:
        looking = [threads.submit(look) for _ in range(2)]
        try:
            for seq in range(2, 32):
                promote(task)
                assert alice.get(path).json()["seq"] == seq
        finally:
            done.set()
        for one in looking:
            one.result(30)
    assert alice.post(f"{path}/cancel").json()["status"] == "canceled"
    assert alice.get(path).json()["status"] == "canceled"


def test_who_dies_before_the_bell_leaves_two_seconds(alice, task, monkeypatch):
    path = f"/api/v1/tasks/{task}"
    assert alice.get(path).json()["seq"] == 1
    with monkeypatch.context() as patch:
        patch.setattr("genpulse.events.log.ring", lambda messages: None)
        promote(task)
    assert bells.live().pttl(bells.newest(task)) <= 2000
    for _ in range(3):  # looking at it does not keep it alive
        alice.get(path)
    assert eventually(lambda: alice.get(path).json()["seq"] == 2)


def test_a_late_bell_changes_nothing(alice, task):
    path = f"/api/v1/tasks/{task}"
    promote(task)
    promote(task)
    assert alice.get(path).json()["seq"] == 3
    bells.keep_newest({task: 2})
    bells.keep_newest({task: 3})
    assert alice.get(path).json()["seq"] == 3
    bells.keep_newest({task: 1}, "[]")
    assert alice.get(path).json()["seq"] == 3


def test_it_is_shown_to_those_who_may_see_it(alice, task):
    path = f"/api/v1/tasks/{task}"
    service, bob = caller("service", "act_as", "tasks"), caller("bob")
    for _ in range(2):
        assert alice.get(path).status_code == 200
        assert service.get(path).status_code == 200
        assert service.get(path, X_GenPulse_User="alice").status_code == 200
        assert service.get(path, X_GenPulse_User="bob").status_code == 404
        assert bob.get(path).status_code == 404
        assert bob.get(path, X_GenPulse_User="alice").status_code == 403
        assert "vendor_cost" not in alice.get(path).json()["price"]
        assert "vendor_cost" in caller("root", "admin").get(path).json()["price"]


def test_what_is_hidden_is_gone_at_once(alice, task):
    path = f"/api/v1/tasks/{task}"
    alice.get(path)
    assert alice.delete(path).status_code == 204
    assert alice.get(path).status_code == 404


def test_without_redis_the_database_answers(alice, task, monkeypatch):
    class Away:
        def __getattr__(self, name):
            raise redis.ConnectionError

    path = f"/api/v1/tasks/{task}"
    with monkeypatch.context() as patch:
        patch.setattr(bells, "live", Away)
        patch.setattr(snapshots, "_away_until", 0.0)
        assert alice.get(path).json()["seq"] == 1
        promote(task)
        assert alice.get(path).json()["seq"] == 2
    monkeypatch.setattr(snapshots, "_away_until", 0.0)
    assert alice.get(path).json()["seq"] in {1, 2}
    bells.live().flushdb()
    assert alice.get(path).json()["seq"] == 2
