"""The state machine as a model: every reachable state, by every move, in any order.

The search is exhaustive for one task, two workers, two attempts in flight and a vendor; it proves that no order of
claims, crashes, cancels, look-ups and late answers breaks what is promised about money and fencing.
"""

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from tasks.models import ACTIVE, TERMINAL, WAITING, Stage, Status
from tasks.moves import (
    Accept,
    Admit,
    AttemptFailed,
    Block,
    Cancel,
    Canceled,
    Done,
    Expire,
    GiveUp,
    HandBack,
    LeaseLost,
    Promote,
    Reroute,
    Resend,
    Sending,
    Settle,
    Start,
    StillUnknown,
    StorageDown,
    Succeed,
    Unblock,
    Unknown,
    error,
)
from tasks.policy import Fault
from tasks.state import Step, TaskState

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
TASK = UUID(int=1)
GPU = UUID(int=7)
FIRST = TaskState(id=TASK, account_id=UUID(int=2), hold_id=UUID(int=3), quoted=5, max_attempts=2)
LIMIT = 3  # attempts the search goes to


def moves(task: TaskState):
    """Everything anybody could say about the task: the present attempt, and the one before it (a zombie)."""
    yield Admit(task_id=TASK, executor_id=GPU, executor="gpu")
    yield Block(task_id=TASK, reason="no_executor", detail="none")
    yield Unblock(task_id=TASK)
    yield Promote(task_id=TASK, by="alice", rank=-1)
    yield Reroute(task_id=TASK, route_id=2, model="b")
    yield Cancel(task_id=TASK, by="alice")
    yield Expire(task_id=TASK, code="blocked_too_long", message="late")
    yield Expire(task_id=TASK, code="start_deadline", message="late")
    yield Settle(task_id=TASK, success=True, output={}, charge=9)
    yield Settle(task_id=TASK, success=False, output={})
    for number in {task.attempt, task.attempt - 1} - {-1}:
        yield from attempt_moves(number)


def attempt_moves(number):
    ids = {"task_id": TASK, "attempt": number}
    shown = error("transient", "run_timeout", "late")
    yield Start(**ids, worker="w")
    yield Sending(**ids)
    yield Accept(**ids, external_id="job", poll_after=1)
    yield Done(**ids, result={"outputs": []}, vendor_cost=1)
    yield StorageDown(**ids, retry_in=1)
    yield Succeed(**ids, output={}, usage={}, charge=9)
    yield HandBack(**ids)
    for stage in (Stage.CLAIMED, Stage.SENDING):
        for alone in (False, True):
            yield LeaseLost(**ids, stage=stage, alone=alone, resend=alone)
    for kind in ("transient", "rate_limited", "not_available", "bad_input", "unknown_outcome"):
        yield AttemptFailed(**ids, fault=Fault(kind=kind, message="no"), failover_route=2)
    yield Unknown(**ids, fault=Fault(kind="unknown_outcome", message="?"))
    yield StillUnknown(**ids, finds=1, next_in=1)
    yield Resend(**ids)
    yield GiveUp(**ids, shown=shown)
    yield GiveUp(**ids, shown=shown, late=True)
    yield Canceled(**ids)
    yield Canceled(**ids, late=True)


def check(before: TaskState, move, step: Step) -> None:
    after = step.task
    assert before.status not in TERMINAL, f"{move} moved an ended task"
    attempt = getattr(move, "attempt", before.attempt)
    assert attempt == before.attempt, f"{move} spoke for another attempt"
    assert after.attempt - before.attempt == (1 if step.new_attempt else 0)
    assert (after.finished_at is not None) == (after.status in TERMINAL)
    assert 0 <= after.charged <= after.quoted
    assert after.charged == 0 or after.status == Status.SUCCEEDED
    assert after.tries >= before.tries
    if after.status in WAITING:
        assert not after.cancel_requested, "a waiting task is canceled at once, never asked to stop"
        assert after.run_deadline is None
    if before.status in ACTIVE and after.status not in ACTIVE:
        assert step.attempt, f"{move} left the attempt of an ended run open"
        assert not step.attempt.slot, f"{move} kept a slot"
    if after.status in TERMINAL:
        kinds = [kind for kind, _ in step.events]
        assert kinds[-1] == f"task.{after.status.value}"


