"""Where work goes: weights, health, keys, circuits and models in memory, by rounds of the real admission."""

import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
from django.utils import timezone

from admin_integrations import fleet, health
from admin_integrations.models import Cooldown, Credential
from genpulse.events.models import Event
from tasks.models import Attempt, Task
from tests.integration.cast import caller
from tests.integration.floor import floor
from tests.integration.providers.comfy_calls import DIFFUSION, node

__all__ = ["floor"]
pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def places(**where):
    return Counter(Attempt.objects.filter(**where).values_list("executor", flat=True))


def test_weights_three_to_one(floor):
    """Over 400 tasks, while both have room."""
    floor.executor("heavy", 64, weight=3)
    floor.executor("light", 64, weight=1)
    floor.worker(threads=16)
    floor.queue("alice", 400)
    while floor.admit():
        floor.finish(5)
    shares = places()
    assert shares.total() == 400
    assert 270 <= shares["heavy"] <= 330, shares


def test_when_health_alone_is_against_everybody_everybody_is_tried(floor):
    """An open circuit beats waiting only while somebody else is well; an operator's wish always counts."""
    floor.worker()
    for name in ("a", "b"):
        health.cool(floor.executor(name, 1).id, None, "", "circuit_open", 600)
    floor.executor("c", 1, status="paused")
    floor.queue("alice", 9)
    floor.admit()
    assert places() == {"a": 1, "b": 1}
    floor.finish()
    floor.executor("d", 1)
    floor.admit()
    assert places(slot=True) == {"d": 1}


class TestCircuits:
    def test_half_open_lets_one_through_and_its_end_decides(self, floor):
        floor.worker()
        sick, well = floor.executor("sick", 4), floor.executor("well", 1)
        health.in_a_row.clear()
        for _ in range(3):
            health.failed(sick.id, "sick", None, "sandbox-text", "transient")
        floor.queue("alice", 20)
        floor.admit()
        assert places() == {"well": 1}

        # Its time is over: one task, however many slots are free and rounds go by.
        Cooldown.objects.update(until=timezone.now() - HOUR)
        for _ in range(3):
            floor.admit()
        assert places(slot=True) == {"well": 1, "sick": 1}

        # The probe fails: open again, for longer.
        health.failed(sick.id, "sick", None, "sandbox-text", "transient")
        [cold] = Cooldown.objects.all()
        assert (cold.strikes, cold.probing) == (2, False)
        assert cold.until
        assert cold.until - timezone.now() > timedelta(seconds=health.OPEN_FIRST * 1.5)
        floor.finish()
        floor.admit()
        assert places(slot=True) == {"well": 1}

        # The next one is well: all slots are back.
        Cooldown.objects.update(until=timezone.now() - HOUR)
        floor.finish()
        floor.admit()
        health.succeeded(sick.id, "sick", None, "sandbox-text")
        assert not Cooldown.objects.exists()
        floor.admit()
        assert places(slot=True) == {"well": 1, "sick": 4}
        told = Event.objects.filter(account=None).order_by("id").values_list("type", flat=True)
        assert list(told) == ["executor.down", "executor.down", "executor.up"]
        assert well.name == "well"

    def test_a_circuit_is_for_one_model(self, floor):
        floor.worker()
        only = floor.executor("one", 4)
        floor.executor("other", 1)
        health.cool(only.id, None, "sandbox-image", "circuit_open", 600)
        floor.queue("alice", 4, prefer=("one",))
        floor.queue("bob", 4, prefer=("one",), model="sandbox-image")
        floor.admit()
        assert floor.counts(floor.active) == {"alice/default": 4, "bob/default": 1}


