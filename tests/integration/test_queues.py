"""Queues and executors as operators see and steer them."""

import os

import pytest
import redis
from django.utils import timezone

from admin_integrations.models import Cooldown
from genpulse.events.models import Event
from tasks import audit, insight, timers
from tasks.models import Attempt, DeadLetter, Task
from tests.integration.cast import caller
from tests.integration.floor import GOOD, QUEUES, TASKS, alice, ask, floor, rich, root, submit
from wallet import services as wallet

__all__ = ["alice", "floor", "root"]
pytestmark = pytest.mark.django_db


def queue_of(root, family="sandbox"):
    insight.forget()
    return root.get(f"{QUEUES}/{family}").json()


# Steering queues


def test_pause_stops_admissions_and_keeps_accepting(floor, alice, root):
    floor.executor("gpu-1", 2)
    floor.worker()
    paused = root.post(f"{QUEUES}/sandbox/pause").json()
    assert paused["state"] == "paused"
    submit(alice)
    assert floor.admit() == []
    assert queue_of(root)["waiting"] == {"critical": 0, "default": 1, "low": 0, "total": 1}
    assert root.post(f"{QUEUES}/sandbox/resume").json()["state"] == "active"
    assert len(floor.admit()) == 1
    shown = queue_of(root)
    assert [shown["admitted"], shown["capacity"], shown["waiting"]["total"]] == [1, 2, 0]


def test_a_task_that_a_pause_kept_from_starting_in_time_expires(floor, alice, root):
    floor.executor("gpu-1", 2)
    floor.worker()
    root.post(f"{QUEUES}/sandbox/pause")
    task = submit(alice, start_within=1)
    Task.objects.filter(pk=task["id"]).update(start_deadline="2026-01-01T00:00:00Z")
    timers.expire()
    ended = ask(alice, task)
    assert [ended["status"], ended["error"]["code"]] == ["expired", "start_deadline"]
    assert wallet.balance(alice.user.account_id).held == 0


def test_drain_refuses_new_work_and_says_when_it_is_done(floor, alice, root):
    floor.executor("gpu-1", 2)
    floor.worker()
    submit(alice)
    assert root.post(f"{QUEUES}/sandbox/drain").json()["state"] == "draining"
    refused = alice.post(TASKS, GOOD)
    assert [refused.status_code, refused.json()["code"]] == [503, "family_draining"]
    assert refused.headers["Retry-After"] == "60"
    quote = alice.post("/api/v1/quote", GOOD)
    assert quote.status_code == 200, quote.content
    assert [quote.json()["feasible"], quote.json()["reasons"]] == [False, ["draining"]]
    assert [item["feasible"] for item in quote.json()["items"]] == [False]
    assert len(floor.admit()) == 1
    assert queue_of(root)["state"] == "draining"
    floor.finish()
    assert queue_of(root)["state"] == "drained"
    root.post(f"{QUEUES}/sandbox/resume")
    assert alice.post("/api/v1/quote", GOOD).json()["reasons"] == []
    submit(alice)


def test_everything_at_once(floor, alice, root):
    floor.executor("gpu-1", 2)
    floor.worker()
    answer = root.post(f"{QUEUES}/drain", {"reason": "upgrade"}).json()
    assert {queue["state"] for queue in answer["items"]} == {"drained"}
    assert alice.post(TASKS, GOOD).status_code == 503
    root.post(f"{QUEUES}/sandbox/resume")
    submit(alice)
    states = {q["family"]: q["state"] for q in root.get(QUEUES).json()["items"]}
    assert [states["sandbox"], states["gemini"]] == ["active", "drained"]
    answer = root.post(f"{QUEUES}/resume").json()
    assert {queue["state"] for queue in answer["items"]} == {"active"}


def test_only_operators_steer(alice, root):
    for method, path in [
        ("GET", QUEUES),
        ("POST", f"{QUEUES}/pause"),
        ("POST", f"{QUEUES}/sandbox/drain"),
        ("POST", f"{QUEUES}/sandbox/purge"),
        ("GET", "/api/v1/executors"),
        ("GET", "/api/v1/attempts"),
        ("GET", "/api/v1/dead-letters"),
    ]:
        assert alice(method, path).status_code == 403, path
    assert root.get(f"{QUEUES}/nonsense").status_code == 404
    assert root.post(f"{QUEUES}/nonsense/pause").status_code == 404
    assert root.post(f"{QUEUES}/sandbox/pause", {"because": "x"}).status_code == 422


