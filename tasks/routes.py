"""Routes: what makes tasks interchangeable for placement, found or made by a digest of all that decides."""

import hashlib
import json
from dataclasses import asdict, replace
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from admin_integrations.fleet import Fleet, RouteView
from genpulse import sql

NEW = """
INSERT INTO tasks_route (key, family, provider, model, workflow_id, action, filter, blocked, detail, verdicts)
VALUES (%s, %s, %s, %s, NULL, %s, %s, '', '', '[]')
ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING id
"""
READ = "SELECT id, family, provider, model, action, filter FROM tasks_route WHERE id = ANY(%s)"
_known: dict[int, RouteView] = {}


def find_or_make(view: RouteView) -> RouteView:
    """`view` with its id. Routes are never deleted, so ids may be remembered for ever."""
    view = replace(view, id=0)
    known = _ids.get(view)
    if known is not None:
        return replace(view, id=known)
    values = {name: value for name, value in asdict(view).items() if name != "id"}
    filters = {
        name: value
        for name, value in values.items()
        if value and name not in {"family", "provider", "model", "action"}
    }
    key = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
    found = _stored(key) or _store(key, view, json.dumps(filters))
    # Not before the commit: a transaction that rolls back takes a new route with it.
    transaction.on_commit(partial(_ids.__setitem__, view, found))
    return replace(view, id=found)


def _stored(key: str) -> int | None:
    rows = sql.fetch("SELECT id FROM tasks_route WHERE key = %s", [key])
    return int(rows[0][0]) if rows else None


def _store(key: str, view: RouteView, filters: str) -> int:
    rows = sql.fetch(NEW, [key, view.family, view.provider, view.model, view.action, filters])
    return int(rows[0][0])


_ids: dict[RouteView, int] = {}  # routes without their id -> the id


def views(ids: set[int]) -> dict[int, RouteView]:
    """The routes of these ids; they never change, so each is read once for a process."""
    missing = ids - _known.keys()
    if missing:
        for row in sql.fetch_dicts(READ, [list(missing)]):
            filters: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in sql.loads(row.pop("filter")).items()
            }
            _known[row["id"]] = RouteView(**row, **filters)
    return {id_: _known[id_] for id_ in ids if id_ in _known}


def forget() -> None:
    """For tests, whose database is emptied under the process."""
    _known.clear()
    _ids.clear()


def after_failure(
    route: RouteView, executor: UUID, fleet: Fleet, *, hopeless: bool, models: list[str]
) -> RouteView | None:
    """Where work goes that must leave `executor`; None: nowhere else.

    Another executor of the same model if there is one, else the next model of the task's list. `hopeless`: this
    executor can never do it, so the route without it is the answer even if that leaves nobody.
    """
    mark = str(executor)
    here = replace(
        route,
        tried=tuple(sorted({*route.tried, mark})),
        refused=tuple(sorted({*route.refused, mark})) if hopeless else route.refused,
    )
    untried = [
        verdict
        for verdict in fleet.verdicts(here)
        if not verdict.hopeless and str(verdict.executor.id) not in here.tried
    ]
    if untried:
        return here
    following = models[models.index(route.model) + 1 :] if route.model in models else []
    if following:
        return next_model(route, following[0])
    return here if hopeless else None


def next_model(route: RouteView, model: str) -> RouteView:
    """The route of the next model of a fall-back list; its family and provider are looked up anew."""
    from providers import registry
    from tasks import workflows

    bound = workflows.behind(model)
    target = registry.resolve(model=model, bound=bound.family if bound else None)
    return replace(
        route,
        id=0,
        model=target.model or model,
        family=target.family,
        provider=target.provider,
        executor="",
        needs=bound.files if bound else (),
        tried=(),
        refused=(),
    )
