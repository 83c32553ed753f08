"""Jobs that are at the vendor: ask how they are, look up those of unknown outcome. I/O worker.

A poll that goes wrong never fails a job: its next look was already set when it was rung for. Attempts whose task has
ended (*orphans*) are asked for too, for their cost only.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import structlog

from genpulse import sql
from genpulse.config import config
from genpulse.events.log import NewEvent, append
from providers import registry
from providers.base import Absent, Accepted, Call, Completed, Provider, ProviderError, Update
from tasks import failures, results, runner, work
from tasks.desk import Desk, Holding, desk
from tasks.models import Stage, Status
from tasks.moves import Accept, Canceled, GiveUp, Move, Resend, StillUnknown, error
from tasks.work import Key, Work

log = structlog.get_logger(__name__)
ORPHAN_SECONDS = 24 * 3600.0
NOTE = (
    "UPDATE tasks_attempt AS a SET progress = greatest(a.progress, new.progress), phase = new.phase,"  # noqa: S608
    " next_poll_at = CASE WHEN new.wait IS NULL THEN a.next_poll_at ELSE now() + make_interval(secs => new.wait) END FROM "
    + sql.unnest(
        {"task_id": "uuid", "number": "int", "progress": "int", "phase": "text", "wait": "float8"}
    )
    + " WHERE a.task_id = new.task_id AND a.number = new.number AND a.stage = 'accepted'"
)
CLOSE_ORPHAN = """
UPDATE tasks_attempt SET stage = 'closed', next_poll_at = NULL, late = true, finished_at = now(),
  vendor_cost = coalesce(%s, vendor_cost) WHERE task_id = %s AND number = %s AND stage = 'accepted'
"""
TAKEN = "SELECT 1 FROM tasks_attempt WHERE executor_id = %s AND external_id = %s AND task_id <> %s LIMIT 1"
SENT_BEFORE = (
    "SELECT count(*) FROM tasks_attempt WHERE task_id = %s AND number < %s AND possible_cost"
)


def poll(keys: Sequence[Key]) -> str:
    """One poll job: attempts of one executor and credential."""
    at = desk()
    found = at.recorder.ask(lambda: work.load(keys)).result(runner.RECORD_PATIENCE)
    waiting = [one for one in found.values() if one.stage == Stage.ACCEPTED]
    for one in waiting:
        if one.late and one.age > ORPHAN_SECONDS:
            close_orphan(at, one, None)
    if not waiting:
        return "refused"
    provider = registry.get(waiting[0].provider)
    with ExitStack() as stack:
        calls = {one.key: stack.enter_context(calling(one, at)) for one in waiting}
        ask = [one for one in waiting if not stopped(at, provider, one, calls[one.key])]
        if ask:
            learn(at, provider, ask, calls)
    return "done"


def calling(one: Work, at: Desk) -> Any:
    """A short call; the deadline of the task itself is the sweep's affair."""
    return runner.calling(one, Holding(one, sent=True), at, seconds=config.poll_max)


def stopped(at: Desk, provider: Provider, one: Work, call: Call) -> bool:
    """Cancel or time-out: try to stop the vendor's job and end the task; True when there is nothing left to ask."""
    if not is_over(one):
        return False
    outcome = stop_vendor(provider, call)
    if outcome == "too_late":
        return False  # if it has just finished, its result is there to be read
    at.recorder.record(let_go(one, late=outcome != "canceled"))
    return True


def is_over(one: Work) -> bool:
    """Nobody waits for its result any more, and the task has not ended yet."""
    return not one.late and bool(one.cancel_requested or one.overdue)


def let_go(one: Work, *, late: bool) -> Move:
    """The end of a task nobody waits for; `late`: the vendor goes on, and is watched for the cost."""
    if one.cancel_requested:
        return Canceled(**one.ids, late=late)
    return GiveUp(**one.ids, shown=runner.run_timeout(one), late=late, possible_cost=late)


def stop_vendor(provider: Provider, call: Call) -> str:
    try:
        return provider.cancel(call)
    except ProviderError:
        return "unsupported"
    except Exception:
        log.exception("adapter.cancel", provider=provider.name)
        return "unsupported"


def learn(at: Desk, provider: Provider, ask: Sequence[Work], calls: dict[Key, Call]) -> None:
    """Ask the vendor and record what it says; what it does not mention is asked again later."""
    by_call = {id(calls[one.key]): one for one in ask}
    working: list[tuple[Any, ...]] = []
    for update in asked(provider, [calls[one.key] for one in ask]):
        one = by_call.get(id(update.call))
        if one is None:
            continue
        if update.state == "working" and is_over(one):
            at.recorder.record(let_go(one, late=True))
        elif update.state == "working":
            percent = min(int((update.progress or 0) * 100), 99)
            working.append((*one.key, percent, update.phase or "", update.poll_after))
            update.call.emit.progress(update.progress or 0, phase=update.phase)
        elif one.late:
            close_orphan(at, one, update.state)
        else:
            finished(at, one, update.state)
    if working:
        at.recorder.ask(lambda: sql.execute(NOTE, sql.columns(working)))


