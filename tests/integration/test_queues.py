"""Queues and executors as operators steer them, and what a waiting task says of itself."""

import os
from datetime import timedelta

import pytest
import redis
from django.utils import timezone

from admin_integrations import fleet
from admin_integrations.models import Cooldown, Executor
from genpulse.events.models import Event
from genpulse.http.parsing import render_time
from genpulse.ids import new_id
from tasks import audit, insight, timers
from tasks.models import Attempt, DeadLetter, Task
from tests.integration.cast import caller
from tests.integration.floor import Floor
from wallet import services as wallet

pytestmark = pytest.mark.django_db
TASKS, QUEUES = "/api/v1/tasks", "/api/v1/queues"
GOOD = {"model": "sandbox-text", "input": {"prompt": "hi"}}


@pytest.fixture
def floor(db):
    return Floor()


@pytest.fixture
def root(db):
    return caller("root", "admin")


def rich(name):
    who = caller(name)
    wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return who


@pytest.fixture
def alice(db):
    return rich("alice")


def submit(who, expect=201, **fields):
    insight.forget()
    answer = who.post(TASKS, {**GOOD, **fields})
    assert answer.status_code == expect, answer.content
    return answer.json()


def ask(who, task, what=""):
    insight.forget()
    return who.get(f"{TASKS}/{task['id']}{what}").json()


def queue_of(root, family="sandbox"):
    insight.forget()
    return root.get(f"{QUEUES}/{family}").json()


# A task's place


def test_a_waiting_task_says_who_is_before_it(floor, alice):
    floor.executor("gpu-1", 1)
    floor.worker()
    first = submit(alice)
    assert [first["position"], first["phase"]] == [1, "waiting: next in line"]
    second, third = submit(alice), submit(alice)
    assert [second["position"], second["phase"]] == [2, "waiting: 1 task of yours ahead"]
    bob = rich("bob")
    theirs = submit(bob)
    assert [theirs["position"], theirs["phase"]] == [2, "waiting: 1 task ahead"]
    assert ask(alice, third)["position"] == 4
    alice.post(f"{TASKS}/{third['id']}/promote")
    assert ask(alice, third)["position"] == 1
    floor.admit()
    shown = ask(alice, third)
    assert [shown["status"], shown["position"]] == ["admitted", None]
    assert ask(bob, theirs)["position"] == 1


def test_other_levels_go_by_their_share(floor, alice):
    floor.executor("gpu-1", 1)
    floor.worker()
    floor.queue("bob", 30, "critical")
    floor.queue("bob", 30, "low")
    [mine] = [submit(alice) for _ in range(5)][-1:]
    shown = ask(alice, mine, "/explain")
    assert shown["ahead"] == {"own": 4, "others": 9 + 1}
    assert shown["position"] == 15


def test_tasks_for_other_executors_are_not_before_it(floor, alice):
    floor.executor("gpu-1", 1)
    floor.executor("gpu-2", 1)
    floor.worker()
    floor.queue("bob", 50, only=("gpu-2",))
    task = submit(alice, executor={"only": ["gpu-1"]})
    assert task["position"] == 1


def test_times_come_from_the_last_runs(floor, alice):
    floor.executor("gpu-1", 2)
    floor.worker()
    assert submit(alice)["eta"] is None
    history(10, 20)
    quoted = quote(alice, GOOD)["items"][0]
    assert quoted["position"] == 2
    assert quoted["eta"] == {
        "start_seconds": 0,
        "finish_seconds": pytest.approx(15, abs=0.5),
        "finish_p90_seconds": pytest.approx(19, abs=0.5),
    }
    for _ in range(5):
        submit(alice)
    quoted = quote(alice, GOOD)["items"][0]
    assert [quoted["position"], quoted["queue_depth"]] == [7, 6]
    assert quoted["eta"]["start_seconds"] == pytest.approx(37.5, abs=1)
    assert quoted["candidates"] == [
        {"executor": "gpu-1", "eligible": True, "reason": "eligible", "detail": "0/2 slots"}
    ]
    shown = submit(alice)["eta"]
    assert shown["start_at"] < shown["finish_at"]


def history(*seconds, model="sandbox-text"):
    """Runs of these lengths on gpu-1."""
    executor = Executor.objects.get(name="gpu-1")
    for length in seconds:
        floor = Floor()
        [task] = floor.queue("past", 1, model=model)
        Task.objects.filter(pk=task).update(status="succeeded", finished_at="2026-01-01T00:00:00Z")
        Attempt.objects.create(
            task_id=task,
            number=1,
            account_id=new_id(),
            family="sandbox",
            provider="sandbox",
            model=model,
            executor_id=executor.id,
            executor="gpu-1",
            slot=False,
            stage="closed",
            outcome="succeeded",
            submit_key=new_id(),
            started_at="2026-01-01T00:00:00Z",
            finished_at=f"2026-01-01T00:00:{length:02}Z",
        )
    insight.forget()