def test_purge_cancels_what_waits_and_returns_every_hold(floor, alice, root):
    bob = rich("bob")
    for who in (alice, alice, bob):
        submit(who)
    submit(alice, priority="low")
    submit(alice, run_at="2026-12-12T00:00:00Z")
    blocked = submit(alice)
    Task.objects.filter(pk=blocked["id"]).update(
        status="blocked", blocked_at="2026-01-01T00:00:00Z"
    )
    path = f"{QUEUES}/sandbox/purge"
    for body in ({}, {"confirm": "gemini"}):
        answer = root.post(path, body)
        assert [answer.status_code, answer.json()["errors"][0]["field"]] == [422, "confirm"]
    sure = {"confirm": "sandbox"}
    assert root.post(path, {**sure, "older_than": "1h"}).json() == {"canceled": 0}
    assert root.post(path, {**sure, "priority": "low"}).json() == {"canceled": 1}
    assert root.post(path, {**sure, "user": "bob"}).json() == {"canceled": 1}
    assert root.post(path, {**sure, "user": "nobody"}).json() == {"canceled": 0}
    assert root.post(path, sure).json() == {"canceled": 4}
    assert wallet.balance(alice.user.account_id).available == 100_000_000
    ended = ask(alice, blocked)
    assert [ended["status"], ended["error"]["code"]] == ["canceled", "purged_by_operator"]
    assert not audit.breaches()


def test_operators_promote_within_a_users_line(floor, alice, root):
    floor.executor("gpu-1", 1)
    floor.worker()
    submit(alice)
    last = submit(alice)
    path = f"{QUEUES}/sandbox/promote"
    insight.forget()
    assert root.post(path, {"task_id": last["id"]}).json()["position"] == 1
    assert root.post(f"{QUEUES}/gemini/promote", {"task_id": last["id"]}).status_code == 404
    floor.admit()
    answer = root.post(path, {"task_id": last["id"]})
    assert [answer.status_code, answer.json()["code"]] == [422, "not_waiting"]


def test_what_a_queue_counts(floor, alice, root):
    floor.executor("gpu-1", 3)
    floor.worker()
    for status in ("succeeded", "failed", "failed"):
        task = submit(alice)
        Task.objects.filter(pk=task["id"]).update(
            hold_id=None, status=status, finished_at="2026-01-01T00:00:00Z"
        )
    submit(alice, run_at="2026-12-12T00:00:00Z")
    again = submit(alice)
    Task.objects.filter(pk=again["id"]).update(
        ready=False, attempt=1, due_at="2099-01-01T00:00:00Z"
    )
    for level in ("critical", "low", "low"):
        submit(alice, priority=level)
    shown = queue_of(root)
    assert shown == {
        "family": "sandbox",
        "state": "active",
        "waiting": {"critical": 1, "default": 0, "low": 2, "total": 3},
        "scheduled": 1,
        "blocked": 0,
        "admitted": 0,
        "running": 0,
        "awaiting": 0,
        "verifying": 0,
        "retrying": 1,
        "capacity": 3,
        "oldest_waiting_seconds": shown["oldest_waiting_seconds"],
        "finished_last_hour": 0,
        "failed_last_hour": 0,
        "broker_messages": shown["broker_messages"],
    }
    Task.objects.filter(status__in=["succeeded", "failed"]).update(finished_at=timezone.now())
    shown = queue_of(root)
    assert [shown["finished_last_hour"], shown["failed_last_hour"]] == [3, 2]


def test_broker_messages_are_counted_over_priorities(root, clean_redis):
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as broker:
        broker.lpush("gp:sandbox", "a", "b")
        broker.lpush("gp:sandbox\x06\x163", "c")
        broker.lpush("gp:sandbox\x06\x166", "d")
        assert queue_of(root)["broker_messages"] == 4


# Executors