def key(task: TaskState):
    """What the future of a task depends on."""
    return (
        task.status,
        task.attempt,
        task.tries,
        task.here,
        min(task.crashes, 3),
        task.alone_crashes,
        task.ready,
        task.cancel_requested,
        task.phase == "storing",
        task.started_at is None,
        task.waited > 0,
    )


def explore():
    """Breadth first over everything reachable: the states, and the statuses each status can become."""
    seen = {key(FIRST)}
    queue = deque([FIRST])
    edges: set[tuple[Status, Status]] = set()
    refused = 0
    while queue:
        task = queue.popleft()
        for move in moves(task):
            step = move.step(task, NOW)
            if step is None:
                refused += 1
                continue
            check(task, move, step)
            edges.add((task.status, step.task.status))
            # Time passes for whatever waits for it.
            after = replace(step.task, ready=True, due_at=None) if step.task.due_at else step.task
            if key(after) not in seen and after.attempt <= LIMIT:
                seen.add(key(after))
                queue.append(after)
    return seen, edges, refused


def test_no_order_of_moves_breaks_a_promise():
    seen, edges, refused = explore()
    assert len(seen) > 500
    assert refused > 1000, "stale moves were tried and refused"
    reached = {status for _, status in edges}
    assert reached == set(Status)
    allowed = {
        Status.QUEUED: {"admitted", "blocked", "canceled", "expired"},
        Status.BLOCKED: {"queued", "canceled", "expired"},
        Status.ADMITTED: {"running", "queued", "canceled", "expired", "failed"},
        Status.RUNNING: {"awaiting", "verifying", "queued"},
        Status.AWAITING: {"verifying", "queued"},
        Status.VERIFYING: {"awaiting", "queued"},
    }
    ends = {status.value for status in TERMINAL - {Status.EXPIRED}}
    for before, after in edges:
        ok = allowed[before] | {before.value, "succeeded", "failed"}
        if before in {Status.RUNNING, Status.AWAITING, Status.VERIFYING}:
            ok |= ends
        assert after.value in ok, f"{before} -> {after}"


def test_every_waiting_and_active_state_can_end():
    """Liveness: from every reachable state some sequence leads to an end."""
    seen, _, _ = explore()
    stuck = [state for state in seen if state[0] not in TERMINAL and not can_end(state)]
    assert not stuck


def can_end(state) -> bool:
    status, attempt, *_ = state
    task = replace(FIRST, status=status, attempt=attempt)
    return any(
        step.task.status in TERMINAL
        for move in moves(task)
        if (step := move.step(task, NOW)) is not None
    )


def after(move, task) -> Step:
    step: Step | None = move.step(task, NOW)
    assert step is not None
    return step


def test_only_one_claim_of_an_attempt_wins():
    admitted = after(Admit(task_id=TASK, executor_id=GPU, executor="gpu"), FIRST)
    running = after(Start(task_id=TASK, attempt=1, worker="a"), admitted.task)
    assert Start(task_id=TASK, attempt=1, worker="b").step(running.task, NOW) is None


def test_a_paid_request_that_may_have_left_is_never_sent_again_blindly():
    running = replace(FIRST, status=Status.RUNNING, attempt=1, started_at=NOW)
    lost = LeaseLost(task_id=TASK, attempt=1, stage=Stage.SENDING, alone=False, resend=False)
    assert after(lost, running).task.status == Status.VERIFYING
    again = replace(lost, resend=True)
    assert after(again, running).task.status == Status.QUEUED


def test_three_deaths_alone_make_it_poison():
    task = replace(FIRST, status=Status.RUNNING, attempt=1, started_at=NOW, crashes=2)
    died = LeaseLost(task_id=TASK, attempt=1, stage=Stage.CLAIMED, alone=True, resend=True)
    for _ in range(2):
        step = after(died, task)
        assert step.task.status == Status.QUEUED
        task = replace(step.task, status=Status.RUNNING)
    step = after(died, task)
    assert (step.error or {})["code"] == "poison_task"
    assert step.task.tries == 0


@given(st.lists(st.integers(0, 40), max_size=30))
def test_any_walk_keeps_the_promises(choices):
    task = FIRST
    for choice in choices:
        options = list(moves(task))
        step = options[choice % len(options)].step(task, NOW)
        if step:
            check(task, options[choice % len(options)], step)
            task = step.task
