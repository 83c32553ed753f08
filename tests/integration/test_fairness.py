"""Fair admission, proved with the real round: who goes next, and that nothing idles while work could run."""

from collections import Counter
from itertools import groupby
from random import Random
from statistics import quantiles

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from admin_integrations import fleet, states
from admin_integrations.models import Cooldown, Credential
from genpulse import sql
from genpulse.auth import services as people
from tasks import admission
from tasks.models import Attempt, Task, Worker
from tests.integration.floor import floor

__all__ = ["floor"]
pytestmark = pytest.mark.django_db


def test_one_heavy_tenant_takes_no_more_than_its_share(floor):
    """10 000 tasks of one against nine with 60 each: while all wait, everybody gets a tenth."""
    floor.executor("gpu-1", 8)
    floor.worker()
    floor.queue("heavy", 10_000)
    for number in range(9):
        floor.queue(f"light-{number}", 60)
    counts = floor.run(rounds=50)
    assert sum(counts.values()) == 400
    assert set(counts.values()) == {40}


def test_who_asks_for_little_waits_two_service_times_at_most(floor):
    """Two slots, 10 000 tasks of one, and nine who ask now and then: p95, in rounds of one service time each."""
    floor.executor("gpu-1", 2)
    floor.worker()
    floor.queue("heavy", 10_000)
    dice, came, waited = Random(7), {}, []
    for now in range(150):
        for number in range(9):
            if dice.random() < 0.1:
                [task] = floor.queue(f"light-{number}", 1)
                came[task] = now
        waited += [now - came[task] for task in floor.admit() if task in came]
        floor.finish()
    assert len(waited) > 100
    assert quantiles(waited, n=20)[-1] <= 2
    assert floor.counts(floor.order)["heavy/default"] == 300 - len(waited)  # nothing idles


def test_a_tenant_that_comes_late_is_not_made_to_wait(floor):
    """One slot, 200 tasks of Alice: Bob's five are through before Alice's twentieth after he came."""
    floor.executor("gpu-1")
    floor.worker()
    floor.queue("alice", 200)
    floor.run(rounds=10)
    floor.queue("bob", 5)
    floor.run(rounds=12)
    late = [floor.of[task].split("/")[0] for task in floor.order[10:]]
    assert late[:10].count("bob") == 5


def test_weights_and_prices_count(floor):
    """Twice the weight, twice the tasks; tasks of three times the price, a third of them."""
    floor.executor("gpu-1")
    floor.worker()
    floor.tenant("team", weight=2)
    floor.queue("team", 400)
    floor.queue("solo", 400)
    floor.queue("costly", 400, quoted=3_000_000)
    counts = floor.run(rounds=100)
    assert counts["team/default"] == pytest.approx(60, abs=2)
    assert counts["solo/default"] == pytest.approx(30, abs=2)
    assert counts["costly/default"] == pytest.approx(10, abs=2)


def test_levels_get_six_three_one(floor):
    floor.executor("gpu-1", 16)
    floor.executor("gpu-2", 12)
    floor.worker()
    for level in ("critical", "default", "low"):
        for tenant in ("alice", "bob"):
            floor.queue(tenant, 1000, level)
    counts = floor.run(rounds=25)
    by_level = {
        level: sum(n for name, n in counts.items() if name.endswith(level))
        for level in ("critical", "default", "low")
    }
    assert sum(by_level.values()) == 700
    assert by_level["critical"] == pytest.approx(420, rel=0.1)
    assert by_level["default"] == pytest.approx(210, rel=0.1)
    assert by_level["low"] == pytest.approx(70, rel=0.1)


def test_no_level_starves_at_any_executor(floor):
    """A fast executor full of low work must not use up what low is owed at a slow one."""
    floor.executor("fast", 20, tags=["a"])
    floor.executor("slow", 1, tags=["b"])
    floor.worker()
    floor.queue("alice", 700, "low", tags=("a",))
    floor.queue("alice", 700, "default", tags=("a",))
    floor.queue("bob", 300, "critical", tags=("b",))
    waiting = set(floor.queue("carol", 300, "low", tags=("b",)))
    floor.run(rounds=32)
    assert len(waiting & set(floor.order)) == pytest.approx(4, abs=1)


def test_a_level_back_from_idle_gets_no_credit_for_its_absence(floor):
    floor.executor("gpu-1")
    floor.worker()
    floor.queue("alice", 100, "critical")
    floor.run(rounds=30)
    floor.queue("bob", 100, "low")
    counts = floor.run(rounds=42)
    assert counts["bob/low"] == pytest.approx(6, abs=1)


