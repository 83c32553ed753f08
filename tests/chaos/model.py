"""The whole machine as a model: E37. Two workers, their messages, a vendor that knows neither keys nor look-ups.

Every order of events is gone through, breadth first: messages that come twice, workers that die or freeze at each
point, leases that are judged lost while their worker only slept, cancels, polls and look-ups. The task itself is moved
by the product's own state machine.
"""

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from tasks.models import TERMINAL, Stage, Status
from tasks.moves import (
    Accept,
    Admit,
    AttemptFailed,
    Cancel,
    Canceled,
    Done,
    GiveUp,
    HandBack,
    LeaseLost,
    Move,
    Sending,
    Start,
    StillUnknown,
    Succeed,
    Unknown,
    error,
)
from tasks.policy import Fault
from tasks.state import Step, TaskState
from tasks.work import Ids
from tests.chaos.rig import Rig

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
TASK, GPU = UUID(int=1), UUID(int=7)
FIRST = TaskState(id=TASK, account_id=UUID(int=2), hold_id=UUID(int=3), quoted=5, max_attempts=3)
UNKNOWN = Fault(kind="unknown_outcome", message="?")
REFUSED = Fault(kind="transient", message="no")
NAMED = ("stage", "alone", "late", "resend")  # what else tells moves of one class apart
IDLE = (0, "idle")
_steps: dict[tuple[object, ...], Step | None] = {}
Hand = tuple[int, str]  # a worker's attempt, and how far it is by its own knowledge


@dataclass(frozen=True)
class World:
    """`stages`: of the attempts, first to last. `taken`: jobs the vendor works on or has done. `ends`: of the task."""

    task: TaskState = FIRST
    stages: tuple[Stage, ...] = ()
    workers: tuple[Hand, Hand] = (IDLE, IDLE)
    taken: int = 0
    ends: int = 0

    def key(self) -> tuple[object, ...]:
        """What the future depends on."""
        return (key(self.task), self.stages, self.workers, self.taken, self.ends)


def key(task: TaskState) -> tuple[object, ...]:
    return (
        *(task.status, task.attempt, task.tries, task.here, task.crashes, task.alone_crashes),
        *(task.ready, task.cancel_requested, task.started_at is None, task.charged),
    )


class Broken(AssertionError):
    """A promise does not hold in a world that can come about."""


def moved(world: World, move: Move) -> World | None:
    """The world after a move was applied; None when it was refused."""
    step = _step(world.task, move)
    if step is None:
        return None
    task = step.task
    if task.due_at:
        task = replace(task, ready=True, due_at=None)  # time passes for whatever waits for it
    ended = task.status in TERMINAL and world.task.status not in TERMINAL
    return replace(world, task=task, stages=_stages(world, step), ends=world.ends + ended)


def _step(task: TaskState, move: Move) -> Step | None:
    """Many worlds differ in more than the task; each task is moved once in each way."""
    seen = (key(task), type(move), *(getattr(move, name, None) for name in ("attempt", *NAMED)))
    if seen not in _steps:
        _steps[seen] = move.step(task, NOW)
    return _steps[seen]


def _stages(world: World, step: Step) -> tuple[Stage, ...]:
    stages = [*world.stages, Stage.ADMITTED] if step.new_attempt else list(world.stages)
    if step.attempt and step.attempt.stage:
        stages[step.attempt.number - 1] = step.attempt.stage
    return tuple(stages)


def worlds(world: World, attempts: int, resend: bool) -> Iterator[tuple[str, World | None]]:
    """Everything that can happen next, by name; None: it was tried and refused."""
    if world.task.attempt < attempts:
        yield "admit", moved(world, Admit(task_id=TASK, executor_id=GPU, executor="gpu"))
    yield "cancel", moved(world, Cancel(task_id=TASK, by="alice"))
    for number, stage in enumerate(world.stages, 1):
        yield from _judged(world, number, stage, resend)
    for index in range(2):
        for name, hand, after in _works(world, *world.workers[index]):
            if after is None:
                yield f"{name} fenced", None
            # What a worker does next follows from the answer it got: refused, it lets go.
            first, second = world.workers
            hands = (first, hand) if index else (hand, second)
            yield name, replace(after or world, workers=hands)


