"""Who works when more requests come than can work at once."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from django.http import HttpRequest
from django.test import RequestFactory

from genpulse.errors import Unavailable
from genpulse.http import turns
from genpulse.http.turns import Turns, turn


async def queued(turns: Turns, *names: str) -> list[asyncio.Task[None]]:
    """They stand in line, in this order."""
    tasks = [asyncio.create_task(turns.take(name, None)) for name in names]
    await asyncio.sleep(0)
    return tasks


def test_clients_take_turns_with_their_requests():
    async def story():
        turns = Turns(1)
        served: list[int] = []
        await turns.take("alice", None)
        waiting = await queued(turns, *"AAABCB")
        for _ in waiting:
            turns.give_back("AAABCB"[served[-1]] if served else "alice")
            await asyncio.sleep(0)
            [now] = [n for n, task in enumerate(waiting) if task.done() and n not in served]
            served.append(now)
        return "".join("AAABCB"[n] for n in served)

    assert asyncio.run(story()) == "ABCABA"


def test_who_has_waited_too_long_or_gone_away_gets_no_turn():
    async def story():
        turns = Turns(1)
        await turns.take("alice", None)
        with pytest.raises(TimeoutError):
            await turns.take("bob", 0.01)
        [gone, patient] = await queued(turns, "bob", "bob")
        gone.cancel()
        await asyncio.sleep(0)
        turns.give_back("alice")
        await patient
        [late] = await queued(turns, "bob")
        turns.give_back("bob")
        late.cancel()  # it has been dealt a turn, and does not know yet
        with pytest.raises(asyncio.CancelledError):
            await late
        await turns.take("alice", 0)

    asyncio.run(story())


def test_no_client_works_in_all_places():
    async def story():
        turns = Turns(3)
        greedy = await queued(turns, *"AAAA")
        assert [task.done() for task in greedy] == [True, True, False, False]
        await turns.take("B", 0)
        with pytest.raises(TimeoutError):
            await turns.take("C", 0.01)
        turns.give_back("B")
        await asyncio.sleep(0)
        assert not greedy[2].done()
        turns.give_back("A")
        await greedy[2]
        assert not greedy[3].done()

    asyncio.run(story())


def asking(name: str, kind: str = "application/json") -> HttpRequest:
    return RequestFactory().post("/", b"x", kind, headers={"X-API-Key": name})


async def all_taken(stack: AsyncExitStack, kind: str, places: int) -> None:
    """The next one is told when to come again."""
    for number in range(places):
        await stack.enter_async_context(turn(asking(f"alice-{number}", kind), 1))
    with pytest.raises(Unavailable) as refused:
        async with turn(asking("bob", kind), 0.01):
            pass
    assert refused.value.extra == {"retry_after": 5}


def test_those_who_carry_files_have_room_of_their_own():
    async def story():
        async with AsyncExitStack() as stack:
            await all_taken(stack, "application/json", turns.AT_ONCE)
            await all_taken(stack, "multipart/form-data; boundary=x", turns.CARRIERS)
        async with turn(asking("bob"), 1), turn(asking("bob", "image/png"), 1):
            pass

    asyncio.run(story())
