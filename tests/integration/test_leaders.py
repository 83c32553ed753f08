"""Several orchestrators: one admits, the others wait for its lease to run out."""

import pytest
from django.db import transaction

from genpulse import sql
from tasks import leader
from tasks.models import OrchestratorLease, Task
from tasks.orchestrator import Orchestrator
from tests.integration.floor import Floor

pytestmark = pytest.mark.django_db
SLEEPS = "UPDATE tasks_orchestratorlease SET until = until - interval '10 seconds'"


@pytest.fixture
def floor(db):
    sql.execute(leader.SEED)
    floor = Floor()
    floor.executor("gpu-1", 10)
    floor.worker()
    return floor


def test_a_leader_that_sleeps_ten_seconds_and_wakes_admits_nothing(floor):
    first, second = Orchestrator(), Orchestrator()
    floor.queue("alice", 1)
    assert len(first.round()) == 1
    floor.queue("alice", 2)
    assert second.round() == []

    sql.execute(SLEEPS)
    assert len(second.round()) == 2
    epoch = OrchestratorLease.objects.get().epoch
    floor.queue("alice", 3)
    assert first.round() == []
    assert [first.leading, second.leading] == [False, True]
    assert Task.objects.filter(status="queued").count() == 3
    assert len(second.round()) == 3
    assert OrchestratorLease.objects.get().epoch == epoch


def test_a_leader_that_slept_and_nobody_took_over_begins_anew(floor):
    only = Orchestrator()
    floor.queue("alice", 1)
    assert len(only.round()) == 1
    before = OrchestratorLease.objects.get().epoch
    sql.execute(SLEEPS)
    floor.queue("alice", 1)
    assert len(only.round()) == 1
    assert OrchestratorLease.objects.get().epoch == before


@pytest.mark.django_db(transaction=True)
def test_a_leader_that_freezes_within_a_round_is_cut_off_by_the_database():
    """Its row would be locked against everybody else as long as its connection lives."""
    sql.execute(leader.SEED)
    with transaction.atomic():
        sql.execute(SLEEPS)  # nobody else can have it: its row is ours until the end
        assert Orchestrator().lease.hold()
        for limit in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            assert sql.fetch(f"SHOW {limit}") == [(leader.STUCK,)]
    [(limit,)] = sql.fetch("SHOW idle_in_transaction_session_timeout")
    assert limit == "15s"
