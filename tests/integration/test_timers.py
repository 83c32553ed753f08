"""The sweeps ring again for what nobody takes, and ever more rarely, so that a jam is not fed with copies."""

from datetime import timedelta
from uuid import UUID

import pytest
import redis
from django.contrib.postgres.functions import TransactionNow as Now

from genpulse.config import config
from tasks import publish, timers
from tasks.lifecycle import apply
from tasks.models import Attempt, Priority
from tasks.moves import Admit, Done, Sending, Start, Unknown
from tasks.policy import Fault
from tests.integration.floor import Floor, rich, submit

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]


@pytest.fixture
def attempt(monkeypatch):
    """Admitted, and its message is nowhere. Rung for again after 5 s at first."""
    monkeypatch.setattr(config, "republish_seconds", 5)
    executor = Floor().executor("e")
    task = UUID(submit(rich("alice"))["id"])
    apply([Admit(task_id=task, executor_id=executor.id, executor=executor.name)])
    return Attempt.objects.get(task_id=task)


def rings(sweep, attempt, **ages):
    """Whether `sweep` rings when these moments of the attempt lie so many seconds back."""
    then = {name: Now() - timedelta(seconds=age) for name, age in ages.items()}
    Attempt.objects.filter(pk=attempt.pk).update(**then)
    return bool(sweep())


@pytest.mark.parametrize(
    ("admitted", "rung", "again"),
    [(3, 3, False), (6, 6, True), (12, 6, False), (13, 7, True), (500, 25, False), (500, 31, True)],
)
def test_a_job_nobody_claims(attempt, admitted, rung, again):
    assert rings(timers.republish, attempt, created_at=admitted, published_at=rung) == again


@pytest.mark.parametrize(("done", "wait"), [(3, 5), (20, 20), (900, 30)])
def test_a_result_nobody_stores(attempt, done, wait):
    task = attempt.task_id
    apply([Start(task_id=task, attempt=1, worker="w")])
    apply([Done(task_id=task, attempt=1, result={})])
    assert rings(timers.due, attempt, next_poll_at=0, finished_at=done)
    next_ring = Now() + timedelta(seconds=wait)  # one transaction: now() stands still
    assert Attempt.objects.filter(pk=attempt.pk, next_poll_at=next_ring).exists()


def test_a_look_up_nobody_makes_waits_longest_and_stands_in_line(attempt):
    """Many unknown outcomes must not keep a worker from what is submitted."""
    task = attempt.task_id
    apply([Start(task_id=task, attempt=1, worker="w"), Sending(task_id=task, attempt=1)])
    apply([Unknown(task_id=task, attempt=1, fault=Fault(kind="unknown_outcome", message="cut"))])
    assert rings(timers.due, attempt, next_poll_at=0)
    next_ring = Now() + timedelta(seconds=30)
    assert Attempt.objects.filter(pk=attempt.pk, next_poll_at=next_ring).exists()
    assert publish.find(task, 1, "sandbox").priority == Priority.DEFAULT


def test_chores_do_not_stand_behind_results_that_wait_to_be_stored():
    publish.publish([publish.fetch(UUID(int=n), 1) for n in range(5)])
    assert publish.publish([publish.chore("probes")])
    with redis.Redis.from_url(config.redis_url) as broker:
        lengths = [broker.llen(f"gp:{publish.MEDIA}{step}") for step in ("", "\x06\x163")]
    assert lengths == [1, 5]  # the first list is served first
