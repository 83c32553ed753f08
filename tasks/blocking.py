"""Routes that nobody can serve: their tasks are `blocked` with a reason, and queued again when somebody can.

Verdicts are computed and stored per route, never per task; tasks follow in bounded steps.
"""

from collections.abc import Sequence
from uuid import UUID

from psycopg.types.json import Jsonb

from admin_integrations import fleet
from admin_integrations.fleet import Fleet, RouteView, Verdict
from genpulse import sql
from genpulse.errors import Problem
from tasks import actions, routes
from tasks.lifecycle import apply
from tasks.moves import Block, Move, Reroute, Unblock

STEP = 500  # tasks moved for one route in one look

WAITING_ROUTES = """
WITH RECURSIVE waiting AS (
  (SELECT route_id FROM tasks_task WHERE status = 'queued' AND ready ORDER BY route_id LIMIT 1)
  UNION ALL
  SELECT following.route_id FROM waiting, LATERAL (
    SELECT route_id FROM tasks_task WHERE status = 'queued' AND ready AND route_id > waiting.route_id
    ORDER BY route_id LIMIT 1) AS following
), stuck AS (
  (SELECT route_id FROM tasks_task WHERE status = 'blocked' ORDER BY route_id LIMIT 1)
  UNION ALL
  SELECT following.route_id FROM stuck, LATERAL (
    SELECT route_id FROM tasks_task WHERE status = 'blocked' AND route_id > stuck.route_id
    ORDER BY route_id LIMIT 1) AS following
)
SELECT route_id, true FROM stuck UNION SELECT route_id, false FROM waiting
"""
TASKS = """
SELECT t.id, c.options -> 'models' FROM tasks_task t JOIN tasks_taskcontent c ON c.task_id = t.id
WHERE t.route_id = %s AND t.status = %s AND (t.ready OR t.status = 'blocked') ORDER BY t.id LIMIT %s
"""
KEEP = "UPDATE tasks_route SET blocked = %s, detail = %s, verdicts = %s, evaluated_at = now() WHERE id = %s"


def review() -> int:
    """Look at every route with waiting or blocked tasks; the number of tasks moved."""
    moved = actions.review()
    found = sql.fetch(WAITING_ROUTES)
    known = routes.views({route for route, _ in found})
    now = fleet.current()
    for id_, stuck in found:
        verdicts = now.verdicts(known[id_])
        why = fleet.blocked(verdicts, known[id_].provider)
        if not known[id_].provider:  # an action that nothing is bound to
            why = (actions.NO_BINDING, actions.NO_BINDING)
        if not stuck:
            _keep(id_, verdicts, why)
        if why and not stuck:
            moved += _block(known[id_], why, now)
        elif stuck and not why:
            moved += _apply([Unblock(task_id=task) for task, _ in _tasks(id_, "blocked")])
    return moved


def _keep(route: int, verdicts: Sequence[Verdict], why: tuple[str, str] | None) -> None:
    reason, detail = why or ("", "")
    sql.execute(
        KEEP, [reason, detail[:300], Jsonb([verdict.shown() for verdict in verdicts]), route]
    )


def _tasks(route: int, status: str) -> list[tuple[UUID, list[str] | None]]:
    rows = sql.fetch(TASKS, [route, status, STEP])
    return [(id_, sql.loads(models)) for id_, models in rows]


def _block(route: RouteView, why: tuple[str, str], now: Fleet) -> int:
    """Block the tasks of a route, or send those with a fall-back list to their next model."""
    return _apply(
        [
            _next_model(task, route, models, now)
            or Block(task_id=task, reason=why[0], detail=why[1])
            for task, models in _tasks(route.id, "queued")
        ]
    )


def _next_model(task: UUID, route: RouteView, models: list[str] | None, now: Fleet) -> Move | None:
    """The first later model of the list that somebody can serve."""
    if not models or route.model not in models:
        return None
    for name in models[models.index(route.model) + 1 :]:
        try:
            view = routes.next_model(route, name)
        except Problem:
            continue  # its provider was removed since the submit
        if fleet.blocked(now.verdicts(view), view.provider) is None:
            return Reroute(task_id=task, route_id=routes.find_or_make(view).id, model=name)
    return None


def _apply(moves: Sequence[Move]) -> int:
    return sum(done.ok for done in apply(moves)) if moves else 0
