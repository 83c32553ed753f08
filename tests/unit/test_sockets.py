"""What waits for a slow reader, and which channel an event belongs to."""

import asyncio
from uuid import UUID

import pytest
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from genpulse.errors import MalformedHeader
from tasks.sockets import MOST_WAITING, Channel, Outbox, Subscriptions, fits
from tasks.waiting import preferred

ALICE, TASK, BATCH = UUID(int=1), UUID(int=2), UUID(int=3)


def test_messages_in_order():
    async def story():
        box = Outbox()
        box.put("one")
        box.put("two", transient=True)
        return [await box.take(), await box.take()]

    assert asyncio.run(story()) == ["one", "two"]


def test_what_is_not_stored_goes_first():
    async def story():
        box = Outbox()
        for number in range(MOST_WAITING):
            box.put(str(number), transient=number % 2 == 0)
        box.put("dropped", transient=True)
        box.put("stored")
        return [await box.take() for _ in range(MOST_WAITING // 2 + 1)], box.end

    taken, end = asyncio.run(story())
    assert taken == [*map(str, range(1, MOST_WAITING, 2)), "stored"]
    assert end is None


def test_then_the_reader():
    async def story():
        box = Outbox()
        for number in range(MOST_WAITING + 1):
            box.put(str(number))
        box.put("too late")
        await box.room()
        return await box.take(), box.end

    assert asyncio.run(story()) == (None, (4409, "reader too slow"))


def test_a_replay_waits_for_room():
    async def story():
        box = Outbox()
        for number in range(MOST_WAITING // 2 + 1):
            box.put(str(number))
        waiting = asyncio.create_task(box.room())
        await asyncio.sleep(0)
        before = waiting.done()
        await box.take()
        await asyncio.wait_for(waiting, 5)
        return before

    assert asyncio.run(story()) is False


def test_the_most_telling_channel():
    mine = Subscriptions()
    mine.add([Channel(name="user", owner=ALICE)], ["wallet.*"])
    mine.add([Channel(name=f"task:{TASK}", owner=ALICE, object_id=TASK)], ["task.succeeded"])
    mine.add([Channel(name=f"batch:{BATCH}", owner=ALICE, object_id=BATCH)], ["*"])
    mine.add([Channel(name="queue:sd", family="sd")], ["*"])
    task, batch = str(TASK), str(BATCH)
    assert mine.match(ALICE, "task.succeeded", task, batch) == f"task:{TASK}"
    assert mine.match(ALICE, "task.running", task, batch) == f"batch:{BATCH}"
    assert mine.match(ALICE, "wallet.held", task, None) == "user"
    assert mine.match(ALICE, "task.running", task, None) is None
    assert mine.match(UUID(int=9), "task.succeeded", task, batch) is None
    assert mine.match(None, "executor.down", None, None) is None
    assert mine.only(ALICE) is None
    assert mine.owners == {ALICE}
    assert mine.families == ["sd"]
    del mine.channels["user"]
    assert mine.only(ALICE) == frozenset({TASK, BATCH})


@pytest.mark.parametrize(
    ("pattern", "kind", "expected"),
    [
        ("*", "x.y", True),
        ("task.*", "task.running", True),
        ("task.*", "batch.failed", False),
        ("task.running", "task.running", True),
        ("task.run", "task.running", False),
    ],
)
def test_patterns(pattern, kind, expected):
    assert fits(kind, pattern) is expected


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None),
        ("respond-async", None),
        ("waiting=3", None),
        ("wait", 60),
        ("wait=7", 7),
        ('Wait = "7"; strict, handling=lenient', 7),
        ("handling=lenient, wait=60", 60),
    ],
)
def test_how_long_a_client_prefers_to_wait(header, seconds):
    assert preferred(asking(header)) == seconds


@pytest.mark.parametrize("header", ["wait=", "wait=0", "wait=61", "wait=-1", "wait=1.5", "wait=x"])
def test_a_wait_nobody_can_read(header):
    with pytest.raises(MalformedHeader):
        preferred(asking(header))


def asking(header: str) -> Request:
    return Request(APIRequestFactory().get("/", headers={"Prefer": header}))
