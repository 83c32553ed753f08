"""What happened, as lists: by seq for a task, by cursor for a batch; nothing is ever skipped."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from genpulse import sql
from genpulse.config import config
from genpulse.events.cursors import Cursor
from genpulse.events.models import Event
from tasks.lifecycle import apply
from tasks.models import Task
from tasks.moves import Accept, Admit, Start, Succeed
from tests.integration.cast import caller
from tests.integration.stack import eventually, sandbox
from wallet import services as wallet

pytestmark = pytest.mark.django_db(transaction=True)
SAID: dict[str, Any] = {"text": "a kite", "message": None, "data": None, "assets": []}


@pytest.fixture
def executor():
    return sandbox()


@pytest.fixture
def alice(executor):
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


def submit(who):
    body = {"model": "sandbox-text", "input": {"prompt": "a red kite"}}
    return who.post("/api/v1/tasks", body).json()["id"]


def submit_batch(who, count):
    body = {"model": "sandbox-text", "items": [{"input": {"prompt": str(n)}} for n in range(count)]}
    return who.post("/api/v1/batches", body).json()


def admit(task, executor):
    apply([Admit(task_id=UUID(task), executor_id=executor.id, executor=executor.name)])


def begin(task, executor):
    admit(task, executor)
    apply([Start(task_id=UUID(task), attempt=1, worker="w")])


def end(task):
    apply([Succeed(task_id=UUID(task), attempt=1, output=SAID, usage={}, charge=0)])


def settle():
    """Until no transaction is open that is older than an event, in whatever database of the server."""
    older = "SELECT bool_and(xid < pg_snapshot_xmin(pg_current_snapshot())) FROM events_event"
    eventually(lambda: sql.fetch(older)[0][0])


@contextmanager
def held_open(write):
    """`write` runs in a transaction of somebody else, which commits when the block ends."""
    written, finish = threading.Event(), threading.Event()

    def run():
        with transaction.atomic():
            write()
            written.set()
            finish.wait(20)
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert written.wait(10)
        yield
    finally:
        finish.set()
        thread.join()


def test_the_events_of_a_task_by_seq(alice, executor):
    task = submit(alice)
    begin(task, executor)
    apply([Accept(task_id=UUID(task), attempt=1, external_id="job-1", poll_after=60)])
    path = f"/api/v1/tasks/{task}/events"

    page = alice.get(path).json()
    assert [event["seq"] for event in page["items"]] == [1, 2, 3, 4]
    assert [page["last_seq"], page["terminal"]] == [4, False]
    first, *_, awaiting = page["items"]
    assert first["type"] == "task.queued"
    assert [first["task_id"], first["batch_id"]] == [task, None]
    assert first["data"] == {"status": "queued", "reason": "submitted", "price": "0.1"}
    assert awaiting["data"] == {"executor": "sandbox-1", "attempt": 1}

    root = caller("root", "admin")
    assert root.get(f"{path}?after=3").json()["items"][0]["data"]["external_id"] == "job-1"

    page = alice.get(f"{path}?after=1&limit=2").json()
    assert [event["seq"] for event in page["items"]] == [2, 3]
    assert page["last_seq"] == 3
    end(task)
    page = alice.get(f"{path}?after=4").json()
    assert [event["type"] for event in page["items"]] == ["task.succeeded"]
    assert page["items"][0]["data"]["output"]["text"] == "a kite"
    assert page["terminal"]
    assert alice.get(f"{path}?after=5").json() == {"items": [], "last_seq": 5, "terminal": True}

    assert caller("bob").get(path).status_code == 404
    for query in ("after=-1", "after=x", "limit=0", "limit=101", "wait=31", "wait=0", "stream=2"):
        refused = alice.get(f"{path}?{query}")
        assert [refused.status_code, refused.json()["code"]] == [422, "validation_failed"], query


def test_a_place_whose_events_were_removed_is_gone(alice, executor):
    task = submit(alice)
    begin(task, executor)
    path = f"/api/v1/tasks/{task}/events"
    Event.objects.filter(task_id=task, seq__lte=2).delete()
    for after in (0, 1):
        gone = alice.get(f"{path}?after={after}")
        assert [gone.status_code, gone.json()["code"]] == [410, "cursor_expired"]
    assert [event["seq"] for event in alice.get(f"{path}?after=2").json()["items"]] == [3]
    Event.objects.filter(task_id=task).delete()
    assert alice.get(f"{path}?after=2").status_code == 410
    assert alice.get(f"{path}?after=3").json()["items"] == []


def test_the_events_of_a_batch_by_cursor(alice, executor):
    batch = submit_batch(alice, 2)
    path = f"/api/v1/batches/{batch['id']}/events"
    one, two = (child["id"] for child in batch["tasks"])
    settle()
    seen = alice.get(path).json()["items"]
    assert [event["type"] for event in seen] == ["batch.created", "task.queued", "task.queued"]
    assert {event["batch_id"] for event in seen} == {batch["id"]}

    begin(one, executor)
    begin(two, executor)
    end(one)
    end(two)
    settle()
    after, types = seen[-1]["id"], []
    while True:  # two at a time
        page = alice.get(f"{path}?after={after}&limit=2").json()
        if not page["items"]:
            break
        types += [event["type"] for event in page["items"]]
        after = page["items"][-1]["id"]
        assert page["last_cursor"] == after
    assert sorted(types[:4]) == ["task.admitted"] * 2 + ["task.running"] * 2
    assert types[4:] == ["task.succeeded", "task.succeeded", "batch.completed"]
    assert page["terminal"]
    assert page["last_cursor"] == after

    assert alice.get(f"{path}?after=nonsense").status_code == 422
    assert caller("bob").get(path).status_code == 404


def test_a_slower_transaction_is_waited_for(alice, executor):
    """B commits while A is open: a list that showed B would lose A for whoever goes on from B."""
    batch = submit_batch(alice, 2)
    slow, fast = (child["id"] for child in batch["tasks"])
    path = f"/api/v1/batches/{batch['id']}/events"
    settle()
    after = alice.get(path).json()["items"][-1]["id"]
    with held_open(lambda: admit(slow, executor)):
        begin(fast, executor)
        assert Task.objects.get(pk=fast).seq == 3
        page = alice.get(f"{path}?after={after}").json()
        assert page["items"] == []
        assert not page["terminal"]
    settle()
    items = alice.get(f"{path}?after={after}").json()["items"]
    assert [[event["task_id"], event["seq"]] for event in items] == [
        [slow, 2],
        [fast, 2],
        [fast, 3],
    ]


def test_an_older_transaction_that_had_to_wait(alice, executor):
    """It has its number before the one it waits for; what it writes still comes after."""
    batch = submit_batch(alice, 1)
    [task] = [child["id"] for child in batch["tasks"]]
    path = f"/api/v1/batches/{batch['id']}/events"

    def late():
        sql.fetch("SELECT pg_current_xact_id()::text")
        old.set()
        assert done.wait(20)
        end(task)

    old, done = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        older = threads.submit(in_transaction, late)
        assert old.wait(10)
        begin(task, executor)
        done.set()
        older.result(20)
    settle()
    seen = alice.get(path).json()["items"]
    assert [event["seq"] for event in seen] == [None, 1, 2, 3, 4, None]
    assert seen[-1]["type"] == "batch.completed"
    for place, event in enumerate(seen):
        rest = alice.get(f"{path}?after={event['id']}").json()["items"]
        assert rest == seen[place + 1 :]


def in_transaction(write):
    with transaction.atomic():
        write()
    connection.close()


def test_an_event_remembers_who_was_still_open_when_it_was_written(alice, executor):
    slow, fast = submit(alice), submit(alice)
    with held_open(lambda: admit(slow, executor)):
        begin(fast, executor)
    late = Event.objects.get(task_id=slow, seq=2)
    early = Event.objects.get(task_id=fast, seq=2)
    assert early.floor <= late.xid < early.xid


def test_cursors_older_than_what_is_kept(alice, executor, monkeypatch):
    batch = submit_batch(alice, 1)
    begin(batch["tasks"][0]["id"], executor)
    end(batch["tasks"][0]["id"])
    path = f"/api/v1/batches/{batch['id']}/events"
    settle()
    after = alice.get(path).json()["items"][0]["id"]
    monkeypatch.setattr(config, "event_retention", -60)
    for query in (f"?after={after}", ""):
        gone = alice.get(path + query)
        assert [gone.status_code, gone.json()["code"]] == [410, "cursor_expired"]


@pytest.mark.parametrize("text", ["", "x", "MQ", "LTEuMS4xLjE", "é", "MS4xLjEu"])
def test_what_is_no_cursor(text):
    with pytest.raises(ValueError):
        Cursor.parse(text)


def test_a_cursor_survives_the_journey():
    cursor = Cursor(xid=2**62, id=3, floor=2, at=1_700_000_000)
    assert Cursor.parse(str(cursor)) == cursor