def test_a_full_executor_never_idles_another(floor):
    """Everything that needs gpu-2 waits; what gpu-1 can do goes on, whoever stands before it in line."""
    floor.executor("gpu-1", 2)
    floor.executor("gpu-2", 1)
    floor.worker()
    floor.queue("alice", 600, "critical", only=("gpu-2",))
    floor.queue("bob", 40, "low", only=("gpu-1",))
    floor.admit()
    assert floor.counts(floor.active) == {"alice/critical": 1, "bob/low": 2}
    stuck = floor.active[:]
    for _ in range(10):
        done = [task for task in floor.active if floor.of[task] == "bob/low"]
        floor.active = done + [task for task in floor.active if task not in done]
        floor.finish(len(done))
        assert len(floor.admit()) == 2
    assert set(stuck) & set(floor.active)


def test_families_that_share_executors_share_them_fairly(floor):
    """sd and comfyui run on the same servers: neither goes before the other as a whole."""
    floor.executor("gpu-1", 2, "comfyui")
    floor.worker("sd", "comfyui")
    floor.queue("alice", 200, family="comfyui", provider="comfyui", model="comfy-x")
    floor.queue("bob", 200, family="sd", provider="comfyui", model="sdxl")
    counts = floor.run(rounds=40)
    assert counts["alice/default"] == pytest.approx(40, abs=6)


def test_a_loaded_model_goes_first_but_passes_nobody_by_more_than_eight_times(floor):
    floor.executor("gpu-1", 1, "comfyui", loaded_model="sdxl")
    floor.worker("sd")
    floor.queue("alice", 100, family="sd", provider="comfyui", model="sdxl")
    floor.queue("bob", 100, family="sd", provider="comfyui", model="flux")
    floor.run(rounds=60)
    names = "".join(floor.of[task][0] for task in floor.order)
    assert max(len(list(run)) for _, run in groupby(names)) <= 1 + 8 + 1
    assert len(list(groupby(names))) <= 8


def test_limits_are_never_exceeded(floor):
    """Executor, user, API key and vendor key each have their limit, and all slots in reach are used."""
    keys = [
        Credential.objects.create(
            provider="openai", name=f"k{n}", ciphertext="", last4="", max_concurrency=3
        )
        for n in (1, 2)
    ]
    floor.executor("openai-1", 20, "openai").credentials.set(keys)
    floor.executor("sandbox-1", 12)
    fleet.forget()
    floor.worker("sandbox", "openai")
    user = people.get_or_create_user("limited")
    key, _ = people.create_key(user, name="narrow", scopes=["tasks"], max_concurrency=2)
    floor.tenant("capped", max_concurrency=4)
    floor.queue("capped", 50)
    floor.queue("limited", 300, key=key.id)
    floor.queue("limited", 5)
    floor.queue("vendor", 50, family="openai", provider="openai", model="gpt-5")
    floor.admit()
    assert floor.admit() == []
    assert floor.counts(floor.active) == {
        "capped/default": 4,
        "limited/default": 2 + 5,
        "vendor/default": 6,
    }
    by_key = Attempt.objects.filter(executor="openai-1").values_list("credential_id", flat=True)
    assert Counter(by_key) == {keys[0].id: 3, keys[1].id: 3}
    floor.queue("other", 50)
    assert len(floor.admit()) == 1
    assert Attempt.objects.filter(executor="sandbox-1", slot=True).count() == 12


def test_everybody_has_slots_in_proportion(floor):
    for name, slots in (("small", 2), ("large", 6)):
        floor.executor(name, slots)
    floor.worker()
    floor.queue("alice", 4)
    floor.admit()
    assert Attempt.objects.filter(executor="large").count() == 3


def test_ties_go_by_weight(floor):
    floor.executor("one", 1, weight=1)
    floor.executor("three", 1, weight=3)
    floor.worker()
    for _ in range(40):
        floor.queue("alice", 1)
        floor.run(rounds=1)
    assert Attempt.objects.filter(executor="three").count() == 30


def test_a_preferred_executor_gets_it_while_it_has_room(floor):
    floor.executor("gpu-1", 2)
    floor.executor("gpu-2", 2)
    floor.worker()
    floor.queue("alice", 3, prefer=("gpu-2",))
    floor.admit()
    assert Attempt.objects.filter(executor="gpu-2").count() == 2


def test_threads_are_not_promised_twice(floor):
    """A little is published ahead; while another family waits, one takes at most 80 % of the threads."""
    floor.executor("sandbox-1", 100)
    floor.executor("gemini-1", 100, "gemini")
    floor.worker("sandbox", "gemini", threads=20)
    floor.queue("alice", 100)
    floor.queue("bob", 100, family="gemini", provider="gemini", model="gemini-2.5-flash")
    floor.admit()
    counts = floor.counts(floor.active)
    assert sum(counts.values()) == 20 + 5
    assert max(counts.values()) <= 16 + 5


