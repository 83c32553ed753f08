"""What can be said about waiting work: who is before it, why it waits, and when it may start and end.

Nothing ranks the backlog. A task's own lane is counted (to 1000); what the fair share puts before it is estimated
from the lengths of the other lanes, read at most once a second by each process. Times come from the last 200 runs of
a model on an executor.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.utils import timezone

from admin_integrations import fleet, states
from admin_integrations.fleet import Fleet, RouteView, Verdict
from admin_integrations.states import States
from genpulse import sql
from genpulse.http.parsing import render_time
from tasks import routes
from tasks.capacity import Capacity
from tasks.lanes import WAITING_LANES
from tasks.models import Status, Task
from tasks.standing import COUNTED_TO, LaneLength, Place, Rivals

MAX_AGE = 1.0  # seconds a picture may be old
AGE_IN_TRANSACTION = 5.0  # rather an older one than locks held longer
ENTRIES = 50_000  # index entries one picture may count over all lanes
RUNS = 200
RUNS_AGE = 5.0

LENGTHS = (
    WAITING_LANES  # noqa: S608 - constants
    + """
SELECT lane.route_id, lane.priority, lane.account_id, lane.id, account.weight, share.clock,
  (SELECT count(*) FROM (SELECT 1 FROM tasks_task WHERE status = 'queued' AND ready AND route_id = lane.route_id
   AND priority = lane.priority AND account_id = lane.account_id LIMIT %s) AS counted)
FROM lane JOIN tasks_route route ON route.id = lane.route_id
JOIN accounts_account account ON account.id = lane.account_id
LEFT JOIN tasks_share share ON share.provider = route.provider AND share.level = lane.priority
  AND share.account_id = lane.account_id
"""
)
FLOORS = "SELECT name, level, clock FROM tasks_levelclock"
AHEAD = """
SELECT count(*) FROM (SELECT 1 FROM tasks_task WHERE status = 'queued' AND ready AND route_id = %s AND priority = %s
  AND account_id = %s LIMIT %s) AS counted
"""
DURATIONS = """
SELECT wanted.id, percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY run.seconds) FROM unnest(%s::uuid[]) AS wanted(id),
LATERAL (
  SELECT extract(epoch FROM finished_at - started_at)::float8 AS seconds FROM tasks_attempt
  WHERE outcome = 'succeeded' AND executor_id = wanted.id AND {model} AND started_at IS NOT NULL
  ORDER BY finished_at DESC LIMIT %s) AS run
GROUP BY wanted.id
"""


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds from now: median start and end, and the end that nine of ten keep."""

    start: float
    finish: float
    finish_p90: float

    def times(self, now: datetime) -> dict[str, datetime]:
        return {
            "start_at": now + timedelta(seconds=self.start),
            "finish_at": now + timedelta(seconds=self.finish),
        }


@dataclass(eq=False)
class Picture:
    """Fleet, capacity, wishes and lane lengths at one moment."""

    fleet: Fleet
    capacity: Capacity
    wishes: States
    lanes: Sequence[LaneLength]
    taken_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._verdicts: dict[RouteView, list[Verdict]] = {}
        self._rivals: dict[tuple[str, int, frozenset[UUID]], Rivals] = {}
        self._by_provider: dict[str, list[LaneLength]] = defaultdict(list)
        for lane in self.lanes:
            self._by_provider[lane.route.provider].append(lane)

    def verdicts(self, route: RouteView) -> list[Verdict]:
        if route not in self._verdicts:
            self._verdicts[route] = self.fleet.verdicts(route)
        return self._verdicts[route]

    def serving(self, route: RouteView) -> frozenset[UUID]:
        """The executors that may serve it, with or without room."""
        return frozenset(v.executor.id for v in self.verdicts(route) if v.eligible)

    def rivals(self, route: RouteView) -> Rivals:
        """What waits for executors this route waits for."""
        mine = self.serving(route)
        key = (route.provider, route.id, mine)
        if key not in self._rivals:
            self._rivals[key] = Rivals(
                lane
                for lane in self._by_provider.get(route.provider, [])
                if lane.route.id == route.id or mine & self.serving(lane.route)
            )
        return self._rivals[key]

    def place(
        self, route: RouteView, level: int, account: UUID, own: int, task: UUID | None = None
    ) -> Place:
        """`own`: tasks before it in its own lane. `task` None: it would come now."""
        return self.rivals(route).place(level, account, own, task)

    def eta(self, route: RouteView, position: int, *, fresh: bool = False) -> Eta | None:
        """When the task at this position starts and ends; None without history or where nothing moves."""
        if self.standstill(route):
            return None
        open_ = [verdict.executor for verdict in self.verdicts(route) if verdict.eligible]
        runs = durations([executor.id for executor in open_], route.model or None, fresh=fresh)
        if not runs:
            return None
        slots = [(e.max_concurrency, *runs.get(e.id, _mean(runs.values()))) for e in open_]
        free = sum(self.capacity.free_slots(executor) for executor in open_)
        total = sum(number for number, _, _ in slots)
        before = max(position - free, 0)
        start, start_p90 = (
            before / sum(slot[0] / max(slot[which], 0.001) for slot in slots) for which in (1, 2)
        )
        run, run_p90 = (sum(slot[0] * slot[which] for slot in slots) / total for which in (1, 2))
        return Eta(start, start + run, start_p90 + run_p90)

    def standstill(self, route: RouteView) -> str:
        """Why nothing of this route can start at all, as a phase; empty when it can."""
        family = route.family
        if self.wishes.of(family) == states.PAUSED:
            reason = self.wishes.reason(family)
            return f"the queue {family} is paused" + (f": {reason}" if reason else "")
        pushed = [v for v in self.verdicts(route) if v.executor.dispatch == "celery"]
        if pushed and not self.capacity.is_served(family):
            return f"no worker online for family {family}"
        return ""


