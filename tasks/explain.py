"""Why a task is where it is: the document of `GET /api/v1/tasks/{id}/explain`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from admin_integrations import states
from admin_integrations.fleet import RouteView, Verdict
from genpulse.auth.models import ApiKey
from genpulse.config import config
from genpulse.http.parsing import render_time
from tasks import insight, routes
from tasks.admission import shown
from tasks.clocks import LEVEL_SHARES
from tasks.insight import Picture, tasks_
from tasks.models import TERMINAL, WAITING, Attempt, Priority, Status, Task
from tasks.render import PRIORITY_NAMES, Extras
from tasks.standing import Place

Candidates = list[dict[str, Any]]
FULL = {"slots_full", "credential_full"}


def explain(task: Task, more: Extras) -> dict[str, Any]:
    """`more`: the task's extras, which know how many tasks are before it."""
    picture, route = insight.current(), routes.views({task.route_id})[task.route_id]
    place = None
    if more.ahead is not None:
        place = picture.place(route, task.priority, task.account_id, more.ahead, task.id)
    candidates, evaluated_at = _candidates(task, route, picture)
    limits = _limits(task, picture)
    said = insight.said(task, more.ahead)
    return {
        "task_id": str(task.id),
        "status": task.status,
        "summary": _summary(task, route, picture, place, candidates, limits),
        "family": {"name": route.family, "state": picture.wishes.of(route.family)},
        "position": said.position,
        "ahead": {"own": place.own, "others": place.others} if place else None,
        "fair_share": {
            "level": PRIORITY_NAMES[Priority(task.priority)],
            "level_share": LEVEL_SHARES[task.priority] / sum(LEVEL_SHARES),
            "tenants_waiting": place.tenants if place else 0,
        },
        "eta": said.eta,
        "limits": limits,
        "candidates": candidates,
        "evaluated_at": render_time(evaluated_at),
    }


def _candidates(task: Task, route: RouteView, picture: Picture) -> tuple[Candidates, datetime]:
    """Every executor of the provider with its verdict: as it is now, or as it led to the choice."""
    if task.attempt and task.status not in WAITING:
        attempt = Attempt.objects.get(task=task, number=task.attempt)
        return _chosen(attempt), attempt.created_at
    now = [_now(verdict, route.family, picture) for verdict in picture.verdicts(route)]
    return now, datetime.now(UTC)


def _now(verdict: Verdict, family: str, picture: Picture) -> dict[str, Any]:
    words = shown(verdict, picture.capacity)
    if not verdict.eligible:
        return words
    pushed = verdict.executor.dispatch == "celery"
    return {**words, **_family_stands(family, picture, pushed=pushed)}


def _chosen(attempt: Attempt) -> Candidates:
    words = {"executor": attempt.executor, "eligible": True, "reason": "chosen", "detail": ""}
    others = attempt.verdicts or [words]
    return [words if one["executor"] == attempt.executor else one for one in others]


def _family_stands(family: str, picture: Picture, *, pushed: bool) -> Mapping[str, Any]:
    """What holds up the whole family, in the words of a verdict."""
    if picture.wishes.of(family) == states.PAUSED:
        return {"eligible": False, "reason": "paused", "detail": f"the queue {family} is paused"}
    if pushed and not picture.capacity.is_served(family):
        detail = f"no worker online for family {family}"
        return {"eligible": False, "reason": "no_worker", "detail": detail}
    return {}


def _limits(task: Task, picture: Picture) -> list[dict[str, Any]]:
    """The limits of concurrency that concern it. `blocking` only while it waits."""
    limits = []
    account_limit = task.account.max_concurrency or config.max_concurrency_per_user
    if account_limit:
        used = picture.capacity.accounts[task.account_id]
        limits.append(_limit("user_concurrency", used, account_limit, task))
    key = ApiKey.objects.filter(pk=task.key_id).first() if task.key_id else None
    if key and key.max_concurrency:
        used = picture.capacity.keys[key.id]
        limits.append(_limit("key_concurrency", used, key.max_concurrency, task))
    return limits


def _limit(name: str, used: int, most: int, task: Task) -> dict[str, Any]:
    blocking = task.status == Status.QUEUED and used >= most
    return {"limit": name, "used": used, "max": most, "blocking": blocking}


def _summary(
    task: Task,
    route: RouteView,
    picture: Picture,
    place: Place | None,
    candidates: Candidates,
    limits: Sequence[Mapping[str, Any]],
) -> str:
    """One or two sentences for people."""
    if task.status in TERMINAL or task.status not in WAITING:
        return _past(task)
    if not candidates:
        return f"Nobody can serve it: add an executor of provider {route.provider}."
    if task.status == Status.BLOCKED:
        return f"Nobody can serve it: {_reasons(candidates)}."
    if place is None:
        return f"Waiting until {render_time(task.due_at)}."
    return f"Waiting: {'; '.join(_obstacles(route, picture, place, candidates, limits))}."


def _past(task: Task) -> str:
    where = f" on {task.executor}" if task.executor else ""
    return f"{task.status.capitalize()}{where}."


def _reasons(candidates: Candidates) -> str:
    return ", ".join(f"{one['executor']}: {one['detail'] or one['reason']}" for one in candidates)


def _obstacles(
    route: RouteView,
    picture: Picture,
    place: Place,
    candidates: Candidates,
    limits: Sequence[Mapping[str, Any]],
) -> list[str]:
    still = picture.standstill(route)
    found = [still] if still else []
    names = {"user_concurrency": "tasks of yours", "key_concurrency": "tasks of this key"}
    found += [
        f"{one['used']} of at most {one['max']} {names[one['limit']]} are running"
        for one in limits
        if one["blocking"]
    ]
    if not still:
        found += _fullness(candidates)
    before = place.position - 1
    return [*found, f"your turn after {tasks_(before)}" if before else "you are next in line"]


def _fullness(candidates: Candidates) -> list[str]:
    if any(one["eligible"] for one in candidates):
        return []
    full = sum(one["reason"] in FULL for one in candidates)
    if not full:
        return [_reasons(candidates)]
    return ["1 executor is full" if full == 1 else f"{full} executors are full"]
