"""Webhooks on the real stack, told by a receiver that is sometimes down, rude or slow."""

import random
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from genpulse.config import config
from genpulse.events.log import NewEvent, append
from tasks import webhook_secrets, webhook_sending, webhooks
from tasks.models import Delivery, WebhookEndpoint
from tests.integration.cast import caller
from tests.integration.receiver import receiving
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet

ENDS = ["task.succeeded", "task.failed", "task.canceled", "task.expired"]


@pytest.fixture
def alice(stack):
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def endpoint(who, receiver, expect=201, **fields):
    answer = who.post("/api/v1/webhook-endpoints", {"url": receiver.url, **fields})
    assert answer.status_code == expect, answer.content
    return answer.json()


def submit(who, **fields):
    body = {"model": "sandbox-image", "input": {"prompt": "x", "sandbox": {"latency": 0}}, **fields}
    answer = who.post("/api/v1/tasks", body)
    assert answer.status_code == 201, answer.content
    return answer.json()


def all_delivered(count=None):
    def done():
        rows = Delivery.objects.all()
        return rows.exists() and not rows.filter(status="pending").exists()

    eventually(done)
    return list(Delivery.objects.order_by("id"))


def test_an_endpoint_hears_everything_of_its_owner_signed(alice, receiver):
    made = endpoint(alice, receiver)
    assert made["secret"].startswith("whsec_")
    assert made["secret"] not in WebhookEndpoint.objects.get().ciphertext
    shown = alice.get(f"/api/v1/webhook-endpoints/{made['id']}").json()
    assert "secret" not in shown
    task = submit(alice)
    all_ended([task["id"]])
    all_delivered()

    calls = receiver.of("task.succeeded")
    assert len(calls) == 1
    [call] = calls
    assert call.signatures == [call.expected(made["secret"])]
    assert call.signatures != [call.expected(made["secret"], call.raw.replace(b"x", b"y"))]
    assert call.headers["user-agent"] == "GenPulse-Webhook/1"
    told = call.body["data"]
    now = alice.get(f"/api/v1/tasks/{task['id']}").json()
    assert [told["id"], told["status"], told["price"]] == [now["id"], "succeeded", now["price"]]
    assert told["output"]["assets"][0]["id"] == now["output"]["assets"][0]["id"]
    assert told["output"]["assets"][0]["url"].startswith("http")
    assert call.body["seq"] == now["seq"]

    kinds = {one.body["type"] for one in receiver.calls}
    assert {
        "task.queued",
        "task.running",
        "asset.created",
        "wallet.held",
        "wallet.charged",
    } <= kinds
    seqs = [one.body["seq"] for one in receiver.calls if one.body["type"].startswith("task.")]
    assert seqs == sorted(seqs) == list(range(1, len(seqs) + 1))
    events = alice.get(f"/api/v1/tasks/{task['id']}/events").json()["items"]
    assert {event["id"] for event in events} <= {one.id for one in receiver.calls}
    kept = Delivery.objects.get(event_type="task.succeeded")
    assert "url" not in (kept.body or {})["output"]["assets"][0]


def test_down_then_up_with_every_try_on_record(alice, receiver):
    made = endpoint(alice, receiver, events=["task.succeeded"])
    answers = [500, (301, {"Location": receiver.url}), None, 204]
    receiver.answer = lambda body: answers[min(len(receiver.calls), 3)]
    task = submit(alice)
    eventually(lambda: Delivery.objects.filter(attempts=3).exists())
    Delivery.objects.update(next_attempt_at=timezone.now())  # the fourth try has waited long enough
    [row] = all_delivered() if all_ended([task["id"]]) else []
    assert len({call.id for call in receiver.calls}) == 1

    listed = alice.get(f"/api/v1/webhook-endpoints/{made['id']}/deliveries").json()["items"]
    assert [(one["status"], one["attempts"]) for one in listed] == [("delivered", 4)]
    shown = alice.get(f"/api/v1/webhook-deliveries/{row.id}").json()
    assert [one["response_status"] for one in shown["tries"]] == [500, 301, None, 204]
    assert shown["request_body"]["type"] == "task.succeeded"

    again = alice.post(f"/api/v1/webhook-deliveries/{row.id}/redeliver")
    assert [again.status_code, again.json()["status"]] == [202, "pending"]
    eventually(lambda: len(receiver.calls) == 5)
    assert len({call.id for call in receiver.calls}) == 1
    by_task = alice.get(f"/api/v1/webhook-deliveries?task_id={task['id']}").json()["items"]
    assert len(by_task) == 1
    assert caller("bob").get(f"/api/v1/webhook-deliveries/{row.id}").status_code == 404