def asked(provider: Provider, calls: Sequence[Call]) -> Iterable[Update]:
    try:
        yield from provider.poll(calls)
    except ProviderError as problem:
        log.info("poll.error", provider=provider.name, kind=problem.kind, code=problem.code)
    except Exception:
        log.exception("adapter.poll", provider=provider.name)


def finished(at: Desk, one: Work, state: Completed | ProviderError) -> None:
    if isinstance(state, Completed):
        runner.complete(at, one, state)
        return
    fault = failures.fault_of(state, one, delta_sent=False, sent=True)
    at.recorder.record(failures.move_for(one, fault))


def close_orphan(at: Desk, one: Work, state: Completed | ProviderError | None) -> None:
    """Its cost is booked for the operator; nobody is charged and nothing is stored."""

    def book() -> None:
        cost = None
        if isinstance(state, Completed):
            cost = results.vendor_cost(one, state, results.usage_of(state))
        sql.execute(CLOSE_ORPHAN, [cost, one.task_id, one.attempt])

    at.recorder.ask(book).result(runner.RECORD_PATIENCE)


def find(task_id: UUID, attempt: int) -> str:
    """One find job: did the vendor take the submit nobody knows the outcome of?"""
    at = desk()
    key = (task_id, attempt)
    one = at.recorder.ask(lambda: work.load([key])).result(runner.RECORD_PATIENCE).get(key)
    if one is None or one.replaced or one.status != Status.VERIFYING:
        return "refused"
    provider = registry.get(one.provider)
    with calling(one, at) as call:
        answer = looked_up(provider, call)
    if isinstance(answer, Completed):
        runner.complete(at, one, answer)
        return "completed"
    moved = at.recorder.record(conclusion(one, answer, provider.looks))
    moved.result(runner.RECORD_PATIENCE)
    return "found" if answer else "unknown"


def looked_up(provider: Provider, call: Call) -> Accepted | Completed | Absent | None:
    try:
        return provider.find(call)
    except ProviderError as problem:
        log.info("find.error", provider=provider.name, kind=problem.kind, code=problem.code)
    except Exception:
        log.exception("adapter.find", provider=provider.name)
    return None


def conclusion(
    one: Work, answer: Accepted | Absent | None, looks: int
) -> Move | Callable[[], Move]:
    if isinstance(answer, Accepted):
        return lambda: adopted(one, answer)
    if one.cancel_requested:
        return Canceled(**one.ids, possible_cost=answer is None)
    if isinstance(answer, Absent):
        return Resend(**one.ids) if one.finds + 1 >= looks else look_again(one)
    return lambda: undecided(one)


def adopted(one: Work, answer: Accepted) -> Move:
    """The job that was found is ours, unless another task has it: look-ups by content can meet a twin."""
    if sql.fetch(TAKEN, [one.executor_id, answer.external_id, one.task_id]):
        return undecided(one)
    wait = answer.poll_after if answer.poll_after is not None else config.poll_min
    return Accept(**one.ids, external_id=answer.external_id, poll_after=wait)


def patience(one: Work) -> float:
    """Seconds after which nobody looks any more."""
    return float(one.config.get("verify_ttl", config.verify_ttl))


def look_again(one: Work) -> Move:
    finds = one.finds + 1
    delay = config.find_delays[min(finds, len(config.find_delays) - 1)]
    left = max(patience(one) - one.age, 0.05)
    return StillUnknown(**one.ids, finds=finds, next_in=min(delay, left))


def undecided(one: Work) -> Move:
    """No look-up can tell: wait for the next one, or what the operator chose for this executor."""
    choice = one.config.get("after_unknown", "verify")
    if choice == "retry_once" and not sql.fetch(SENT_BEFORE, [one.task_id, one.attempt])[0][0]:
        return Resend(**one.ids, possible_cost=True)
    if choice == "verify" and one.age < patience(one):
        return look_again(one)
    append(
        [
            NewEvent(
                account=None,
                type="audit.outcome_unknown",
                data={
                    "task_id": str(one.task_id),
                    "attempt": one.attempt,
                    "executor": one.executor,
                },
            )
        ]
    )
    message = "It could not be found out whether the provider accepted it."
    shown = error("unknown_outcome", "outcome_unknown", message)
    return GiveUp(**one.ids, shown=shown, possible_cost=True)