def test_executors_are_shown_and_steered(floor, alice, root):
    made = floor.executor("gpu-1", 2)
    floor.worker()
    submit(alice)
    floor.admit()
    shown = root.get("/api/v1/executors/gpu-1").json()
    assert shown == root.get(f"/api/v1/executors/{made.id}").json()
    assert shown["slots"] == {"used": 1, "max": 2}
    assert shown["health"]["status"] == "unknown"
    assert shown in root.get("/api/v1/executors").json()["items"]
    assert root.post("/api/v1/executors/gpu-1/drain", {"reason": "move"}).json()["state"] == (
        "draining"
    )
    submit(alice)
    assert floor.admit() == []
    floor.finish()
    assert root.get("/api/v1/executors/gpu-1").json()["state"] == "drained"
    assert root.post("/api/v1/executors/gpu-1/pause").json()["status"] == "paused"
    assert root.post("/api/v1/executors/gpu-1/resume").json()["state"] == "active"
    assert len(floor.admit()) == 1
    told = Event.objects.filter(type="executor.state").order_by("pk").values_list("data", flat=True)
    assert [data["state"] for data in told] == ["draining", "paused", "active"]
    assert told[0] == {"executor": "gpu-1", "reason": "move", "state": "draining"}
    assert root.get("/api/v1/executors/gpu-9").status_code == 404


def test_health_words_follow_from_cooldowns(floor, root):
    made = floor.executor("gpu-1", 2)
    shown = root.post("/api/v1/executors/gpu-1/probe").json()
    assert shown["health"]["status"] == "healthy"
    assert shown["health"]["checked_at"]
    Cooldown.objects.create(executor=made, reason="unhealthy", until="2099-01-01T00:00:00Z")
    shown = root.get("/api/v1/executors/gpu-1").json()
    assert [shown["health"]["status"], shown["state"]] == ["down", "unhealthy"]
    assert shown["cooldown_until"] == "2099-01-01T00:00:00.000Z"
    assert root.post("/api/v1/executors/gpu-1/probe").json()["state"] == "active"


# Attempts and dead letters


def test_attempts_are_listed_for_owners_and_operators(floor, alice, root):
    floor.executor("gpu-1", 9)
    floor.worker()
    tasks = [submit(alice) for _ in range(3)]
    floor.admit()
    [mine] = alice.get(f"{TASKS}/{tasks[0]['id']}/attempts").json()["items"]
    assert mine == {
        "number": 1,
        "executor": "gpu-1",
        "provider": "sandbox",
        "model": "sandbox-text",
        "status": "running",
        "started_at": None,
        "finished_at": None,
        "duration_seconds": None,
        "error": None,
        "external_id": None,
    }
    [theirs] = root.get(f"{TASKS}/{tasks[0]['id']}/attempts").json()["items"]
    assert theirs.items() > {"credential": None, "late": False, "possible_cost": False}.items()
    seen, cursor = [], ""
    while cursor is not None:
        page = root.get(f"/api/v1/attempts?limit=2&cursor={cursor}").json()
        seen += [item["task_id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert seen == [task["id"] for task in tasks[::-1]]
    Attempt.objects.filter(task_id=tasks[1]["id"]).update(late=True, outcome="canceled")
    [late] = root.get("/api/v1/attempts?late=1").json()["items"]
    assert [late["task_id"], late["user"], late["status"]] == [tasks[1]["id"], "alice", "canceled"]
    assert root.get("/api/v1/attempts?provider=gemini").json()["items"] == []
    assert root.get("/api/v1/attempts?cursor=bm9uc2Vuc2U").status_code == 422
    assert caller("bob").get(f"{TASKS}/{tasks[0]['id']}/attempts").status_code == 404


def test_dead_letters_are_listed_and_removed(root):
    letter = DeadLetter.objects.create(source="gp.submit", error="malformed", raw_payload="[]")
    [shown] = root.get("/api/v1/dead-letters").json()["items"]
    assert [shown["id"], shown["source"], shown["raw_payload"]] == [
        str(letter.id),
        "gp.submit",
        "[]",
    ]
    assert root.delete(f"/api/v1/dead-letters/{letter.id}").status_code == 204
    assert root.delete(f"/api/v1/dead-letters/{letter.id}").status_code == 404