def test_410_and_five_days_of_failures_disable(alice, receiver):
    gone = endpoint(alice, receiver)
    watcher = endpoint(alice, receiver, events=["webhook.*"])
    receiver.answer = lambda body: 204 if body["type"] == "webhook.disabled" else 410
    assert alice.post(f"/api/v1/webhook-endpoints/{gone['id']}/test").status_code == 202
    eventually(lambda: receiver.of("webhook.disabled"))
    shown = alice.get(f"/api/v1/webhook-endpoints/{gone['id']}").json()
    assert [shown["enabled"], shown["disabled_reason"]] == [False, "gone"]
    [told] = receiver.of("webhook.disabled")
    assert told.body["data"] == {"endpoint_id": gone["id"], "reason": "gone"}

    on = alice.patch(f"/api/v1/webhook-endpoints/{gone['id']}", {"enabled": True}).json()
    assert [on["enabled"], on["disabled_reason"]] == [True, None]
    receiver.answer = lambda body: 204 if body["type"] == "webhook.disabled" else 500
    WebhookEndpoint.objects.filter(pk=gone["id"]).update(
        failing_since=timezone.now() - timedelta(days=5, hours=1)
    )
    alice.post(f"/api/v1/webhook-endpoints/{gone['id']}/test")
    eventually(lambda: len(receiver.of("webhook.disabled")) == 2)
    shown = alice.get(f"/api/v1/webhook-endpoints/{gone['id']}").json()
    assert shown["disabled_reason"] == "failing"
    assert WebhookEndpoint.objects.get(pk=watcher["id"]).enabled


def test_rotation_signs_twice_for_the_overlap(alice, receiver):
    made = endpoint(alice, receiver)
    path = f"/api/v1/webhook-endpoints/{made['id']}"
    new = alice.post(f"{path}/rotate-secret", {"overlap_hours": 1}).json()
    alice.post(f"{path}/test")
    eventually(lambda: len(receiver.calls) == 1)
    [call] = receiver.calls
    assert call.signatures == [call.expected(new["secret"]), call.expected(made["secret"])]
    newest = alice.post(f"{path}/rotate-secret", {"overlap_hours": 0}).json()
    alice.post(f"{path}/test")
    eventually(lambda: len(receiver.calls) == 2)
    assert receiver.calls[1].signatures == [receiver.calls[1].expected(newest["secret"])]


def test_the_webhook_of_one_task_and_of_a_batch(alice, receiver):
    """Signed with the owner's default secret; a type that is refused does not hold up the others for ever."""
    secret = alice.get("/api/v1/webhook-secret").json()["secret"]
    receiver.answer = lambda body: 500 if body["type"] == "task.running" else 204
    wish = {"url": receiver.url, "events": ["task.*"]}
    task = submit(alice, webhook=wish)
    assert task["webhook"] == wish
    all_ended([task["id"]])
    eventually(lambda: receiver.of("task.succeeded"))
    order = [call.body["type"] for call in receiver.calls]
    assert order[: order.index("task.succeeded")].count("task.running") >= 3
    assert all(call.signatures == [call.expected(secret)] for call in receiver.calls)

    Delivery.objects.all().delete()
    receiver.calls.clear()
    body = {
        "models": ["sandbox-text", "sandbox-image"],
        "input": {"prompt": "x", "sandbox": {"latency": 0}},
        "webhook": {"url": receiver.url},
    }
    batch = alice.post("/api/v1/batches", body).json()
    all_ended([child["id"] for child in batch["tasks"]])
    all_delivered()
    [call] = receiver.calls
    assert [call.body["type"], call.body["seq"]] == ["batch.completed", None]
    told = call.body["data"]
    assert [told["id"], told["status"], told["counts"]["succeeded"]] == [
        batch["id"],
        "completed",
        2,
    ]