def quote(who, body):
    insight.forget()
    answer = who.post("/api/v1/quote", body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_complete_by_is_refused_when_it_cannot_be_kept(floor, alice):
    floor.executor("gpu-1", 1)
    floor.worker()
    soon, later = in_seconds(15), "2099-01-01T00:00:00Z"
    history(30)
    refused = submit(alice, expect=422, complete_by=soon)
    assert refused["code"] == "not_feasible"
    assert in_seconds(20) < refused["finish_at"] < in_seconds(40)
    assert not Task.objects.filter(account=alice.user.account).exists()
    assert wallet.balance(alice.user.account_id).held == 0
    quoted = quote(alice, {**GOOD, "complete_by": soon})
    assert [quoted["feasible"], quoted["reasons"]] == [False, ["not_feasible"]]
    assert submit(alice, complete_by=later)["complete_by"] == "2099-01-01T00:00:00.000Z"
    unknown = submit(alice, model="sandbox-image", complete_by=soon)
    assert unknown["status"] == "queued"


def in_seconds(seconds):
    return render_time(timezone.now() + timedelta(seconds=seconds))


# Explain


def reasons(document):
    return {one["executor"]: one["reason"] for one in document["candidates"]}


def test_explain_gives_a_reason_for_each_executor(floor, alice):
    floor.executor("gpu-1", 1)
    floor.executor("gpu-2", 1, status="paused")
    floor.executor("gpu-3", 1, status="draining")
    floor.executor("gpu-4", 1, known_models=["sandbox-image"])
    resting = floor.executor("gpu-5", 1)
    Cooldown.objects.create(executor=resting, reason="overloaded", until="2099-01-01T00:00:00Z")
    fleet.forget()
    floor.worker()
    running, waiting = submit(alice), submit(alice)
    floor.admit()
    document = ask(alice, waiting, "/explain")
    assert reasons(document) == {
        "gpu-1": "slots_full",
        "gpu-2": "paused",
        "gpu-3": "draining",
        "gpu-4": "model_missing",
        "gpu-5": "cooling_down",
    }
    assert document["summary"] == "Waiting: 1 executor is full; you are next in line."
    assert [document["position"], document["ahead"]] == [1, {"own": 0, "others": 0}]
    assert document["fair_share"] == {
        "level": "default",
        "level_share": 0.3,
        "tenants_waiting": 1,
    }
    assert document["family"] == {"name": "sandbox", "state": "active"}
    after = ask(alice, running, "/explain")
    assert reasons(after)["gpu-1"] == "chosen"
    assert reasons(after)["gpu-2"] == "paused"
    assert after["summary"] == "Admitted on gpu-1."
    assert caller("bob").get(f"{TASKS}/{waiting['id']}/explain").status_code == 404


def test_explain_names_what_stands_still(floor, alice, root):
    task = submit(alice)
    assert ask(alice, task, "/explain")["candidates"] == []
    assert "add an executor of provider sandbox" in ask(alice, task, "/explain")["summary"]
    floor.executor("gpu-1", 1)
    document = ask(alice, task, "/explain")
    assert reasons(document) == {"gpu-1": "no_worker"}
    assert ask(alice, task)["phase"] == "no worker online for family sandbox"
    root.post(f"{QUEUES}/sandbox/pause", {"reason": "new disks"})
    document = ask(alice, task, "/explain")
    assert reasons(document) == {"gpu-1": "paused"}
    assert "the queue sandbox is paused: new disks" in document["summary"]


def test_explain_shows_the_limits(floor, alice):
    floor.executor("gpu-1", 9)
    floor.worker()
    floor.tenant("alice", max_concurrency=1)
    submit(alice)
    task = submit(alice)
    floor.admit()
    document = ask(alice, task, "/explain")
    assert document["limits"] == [
        {"limit": "user_concurrency", "used": 1, "max": 1, "blocking": True}
    ]
    assert "1 of at most 1 tasks of yours are running" in document["summary"]


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
    assert len(floor.admit()) == 1
    assert queue_of(root)["state"] == "draining"
    floor.finish()
    assert queue_of(root)["state"] == "drained"
    root.post(f"{QUEUES}/sandbox/resume")
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
