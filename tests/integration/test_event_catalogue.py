"""Every event that a task, an executor or the books can cause, with the data the catalogue promises."""

import pytest

from admin_integrations import health
from genpulse import sql
from genpulse.events.models import Event
from media.services import Asset
from tasks import audit
from tasks.models import Task
from tests.integration.cast import caller
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet


@pytest.fixture
def alice(stack):
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


def submit(who, model="sandbox-text", **controls):
    given = {"prompt": "a red kite", "sandbox": {"latency": 0, **controls}}
    answer = who.post("/api/v1/tasks", {"model": model, "input": given})
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


def events(who, task):
    """The data of a task's events by type; of those that came twice, the first."""
    found = who.get(f"/api/v1/tasks/{task}/events").json()["items"]
    return {event["type"]: event["data"] for event in reversed(found)}


def test_what_a_task_tells_on_its_way(alice):
    flaky = submit(alice, fail="transient", times=1)
    job = submit(alice, "sandbox-image", mode="accept")
    lost = submit(alice, fail="unknown_outcome", find="accepted")
    slow = submit(alice, latency=100)
    nobodys = submit(alice, "gemini-2.5-flash")
    eventually(lambda: Task.objects.filter(pk=slow, status="running").exists())
    alice.post(f"/api/v1/tasks/{slow}/cancel")
    all_ended([flaky, job, lost, slow])
    eventually(lambda: Task.objects.filter(pk=nobodys, status="blocked").exists())

    told = events(alice, flaky)
    assert told["task.queued"] == {"status": "queued", "reason": "submitted", "price": "0.1"}
    assert told["task.admitted"] == told["task.running"] == {"executor": "sandbox-1", "attempt": 1}
    failed = told["task.attempt_failed"]
    assert set(failed) == {"attempt", "executor", "error", "next", "retry_at"}
    assert [failed["attempt"], failed["error"]["kind"], failed["next"]] == [1, "transient", "retry"]
    assert set(told["task.succeeded"]) == {"output", "usage", "charged", "duration_seconds"}

    assert events(alice, job)["task.awaiting"] == {"executor": "sandbox-1", "attempt": 1}
    assert set(events(alice, lost)["task.verifying"]) == {"executor", "attempt", "reason"}
    told = events(alice, slow)
    assert told["task.cancel_requested"] == {"by": "alice"}
    assert set(told["task.canceled"]) == {"error", "released"}
    assert set(events(alice, nobodys)["task.blocked"]) == {"reason", "detail"}


def test_outputs_that_come_before_the_end(alice):
    body = {"model": "sandbox-image", "input": {"prompt": "a red kite", "n": 3}}
    task = alice.post("/api/v1/tasks", body).json()["id"]
    [done] = all_ended([task])
    told = alice.get(f"/api/v1/tasks/{task}/events").json()["items"]
    assert [event["seq"] for event in told] == list(range(1, done.seq + 1))
    early = [event["data"]["asset"] for event in told if event["type"] == "task.output"]
    assets = alice.get(f"/api/v1/tasks/{task}").json()["output"]["assets"]
    assert [asset["id"] for asset in early] == [asset["id"] for asset in assets[:2]]
    assert told[-1]["type"] == "task.succeeded"
    assert {asset["sha256"] for asset in early} < {asset["sha256"] for asset in assets}
    rows = Asset.objects.filter(task_id=task)
    assert {row.expires_at for row in rows} == {done.purge_at}


@pytest.mark.django_db
def test_a_key_that_is_used_up():
    one = sandbox()
    health.failed(one.id, one.name, None, "sandbox-text", "quota_exhausted")
    told = Event.objects.get(type="credential.exhausted")
    assert [told.account_id, told.data["executor"]] == [None, one.name]
    assert told.data["reason"] == "quota_exhausted"


@pytest.mark.django_db
def test_books_that_do_not_agree():
    assert audit.report() == 0
    sql.execute("DROP TRIGGER tasks_terminal_has_no_open_hold ON tasks_task")
    assert audit.report() == 1
    [told] = Event.objects.filter(type="audit.violation")
    assert [told.account_id, told.data] == [None, {"invariant": "holds", "count": 1}]