def _mean(runs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    known = list(runs)
    return (sum(p50 for p50, _ in known) / len(known), sum(p90 for _, p90 in known) / len(known))


_picture: Picture | None = None
# (executor, model) -> good until (monotonic), p50 and p90
_runs: dict[tuple[UUID, str | None], tuple[float, tuple[float, float] | None]] = {}


def current() -> Picture:
    """The picture of this moment, taken at most once a second."""
    global _picture  # noqa: PLW0603 - one for a process
    most = AGE_IN_TRANSACTION if connection.in_atomic_block else MAX_AGE
    if _picture is None or time.monotonic() - _picture.taken_at > most:
        lanes = _lengths(len(_picture.lanes) if _picture else 0)
        now = fleet.current()
        _picture = Picture(now, Capacity(now), states.read(), lanes)
    return _picture


def forget() -> None:
    """For those who have just changed what the picture shows."""
    global _picture  # noqa: PLW0603
    _picture = None
    _runs.clear()


def _lengths(lanes_before: int) -> list[LaneLength]:
    most = max(10, min(COUNTED_TO, ENTRIES // max(lanes_before, 1)))
    rows = sql.fetch(LENGTHS, [most])
    known = routes.views({row[0] for row in rows})
    floors = {(name, level): clock for name, level, clock in sql.fetch(FLOORS)}
    return [
        LaneLength(
            known[route],
            level,
            account,
            first,
            weight,
            max(clock or 0.0, floors.get((known[route].provider, level), 0.0)),
            math.inf if count >= most else count,
        )
        for route, level, account, first, weight, clock, count in rows
    ]


def own_waiting(route: RouteView, level: int, account: UUID) -> int:
    """How many tasks wait in a lane, counted to 1000: what a new one would stand behind."""
    return int(sql.fetch(AHEAD, [route.id, level, account, COUNTED_TO])[0][0])


def durations(
    executors: Sequence[UUID], model: str | None, *, fresh: bool = False
) -> dict[UUID, tuple[float, float]]:
    """p50 and p90 seconds of the last 200 runs of a model, by executor; those without runs are left out."""
    now = time.monotonic()
    missing = [id_ for id_ in executors if fresh or _runs.get((id_, model), (0.0, None))[0] <= now]
    if missing:
        found = _measured(missing, model)
        # What has no history yet may have one with the next run.
        for id_ in missing:
            age = RUNS_AGE if id_ in found else MAX_AGE
            _runs[(id_, model)] = (now + age, found.get(id_))
    return {id_: run for id_ in executors if (run := _runs[(id_, model)][1])}


def _measured(executors: Sequence[UUID], model: str | None) -> dict[UUID, tuple[float, float]]:
    condition = "model IS NULL" if model is None else "model = %s"
    named = [] if model is None else [model]
    rows = sql.fetch(DURATIONS.format(model=condition), [list(executors), *named, RUNS])
    return {id_: (p50, p90) for id_, (p50, p90) in rows}


@dataclass(frozen=True, slots=True)
class Said:
    """What a task object says of its place and time; `phase` empty: nothing better than its status."""

    position: int | None = None
    eta: dict[str, str] | None = None
    phase: str = ""


def said(task: Task, ahead: int | None) -> Said:
    """`ahead`: how many tasks go before it in its own lane, for tasks that wait for their turn."""
    if task.status == Status.QUEUED and ahead is not None:
        return _waiting(task, ahead)
    if task.status in {Status.ADMITTED, Status.RUNNING, Status.AWAITING}:
        return Said(eta=_running(task))
    return Said()


def _waiting(task: Task, ahead: int) -> Said:
    picture, route = current(), routes.views({task.route_id})[task.route_id]
    place = picture.place(route, task.priority, task.account_id, ahead, task.id)
    eta = picture.eta(route, place.position)
    phase = picture.standstill(route) or _line(place)
    return Said(place.position, shown(eta.times(timezone.now())) if eta else None, phase)


def _line(place: Place) -> str:
    if place.own:
        return f"waiting: {tasks_(place.own)} of yours ahead"
    return f"waiting: {tasks_(place.others)} ahead" if place.others else "waiting: next in line"


def tasks_(number: int) -> str:
    return "1 task" if number == 1 else f"{number} tasks"


def _running(task: Task) -> dict[str, str] | None:
    """It ends as half of its like do, or else as nine of ten do; after that nobody knows."""
    if task.executor_id is None:
        return None
    run = durations([task.executor_id], task.model).get(task.executor_id)
    now = timezone.now()
    start = task.started_at if task.started_at and task.status != Status.ADMITTED else now
    ends = [start + timedelta(seconds=seconds) for seconds in run or ()]
    end = next((end for end in ends if end >= now), None)
    return shown({"start_at": start, "finish_at": end}) if end else None


def shown(times: dict[str, datetime]) -> dict[str, str]:
    return {name: render_time(value) for name, value in times.items()}
