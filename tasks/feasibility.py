"""What can be said about a task before it exists: where it would stand, when it would end, who could run it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from genpulse.errors import FieldError, NotFeasible
from genpulse.http.parsing import render_time
from genpulse.money import to_credits
from tasks import insight
from tasks.admission import shown
from tasks.drafts import Draft
from tasks.insight import Eta
from tasks.standing import Place
from tasks.targets import drained


def estimate(draft: Draft, account: UUID, before: int = 0) -> tuple[Place, Eta | None]:
    """`before`: tasks of the same request that stand before it."""
    picture, level = insight.current(), int(draft.body.priority)
    own = insight.own_waiting(draft.route, level, account) + before
    place = picture.place(draft.route, level, account, own)
    return place, picture.eta(draft.route, place.position, fresh=True)


def check(made: Sequence[Draft], account: UUID) -> None:
    """Raises NotFeasible when nine of ten tasks like one of these would end after its `complete_by`."""
    for before, draft in enumerate(made):
        wanted = draft.body.complete_by
        if wanted is None:
            continue
        end = latest_end(draft, estimate(draft, account, before)[1])
        if end > wanted:
            raise NotFeasible(
                f"It would probably end at {render_time(end)}.",
                errors=[FieldError("complete_by", "too_small", "the estimated end is later")],
                finish_at=render_time(end),
            )


def latest_end(draft: Draft, eta: Eta | None) -> datetime:
    """The end that nine of ten keep; without history the earliest that is possible at all."""
    now = datetime.now(UTC)
    begin = max(now, draft.body.run_at or now)
    if eta is None:
        return begin
    return max(
        now + timedelta(seconds=eta.finish_p90),
        begin + timedelta(seconds=eta.finish_p90 - eta.start),
    )


def quoted(draft: Draft, account: UUID, before: int = 0) -> dict[str, Any]:
    """One item of a quote; `reasons` is for the sum of all."""
    picture = insight.current()
    place, eta = estimate(draft, account, before)
    verdicts = picture.verdicts(draft.route)
    dearest = max(draft.quotes, key=lambda quote: quote.price)
    reasons = _reasons(draft, [verdict.reason for verdict in verdicts], eta)
    return {
        "model": draft.target.model,
        "provider": draft.target.provider,
        "family": draft.target.family,
        "task_type": draft.target.task_type,
        "price": to_credits(draft.price),
        "unit_prices": dearest.unit_prices,
        "feasible": not reasons,
        "reasons": reasons,
        "queue_depth": picture.rivals(draft.route).depth,
        "position": place.position,
        "eta": _seconds(eta),
        "candidates": [shown(verdict, picture.capacity) for verdict in verdicts],
    }


def _reasons(draft: Draft, verdicts: list[str], eta: Eta | None) -> list[str]:
    if drained({target.family for target in draft.targets}):
        return ["draining"]
    if "eligible" not in verdicts:
        return sorted(set(verdicts)) or ["no_executor"]
    wanted = draft.body.complete_by
    return ["not_feasible"] if wanted and latest_end(draft, eta) > wanted else []


def _seconds(eta: Eta | None) -> dict[str, float] | None:
    if eta is None:
        return None
    return {
        "start_seconds": round(eta.start, 3),
        "finish_seconds": round(eta.finish, 3),
        "finish_p90_seconds": round(eta.finish_p90, 3),
    }
