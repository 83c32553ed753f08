"""What tasks came to: the same numbers as the tasks and the ledger, each user its own."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.models import Attempt, Task
from tests.integration.cast import caller
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet
from wallet.models import PriceRule


@pytest.fixture
def cast(stack):
    sandbox()
    found = [caller(name, "tasks", "wallet:read") for name in ("alice", "bob")]
    for who in found:
        wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return found


def submit(who, model="sandbox-text", **fields):
    body = {"model": model, "input": {"prompt": "a kite", "sandbox": {"latency": 0}}, **fields}
    answer = who.post("/api/v1/tasks", body)
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


def report(who, path="/api/v1/usage", **query):
    text = "&".join(f"{name}={value}" for name, value in query.items())
    answer = who.get(f"{path}?{text}")
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_usage_equals_the_tasks_and_the_ledger(cast):
    alice, bob = cast
    second = caller("alice", "tasks", "wallet:read")
    made = [
        submit(alice, tags=["red", "blue"]),
        submit(second, "sandbox-image", tags=["red"]),
        submit(alice, input={"prompt": "x", "sandbox": {"latency": 0, "fail": "bad_input"}}),
        submit(bob),
    ]
    all_ended(made)
    canceled = submit(alice, run_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    alice.post(f"/api/v1/tasks/{canceled}/cancel")
    today = datetime.now(UTC).date().isoformat()
    total = {"count": 4, "succeeded": 2, "failed": 1, "charged": "1.1"}
    plain = report(alice)
    assert plain["total"] == total
    assert plain["items"] == [{"day": today, **total}]
    charged = wallet.balance(alice.user.account_id).charged
    assert charged == 1_100_000

    by_model = report(alice, group_by="model")["items"]
    assert [(row["model"], row["count"], row["charged"]) for row in by_model] == [
        ("sandbox-image", 1, "1"),
        ("sandbox-text", 3, "0.1"),
    ]
    keys = {row["key"]: row["count"] for row in report(alice, group_by="key")["items"]}
    assert keys == {str(alice.key.id): 3, str(second.key.id): 1}
    tags = report(alice, group_by="tag,user")
    assert {row["tag"]: row["count"] for row in tags["items"]} == {"red": 2, "blue": 1, None: 2}
    assert {row["user"] for row in tags["items"]} == {"alice"}
    assert tags["total"] == total
    assert report(alice, tag="blue")["total"]["count"] == 1
    assert report(alice, key=second.key.id, model="sandbox-image")["total"]["charged"] == "1"
    assert report(alice, since="2999-01-01T00:00:00Z")["items"] == []
    assert alice.get("/api/v1/usage?group_by=shoe").json()["errors"][0]["field"] == "group_by"
    assert alice.get("/api/v1/usage?user=bob").status_code == 403

    root = caller("root", "admin")
    everybody = report(root, group_by="user")
    assert {row["user"]: row["count"] for row in everybody["items"]} == {"alice": 4, "bob": 1}
    assert "vendor_cost" in everybody["total"]
    assert report(root, user="bob")["total"]["count"] == 1
    alice.delete(f"/api/v1/tasks/{made[0]}")
    assert report(alice)["total"] == total


def test_a_cost_rule_changes_the_margin_and_no_charge(cast):
    alice, _ = cast
    root = caller("root", "admin")
    rule = {"kind": "cost", "match": {"model": "sandbox-text"}, "minimum": "0"}
    made = root.post("/api/v1/prices", {**rule, "components": [{"unit": "call", "price": "0.03"}]})
    assert made.status_code == 201, made.content
    try:
        eventually(lambda: all_ended([submit(alice)])[0].vendor_cost)  # workers know the rule
        since = datetime.now(UTC).isoformat()
        before = wallet.balance(alice.user.account_id).charged
        tasks = [submit(alice) for _ in range(2)]
        all_ended(tasks)
        late = Task.objects.get(pk=tasks[0])
        Attempt.objects.filter(task=late, number=1).update(late=True, vendor_cost=50_000)
        found = report(root, "/api/v1/margin", since=since.replace("+00:00", "Z"))
    finally:
        PriceRule.objects.filter(rule_id=made.json()["id"]).delete()
    row = {
        "count": 2,
        "charged": "0.2",
        "vendor_cost": "0.06",
        "late_cost": "0.05",
        "margin": "0.09",
    }
    assert found == {"items": [{"group": "sandbox-text", **row}], "total": row}
    by_day = report(root, "/api/v1/margin", group="day")["items"]
    assert [one["late_cost"] for one in by_day] == ["0.05"]
    assert report(root, "/api/v1/margin", group="provider")["items"][0]["group"] == "sandbox"
    assert report(root, "/api/v1/margin", until="2000-01-01T00:00:00Z")["total"]["count"] == 0
    assert alice.get("/api/v1/margin").status_code == 403
    assert root.get("/api/v1/margin?group=shoe").status_code == 422
    assert wallet.balance(alice.user.account_id).charged - before == 200_000
