"""Tasks from submit to the end, on the real orchestrator and workers."""

from datetime import UTC, datetime, timedelta

import pytest

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


def submit(who, model="sandbox-text", sandbox=None, expect=201, **fields):
    given = {"prompt": "a red kite", "sandbox": {"latency": 0, **(sandbox or {})}}
    answer = who.post("/api/v1/tasks", {"model": model, "input": given, **fields})
    assert answer.status_code == expect, answer.content
    return answer.json()


def ended(who, task):
    all_ended([task["id"]])
    return who.get(f"/api/v1/tasks/{task['id']}").json()


def test_the_life_of_tasks(alice, stack):
    """One stack, many stories: every kind of end, and the books agree afterwards."""
    plain = submit(alice)
    image = submit(alice, "sandbox-image")
    flaky = submit(alice, sandbox={"fail": "transient", "times": 1})
    limited = submit(alice, sandbox={"fail": "rate_limited", "times": 1}, max_attempts=1)
    hopeless = submit(alice, sandbox={"fail": "transient"}, max_attempts=3)
    refused = submit(alice, sandbox={"fail": "content_refused"})
    accepted = submit(alice, "sandbox-image", sandbox={"mode": "accept", "latency": 0.3})
    adopted = submit(alice, sandbox={"fail": "unknown_outcome", "find": "accepted"})
    resent = submit(alice, sandbox={"fail": "unknown_outcome", "find": "absent", "times": 1})
    slow = submit(alice, sandbox={"latency": 10}, timeout=1)

    done = ended(alice, plain)
    assert done["status"] == "succeeded"
    assert done["output"]["text"] == "[sandbox] sandbox-text: a red kite"
    assert done["price"] == {"quoted": "0.1", "held": "0", "charged": "0.1"}
    assert [done["attempt"], done["tries"], done["seq"]] == [1, 0, 4]

    done = ended(alice, image)
    assert [asset["kind"] for asset in done["output"]["assets"]] == ["image"]

    done = ended(alice, flaky)
    assert [done["status"], done["attempt"], done["tries"]] == ["succeeded", 2, 1]

    done = ended(alice, limited)
    assert [done["status"], done["attempt"], done["tries"]] == ["succeeded", 2, 0]

    done = ended(alice, hopeless)
    assert [done["status"], done["tries"]] == ["failed", 3]
    assert done["error"]["code"] == "attempts_exhausted"
    assert done["price"]["charged"] == "0"

    done = ended(alice, refused)
    assert [done["error"]["kind"], done["attempt"]] == ["content_refused", 1]

    done = ended(alice, accepted)
    assert done["status"] == "succeeded"
    assert ended(alice, adopted)["status"] == "succeeded"
    done = ended(alice, resent)
    assert [done["status"], done["attempt"]] == ["succeeded", 2]
    assert ended(alice, slow)["error"]["code"] == "run_timeout"
    assert not audit.breaches()


def test_cancel_waiting_running_and_ended(alice, stack):
    waiting = submit(alice, run_at=(datetime.now(UTC) + timedelta(days=9)).isoformat())
    running = submit(alice, sandbox={"latency": 60})
    eventually(lambda: Task.objects.filter(pk=running["id"], status="running").exists())
    for task in (waiting, running):
        answer = alice.post(f"/api/v1/tasks/{task['id']}/cancel")
        assert answer.status_code == 200
    assert alice.get(f"/api/v1/tasks/{waiting['id']}").json()["status"] == "canceled"
    done = ended(alice, running)
    assert [done["status"], done["error"]["code"]] == ["canceled", "canceled_by_user"]
    again = alice.post(f"/api/v1/tasks/{running['id']}/cancel")
    assert again.status_code == 200
    assert wallet.balance(alice.user.account_id).held == 0
    assert not audit.breaches()


def test_an_operator_resolves_what_nobody_can_tell(alice, stack):
    doubtful = submit(alice, sandbox={"fail": "unknown_outcome", "find": "never", "latency": 0})
    path = f"/api/v1/tasks/{doubtful['id']}/resolve"
    eventually(lambda: Task.objects.filter(pk=doubtful["id"], status="verifying").exists())
    found = {"outcome": "succeeded", "reason": "seen there", "output": {"text": "a kite"}}
    assert alice.post(path, found).status_code == 403
    root = caller("root", "admin")
    done = root.post(path, found).json()
    assert [done["status"], done["output"]["text"]] == ["succeeded", "a kite"]
    assert [done["price"]["held"], done["price"]["charged"]] == ["0", done["price"]["quoted"]]
    assert root.post(path, found).json()["code"] == "not_waiting"


def test_a_race_has_one_winner(alice, stack):
    body = {
        "items": [{"input": {"sandbox": {"latency": latency}}} for latency in (0.2, 30, 30)],
        "model": "sandbox-text",
        "input": {"prompt": "x"},
        "mode": "race",
    }
    batch = alice.post("/api/v1/batches", body).json()
    tasks = all_ended([task["id"] for task in batch["tasks"]])
    assert [task.status for task in tasks] == ["succeeded", "canceled", "canceled"]
    shown = alice.get(f"/api/v1/batches/{batch['id']}").json()
    assert [shown["status"], shown["winner_task_id"]] == ["completed", str(tasks[0].id)]
    assert {task["error"]["code"] for task in shown["tasks"][1:]} == {"canceled_by_race"}
    told = alice.get(f"/api/v1/batches/{batch['id']}/events").json()["items"]
    [end] = [event["data"] for event in told if event["type"] == "batch.completed"]
    assert end["counts"] == shown["counts"]
    assert not audit.breaches()


def test_a_killed_worker_loses_nothing(alice, stack):
    stack.start("worker-2")
    body = {"model": "sandbox-text", "input": {"prompt": "x", "sandbox": {"latency": 0.5}}}
    batch = alice.post("/api/v1/batches", {**body, "items": [{}] * 30}).json()
    tasks = [task["id"] for task in batch["tasks"]]
    eventually(lambda: Task.objects.filter(status="running").count() >= 4)
    stack.restart("worker")
    done = all_ended(tasks)
    assert {task.status for task in done} == {"succeeded"}
    assert not audit.breaches()


def test_nobody_can_serve_it_until_somebody_can(stack):
    bob = caller("bob")
    task = submit(bob, "gemini-2.5-flash")
    shown = eventually(
        lambda: (t := bob.get(f"/api/v1/tasks/{task['id']}").json())["status"] == "blocked" and t
    )
    assert "gemini" in shown["phase"]
    answer = bob.post(f"/api/v1/tasks/{task['id']}/cancel").json()
    assert answer["status"] == "canceled"


def test_retry_failed_reopens_the_batch(alice, stack):
    body = {
        "model": "sandbox-text",
        "input": {"prompt": "x"},
        "items": [
            {"input": {"sandbox": {"latency": 0}}},
            {"input": {"sandbox": {"fail": "bad_input"}}},
        ],
    }
    batch = alice.post("/api/v1/batches", body).json()
    all_ended([task["id"] for task in batch["tasks"]])
    path = f"/api/v1/batches/{batch['id']}"
    assert alice.get(path).json()["status"] == "partial"
    again = alice.post(f"{path}/retry-failed")
    assert [again.status_code, again.json()["status"]] == [200, "processing"]
    fresh = again.json()["tasks"][1]["id"]
    assert fresh != batch["tasks"][1]["id"]
    all_ended([fresh])
    shown = alice.get(path).json()
    assert [shown["status"], shown["counts"]["failed"], shown["total"]] == ["partial", 1, 2]
    assert not audit.breaches()