def test_nobody_is_admitted_without_a_worker(floor):
    floor.executor("sandbox-1", 10)
    worker = floor.worker("gemini")
    floor.queue("alice", 3)
    assert floor.admit() == []
    Worker.objects.filter(pk=worker.pk).update(queues=["sandbox"])
    assert len(floor.admit()) == 3


def test_paused_families_wait_and_an_own_word_counts_more(floor):
    floor.executor("sandbox-1", 10)
    floor.executor("gemini-1", 10, "gemini")
    floor.worker("sandbox", "gemini")
    floor.queue("alice", 2)
    floor.queue("bob", 2, family="gemini", provider="gemini", model="gemini-2.5-flash")
    states.set_state("*", states.PAUSED)
    assert floor.admit() == []
    states.set_state("gemini", states.ACTIVE)
    assert floor.counts(floor.admit()) == {"bob/default": 2}
    states.set_state("*", states.ACTIVE)
    assert floor.counts(floor.admit()) == {"alice/default": 2}


def test_one_task_at_a_time_tries_an_executor_whose_cooldown_is_over(floor):
    resting = floor.executor("gpu-1", 5)
    floor.worker()
    Cooldown.objects.create(
        executor=resting, model="", reason="overloaded", until="2020-01-01T00:00:00Z"
    )
    fleet.forget()
    floor.queue("alice", 5)
    assert len(floor.admit()) == 1
    assert floor.admit() == []
    Cooldown.objects.all().delete()
    fleet.forget()
    assert len(floor.admit()) == 4


def test_promoted_tasks_and_age_within_a_tenant(floor):
    floor.executor("gpu-1")
    floor.worker()
    first, second, third = floor.queue("alice", 3)
    Task.objects.filter(pk=third).update(rank=-1)
    floor.run(rounds=3)
    assert floor.order == [third, first, second]


def test_suspects_wait_for_the_quarantine_worker_alone(floor):
    floor.executor("gpu-1", 10)
    floor.worker()
    ids = floor.queue("alice", 40)
    Task.objects.filter(pk__in=ids[:35]).update(crashes=2)
    assert floor.admit() == ids[35:]
    Worker.objects.create(name="q", queues=["quarantine"], threads=1, free=1, quarantine=True)
    assert floor.admit() == ids[:1]
    assert floor.admit() == []


def test_the_verdict_that_led_to_the_choice_is_kept(floor):
    floor.executor("gpu-1", 1)
    floor.executor("gpu-2", 1, status="paused")
    floor.worker()
    floor.queue("alice", 1)
    floor.admit()
    [attempt] = Attempt.objects.all()
    assert [(v["executor"], v["reason"]) for v in attempt.verdicts or ()] == [
        ("gpu-1", "eligible"),
        ("gpu-2", "paused"),
    ]


def test_a_new_leader_goes_on_where_the_old_one_stopped(floor):
    floor.executor("gpu-1", 16)
    floor.worker()
    for number in range(100):
        floor.queue(f"tenant-{number}", 5)
    floor.run(rounds=1)
    for memory in (admission.served, admission.loaded, admission.passed_by):
        memory.clear()
    floor.run(rounds=5)
    assert set(floor.counts(floor.order).values()) == {1}


def test_a_round_costs_in_lanes_not_in_the_backlog(floor, django_assert_num_queries):
    floor.executor("gpu-1")
    floor.worker()
    floor.queue("alice", 2)
    floor.queue("bob", 2)
    floor.run(rounds=1)
    with CaptureQueriesContext(connection) as few:
        floor.admit()
    floor.finish()
    floor.queue("alice", 2000)
    floor.queue("bob", 2000)
    with django_assert_num_queries(len(few)):
        floor.admit()


def test_nothing_waits_nothing_happens(floor):
    floor.executor("gpu-1")
    floor.worker()
    assert floor.admit() == []
    assert sql.fetch("SELECT count(*) FROM tasks_attempt") == [(0,)]


def test_a_task_that_was_rerouted_runs_where_its_route_leads(floor):
    """The first model of its list is gone: the second one is another provider's."""
    floor.executor("sandbox-1")
    floor.worker("sandbox")
    [task] = floor.queue("alice", 1)
    Task.objects.filter(pk=task).update(family="gemini", provider="gemini")
    floor.admit()
    attempt = Attempt.objects.get()
    assert [attempt.family, attempt.provider] == ["sandbox", "sandbox"]
    assert Task.objects.get().provider == "sandbox"
