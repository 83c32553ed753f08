"""What a waiting task says of itself: its place, its time, and why it is where it is."""

from datetime import timedelta

import pytest
from django.utils import timezone

from admin_integrations import fleet
from admin_integrations.models import Cooldown, Executor
from genpulse.http.parsing import render_time
from genpulse.ids import new_id
from tasks import insight
from tasks.models import Attempt, Task
from tests.integration.cast import caller
from tests.integration.floor import (
    GOOD,
    QUEUES,
    TASKS,
    Floor,
    alice,
    ask,
    floor,
    rich,
    root,
    submit,
)
from wallet import services as wallet

__all__ = ["alice", "floor", "root"]
pytestmark = pytest.mark.django_db


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


def test_explain_names_the_file_a_workflow_misses(floor, alice):
    """Not only the checkpoint: any file that a node loads."""
    have = ["sd_xl.safetensors", "ink.safetensors"]
    floor.executor("gpu-1", 1, "comfyui", known_models=have)
    floor.executor("gpu-2", 1, "comfyui", known_models=[*have, "ae.safetensors"])
    floor.worker("comfyui")
    nodes = {
        "VAELoader": {"vae_name": "ae.safetensors"},
        "LoraLoader": {"lora_name": "ink.safetensors"},
        "CheckpointLoaderSimple": {"ckpt_name": "sd_xl.safetensors"},
    }
    graph = {kind: {"class_type": kind, "inputs": inputs} for kind, inputs in nodes.items()}
    task = submit(alice, model="comfyui", input={"workflow": graph})
    candidates = ask(alice, task, "/explain")["candidates"]
    assert [(one["reason"], one["detail"]) for one in candidates] == [
        ("model_missing", "ae.safetensors is not there"),
        ("eligible", "0/1 slots"),
    ]


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