def _works(world: World, number: int, at: str) -> Iterator[tuple[str, Hand, World | None]]:
    """What a worker can do: (name, what it holds then, the world, None = fenced)."""
    ids = Ids(task_id=TASK, attempt=number)
    if at == "idle":
        for message in range(1, len(world.stages) + 1):  # any message, old or new, once more
            started = moved(world, Start(task_id=TASK, attempt=message, worker="w"))
            yield "claim", (message, "held") if started else IDLE, started
        return
    yield "die", IDLE, world
    if at == "held":
        sending = moved(world, Sending(**ids))
        sends = sending is not None and not sending.task.cancel_requested
        yield "announce", (number, "sending") if sends else IDLE, sending
        yield "hand back", IDLE, moved(world, HandBack(**ids))
    elif at == "sending":
        yield "vendor takes it", (number, "taken"), replace(world, taken=world.taken + 1)
        yield "vendor refuses", (number, "refused"), world
    elif at == "taken":
        accept = Accept(**ids, external_id="job", poll_after=1)
        yield "accepted", IDLE, moved(world, accept)
        yield "answered", IDLE, moved(world, Done(**ids, result={}))
        yield "answer lost", IDLE, moved(world, Unknown(**ids, fault=UNKNOWN))
    else:
        yield "refused", IDLE, moved(world, AttemptFailed(**ids, fault=REFUSED))


def _judged(
    world: World, number: int, stage: Stage, resend: bool
) -> Iterator[tuple[str, World | None]]:
    """What sweeps, polls and look-ups find, at any time; a worker that only sleeps is judged like a dead one."""
    ids = Ids(task_id=TASK, attempt=number)
    shown = error("unknown_outcome", "outcome_unknown", "?")
    if stage in {Stage.CLAIMED, Stage.SENDING} and world.task.status == Status.RUNNING:
        for alone in {False, world.task.suspect}:
            lost = LeaseLost(**ids, stage=stage, alone=alone, resend=resend)
            yield "lease lost", moved(world, lost)
    if stage == Stage.SENDING:
        yield "still unknown", moved(world, StillUnknown(**ids, finds=1, next_in=1))
        yield "given up", moved(world, GiveUp(**ids, shown=shown, possible_cost=True))
    if stage == Stage.ACCEPTED:
        yield "poll: done", moved(world, Done(**ids, result={}))
        failed = replace(
            world, taken=world.taken - 1
        )  # by the vendor's own word: it may be made again
        yield "poll: failed", moved(failed, AttemptFailed(**ids, fault=REFUSED))
        if world.task.cancel_requested:
            yield "vendor stopped", moved(world, Canceled(**ids))
            yield "vendor goes on", moved(world, Canceled(**ids, late=True))
    if stage == Stage.DONE:
        yield "stored", moved(world, Succeed(**ids, output={}, usage={}, charge=9))


def check(world: World) -> None:
    task = world.task
    if world.ends > 1:
        raise Broken(f"ended {world.ends} times: {world}")
    if (task.status in TERMINAL) != (world.ends == 1):
        raise Broken(f"its end was not counted: {world}")
    if task.charged and task.status != Status.SUCCEEDED:
        raise Broken(f"charged without a success: {world}")
    if world.taken > 1:
        raise Broken(f"submitted twice: {world}")


def explore(attempts: int, *, resend: bool = False) -> tuple[int, Counter[str]]:
    """The number of worlds with so many attempts, and how often each thing happened. Raises Broken.

    `resend`: what is wrong for this vendor, to see that the search finds it.
    """
    first = World()
    seen, queue = {first.key()}, deque([first])
    happened: Counter[str] = Counter()
    while queue:
        world = queue.popleft()
        for name, after in worlds(world, attempts, resend):
            happened[name if after else f"{name} refused"] += 1
            if after is None or after.key() in seen:
                continue
            check(after)
            seen.add(after.key())
            queue.append(after)
    return len(seen), happened


def every_order(rig: Rig) -> None:
    """E37: no order of events breaks a promise."""
    count, happened = explore(rig.some(8, 3))
    rig.counts.update(happened)
    rig.hit("worlds", count, rig.some(100_000))
    rig.hit("claims fenced", happened["claim fenced refused"])
    rig.hit("announcements fenced", happened["announce fenced refused"])
    rig.finish("E37 every order")
