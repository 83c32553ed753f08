"""How claims travel: several in a message, and on a worker no more than it has threads for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest
from celery.worker import state

from tasks import publish
from tasks.doorbells import Crew


def test_claims_of_one_queue_and_level_share_messages():
    claims = [(n, 1, "sandbox", 1) for n in range(publish.CLAIMS + 1)]
    messages = publish.submits([*claims, (77, 2, "sandbox", 0), (78, 1, "openai", 1)])
    sizes: dict[tuple[str, int], list[int]] = {(one.queue, one.priority): [] for one in messages}
    for one in messages:
        queue, level, claimed = one.args
        assert (queue, level) == (one.queue, one.priority)
        sizes[(queue, level)].append(len(claimed))
    assert sizes == {
        ("sandbox", 1): [publish.CLAIMS, 1],
        ("sandbox", 0): [1],
        ("openai", 1): [1],
    }


def test_suspects_never_share_a_message():
    messages = publish.submits([(n, 1, publish.QUARANTINE, 1) for n in range(3)])
    assert [len(one.args[2]) for one in messages] == [1, 1, 1]


@pytest.fixture
def crew() -> Iterator[Crew]:
    made = Crew()
    with ThreadPoolExecutor(4) as executor:
        made.pool = SimpleNamespace(num_processes=4, executor=executor)
        yield made


def test_what_has_no_thread_is_left_over(crew, monkeypatch):
    monkeypatch.setattr(state, "reserved_requests", {object()})  # the job that shares
    go, done = Event(), []

    def run(item: int) -> None:
        go.wait(10)
        done.append(item)

    assert crew.share([1, 2, 3, 4, 5], run) == [4, 5]
    assert crew.free == 0
    assert crew.share([6], run) == [6]
    go.set()
    crew.pool.executor.shutdown()
    assert sorted(done) == [1, 2, 3]
    assert crew.free == 3


def test_a_run_that_fails_gives_its_thread_back(crew):
    before = crew.free

    def fail(_: int) -> None:
        raise ValueError

    crew.share([1], fail)
    crew.pool.executor.shutdown()
    assert crew.free == before