class TestKeys:
    @pytest.fixture
    def pool(self, floor):
        """An executor with three keys and more slots than they have."""
        floor.worker("openai")
        keys = [
            Credential.objects.create(provider="openai", name=name, ciphertext="", last4="")
            for name in ("a", "b", "c")
        ]
        floor.executor("openai-1", 100, "openai").credentials.set(keys)
        return {key.name: key for key in keys}

    def used(self, floor, tasks=1):
        floor.queue("alice", tasks, family="openai", provider="openai", model="gpt-5")
        done = floor.admit()
        keys: dict[UUID | None, str] = dict(Credential.objects.values_list("id", "name"))
        return Counter(
            keys[id_]
            for id_ in Attempt.objects.filter(task__in=done).values_list("credential_id", flat=True)
        )

    @staticmethod
    def change(key, **values):
        Credential.objects.filter(pk=key.pk).update(**values)

    def test_the_least_used_goes_first(self, floor, pool):
        self.change(pool["a"], usage_count=10)
        self.change(pool["b"], usage_count=5)
        assert self.used(floor, 4) == {"a": 1, "b": 1, "c": 2}
        floor.finish()
        assert self.used(floor) == {"c": 1}

    def test_a_daily_quota_is_never_exceeded_and_comes_back_the_next_day(self, floor, pool):
        today = timezone.now().date()
        for key, quota in (("a", 3), ("b", 2), ("c", 0)):
            self.change(pool[key], daily_quota=quota)
        assert self.used(floor, 9) == {"a": 3, "b": 2}
        floor.finish()
        assert self.used(floor) == {}
        verdict = fleet.current(0).verdicts(
            fleet.RouteView(id=0, family="openai", provider="openai")
        )
        assert (verdict[0].reason, verdict[0].hopeless) == ("no_credential", True)
        Credential.objects.update(used_on=today - timedelta(days=1))
        assert self.used(floor) == {"a": 3, "b": 2}
        assert set(Credential.objects.exclude(name="c").values_list("used_on", flat=True)) == {
            today
        }

    def test_own_limits_expiry_switch_and_cooldowns(self, floor, pool):
        self.change(pool["a"], max_concurrency=2)
        self.change(pool["b"], expire_at=timezone.now() + HOUR)
        self.change(pool["c"], status="disabled")
        assert self.used(floor, 5) == {"a": 2, "b": 3}
        self.change(pool["b"], expire_at=timezone.now() - HOUR)
        assert self.used(floor) == {}
        floor.finish()
        executor = pool["a"].executors.get()
        health.cool(executor.id, pool["a"].id, "gpt-5", "rate_limited", 60)
        assert self.used(floor) == {}
        Cooldown.objects.update(until=timezone.now() - HOUR)
        assert self.used(floor) == {"a": 2}


class TestModelsInMemory:
    """Three ComfyUI servers, five models, each server has some of them."""

    SERVERS = {"gpu-1": "abc", "gpu-2": "bcde", "gpu-3": "ade"}
    JOBS = 300

    def test_affinity_saves_loads_and_no_job_goes_where_its_model_is_not(self, floor):
        floor.worker("comfyui")
        for name, models in self.SERVERS.items():
            floor.executor(name, 1, "comfyui", known_models=list(models))
        dice = random.Random(7)
        wanted = [dice.choice("abcde") for _ in range(self.JOBS)]
        model_of = {}
        for number, model in enumerate(wanted):
            more = {"family": "comfyui", "provider": "comfyui", "needs": (model,)}
            [task] = floor.queue(f"user-{number % 3}", 1, model=f"flow-{model}@v1", **more)
            model_of[task] = model
        while floor.admit():
            floor.finish()
        ran = list(Attempt.objects.order_by("created_at", "pk").values_list("executor", "task_id"))
        assert len(ran) == self.JOBS
        assert all(model_of[task] in self.SERVERS[name] for name, task in ran)
        order = {task: place for place, task in enumerate(floor.order)}
        ran.sort(key=lambda row: order[row[1]])
        loads = self.loads((name, model_of[task]) for name, task in ran)
        assert loads <= 0.6 * self.loads(self.in_turn(wanted)), loads

    @staticmethod
    def loads(runs):
        """How often a server had to load another model."""
        memory: dict[str, str] = {}
        count = 0
        for name, model in runs:
            count += memory.get(name) != model
            memory[name] = model
        return count

    def in_turn(self, wanted):
        """Round robin among the servers that have the model."""
        turns: Counter[str] = Counter()
        for model in wanted:
            able = [name for name, models in self.SERVERS.items() if model in models]
            yield able[turns[model] % len(able)], model
            turns[model] += 1


def test_a_workflow_says_which_models_it_needs(floor):
    """By its graph and by the inputs that choose another one; who lacks them is left out with the reason."""
    graph = {
        **DIFFUSION,
        "1": node("CheckpointLoaderSimple", "INPUT_ckpt_name", ckpt_name="sd_xl.safetensors"),
    }
    alice = caller("alice")
    floor.worker("comfyui")
    floor.executor("gpu-1", 1, "comfyui", known_models=["flux.safetensors"])
    floor.executor("gpu-2", 1, "comfyui", known_models=["sd_xl.safetensors"])
    body = {"provider": "comfyui", "task_type": "comfy-workflow"}
    for inputs in ({}, {"ckpt_name": "flux.safetensors"}):
        given = {"workflow": graph, "inputs": {"prompt": "a kite", **inputs}}
        answer = alice.post("/api/v1/tasks", {**body, "input": given})
        assert answer.status_code == 201, answer.content
    first, second = Task.objects.order_by("pk")
    explained = alice.get(f"/api/v1/tasks/{first.pk}/explain").json()["candidates"]
    assert [(one["executor"], one["reason"], one["detail"]) for one in explained] == [
        ("gpu-1", "model_missing", "sd_xl.safetensors is not there"),
        ("gpu-2", "eligible", "0/1 slots"),
    ]
    floor.admit()
    placed = dict(Attempt.objects.values_list("task_id", "executor"))
    assert placed == {first.pk: "gpu-2", second.pk: "gpu-1"}