def test_who_may_hear_what_and_where(alice, receiver):
    root = caller("root", "admin")
    endpoint(alice, receiver, events=["executor.down"], expect=403)
    endpoint(alice, receiver, events=["task.sneezed"], expect=422)
    refused = alice.post("/api/v1/webhook-endpoints", {"url": "http://10.0.0.1/hook"})
    assert [refused.status_code, refused.json()["code"]] == [422, "url_not_allowed"]
    refused = caller("eve", "tasks").get("/api/v1/webhook-endpoints")
    assert refused.status_code == 403
    mine = endpoint(alice, receiver)
    endpoint(root, receiver, events=["executor.*", "agent.offline"])
    append([NewEvent(account=None, type="executor.down", data={"executor": "sandbox-1"})])
    append([NewEvent(account=None, type="agent.alert", data={"agent_id": "1"})])
    all_delivered()
    assert [call.body["type"] for call in receiver.calls] == ["executor.down"]
    assert receiver.calls[0].body["data"] == {"executor": "sandbox-1"}
    assert caller("bob").get(f"/api/v1/webhook-endpoints/{mine['id']}").status_code == 404
    assert alice.delete(f"/api/v1/webhook-endpoints/{mine['id']}").status_code == 204
    assert alice.get("/api/v1/webhook-endpoints").json()["items"] == []


def test_a_receiver_with_every_fault_loses_nothing(alice, receiver):
    """30 % errors, 10 % cut connections: all arrive, in order per task, at most four at a time."""
    dice = random.Random(7)
    refused: Counter[str] = Counter()

    def rude(body):
        time.sleep(0.002)
        refused[body["id"]] += 1
        roll = dice.random() if refused[body["id"]] < 3 else 1
        return 500 if roll < 0.3 else None if roll < 0.4 else 204

    receiver.answer = rude
    endpoint(alice, receiver, events=["task.*"])
    with receiving() as other:
        endpoint(alice, other, events=ENDS)
        tasks = [submit(alice, model="sandbox-text")["id"] for _ in range(25)]
        all_ended(tasks)
        all_delivered()
        assert len(other.accepted()) == 25
    expected = set(Delivery.objects.filter(url=receiver.url).values_list("event_id", flat=True))
    assert {call.id for call in receiver.accepted()} == expected
    assert len(expected) == 25 * 4
    assert receiver.busiest <= webhooks.FLIGHT
    for task in tasks:
        check_order([call for call in receiver.calls if call.body["data"]["id"] == task])


def check_order(calls):
    """No event before the earlier ones were accepted or refused three times."""
    seen: dict[int, list[int]] = {}
    for call in calls:
        for earlier in range(1, call.body["seq"]):
            tries = seen.get(earlier, [])
            assert len(tries) >= 3 or any(200 <= status < 300 for status in tries)
        seen.setdefault(call.body["seq"], []).append(call.status)


def test_when_the_next_try_is(settings, monkeypatch):
    """The schedule with its jitter, and what a receiver may ask for."""
    monkeypatch.setattr(config, "backoff_scale", 1.0)
    assert 4.5 <= webhooks.wait(1, 0) <= 5.5
    assert 86400 * 0.9 <= webhooks.wait(10, 0) <= 86400 * 1.1
    assert webhooks.wait(1, 120) == 120
    assert webhooks.wait(1, 10**6) == 3600
    assert webhook_sending.retry_after({"retry-after": "17"}) == 17
    assert webhook_sending.retry_after({"Retry-After": "nonsense"}) == 0
    assert webhook_sending.retry_after({}) == 0


def test_the_signature_of_the_public_description():
    """The test vector of the Standard Webhooks specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (
        webhook_secrets.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        == expected
    )
