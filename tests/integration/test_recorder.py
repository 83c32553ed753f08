"""The recorder of a worker: what it writes together, and what becomes of a group that cannot be written."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from django.db import OperationalError, transaction

from genpulse import sql
from tasks import leader, recorder
from tasks.lifecycle import Along, Applied, apply
from tasks.models import DeadLetter, Task
from tasks.moves import HandBack, Move, Start
from tasks.orchestrator import Orchestrator
from tests.integration.floor import Floor

pytestmark = pytest.mark.django_db(transaction=True)
STUCK = "SET LOCAL idle_in_transaction_session_timeout = '20ms'"


@pytest.fixture
def claims(transactional_db: None) -> list[Start]:
    """Three tasks that were admitted and wait to be claimed."""
    sql.execute(leader.SEED)
    floor = Floor()
    floor.executor("gpu-1", 10)
    floor.worker()
    floor.queue("alice", 3)
    admitted = [done.task for done in Orchestrator().round() if done.task]
    return [Start(task_id=task.id, attempt=task.attempt, worker="w") for task in admitted]


@pytest.fixture
def desk() -> Iterator[recorder.Recorder]:
    made = recorder.Recorder()
    yield made
    made.close()


def failing(monkeypatch: pytest.MonkeyPatch, fail: Any, times: int) -> list[int]:
    """`apply` fails so often before it works; the sizes of the groups it was given."""
    sizes: list[int] = []

    def unlucky(moves: Sequence[Move], along: Along | None) -> list[Applied]:
        sizes.append(len(moves))
        if len(sizes) <= times:
            fail()
        return apply(moves, along)

    monkeypatch.setattr(recorder, "apply", unlucky)
    return sizes


def outcomes(desk: recorder.Recorder, moves: Sequence[Move]) -> list[bool]:
    return [future.result(30).ok for future in [desk.record(move) for move in moves]]


def stay_idle() -> None:
    """What the database does to whoever freezes inside a transaction."""
    with transaction.atomic():
        sql.execute(STUCK)
        time.sleep(0.2)
        sql.execute("SELECT 1")


def refuse() -> None:
    raise OperationalError("the database is starting up")


@pytest.mark.parametrize("fail", [stay_idle, refuse])
def test_a_session_that_was_ended_loses_no_move(claims, desk, monkeypatch, fail):
    failing(monkeypatch, fail, times=2)
    assert outcomes(desk, claims) == [True, True, True]
    assert Task.objects.filter(status="running").count() == 3
    assert not DeadLetter.objects.exists()


def test_a_move_that_cannot_be_written_takes_no_neighbour_along(claims, desk):
    def broken() -> Move:
        raise ValueError("it cannot be made")

    futures = [desk.record(one) for one in (claims[0], broken, *claims[1:])]
    assert [future.result(30).ok for future in (futures[0], *futures[2:])] == [True, True, True]
    with pytest.raises(ValueError, match="it cannot be made"):
        futures[1].result(30)
    assert DeadLetter.objects.get().source == "recorder"


def test_what_comes_together_is_written_together_and_in_order(claims, desk, monkeypatch):
    sizes = failing(monkeypatch, refuse, times=0)
    blocked = desk.ask(lambda: time.sleep(0.2))
    backs = [HandBack(task_id=one.task_id, attempt=one.attempt) for one in claims]
    assert outcomes(desk, [*claims, *backs, *claims]) == [True] * 6 + [False] * 3
    blocked.result(5)
    assert max(sizes) > 1
    assert Task.objects.filter(status="queued").count() == 3


def test_closing_writes_what_is_left(claims):
    closing = recorder.Recorder()
    futures = [closing.record(one) for one in claims]
    closing.close()
    assert all(future.done() for future in futures)
