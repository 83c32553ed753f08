"""Who goes next, and where: one round of fair admission.

Waiting tasks are looked at as *lanes* (route, level, tenant), enumerated by a loose index scan, so a round costs in
the number of lanes, never in the backlog. Capacity is counted from the active attempts in the same transaction;
nothing is kept in Redis that could be lost. Among the lanes that can be placed the level is chosen 6:3:1, then the
tenant whose clock has run least (stride scheduling), then the oldest task.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from admin_integrations import usage
from admin_integrations.fleet import ExecutorView, Fleet, RouteView, Verdict, current
from genpulse import sql
from genpulse.config import config
from tasks import routes
from tasks.lifecycle import Applied, apply
from tasks.moves import Admit
from tasks.state import SUSPECT_AFTER

LEVEL_SHARES = (6.0, 3.0, 1.0)
MOST_PER_ROUND = 512
MOST_OF_A_WORKER = 0.8  # what one family may hold while another one waits

LANES = """
WITH RECURSIVE lane AS (
  (SELECT route_id, priority, account_id FROM tasks_task WHERE status = 'queued' AND ready
   ORDER BY route_id, priority, account_id LIMIT 1)
  UNION ALL
  SELECT following.* FROM lane, LATERAL (
    SELECT route_id, priority, account_id FROM tasks_task WHERE status = 'queued' AND ready
    AND (route_id, priority, account_id) > (lane.route_id, lane.priority, lane.account_id)
    ORDER BY route_id, priority, account_id LIMIT 1) AS following
)
SELECT lane.route_id, lane.priority, lane.account_id, share.clock, account.weight, account.max_concurrency
FROM lane JOIN tasks_route route ON route.id = lane.route_id
JOIN accounts_account account ON account.id = lane.account_id
LEFT JOIN tasks_share share ON share.family = route.family AND share.level = lane.priority
  AND share.account_id = lane.account_id
"""
HEADS = """
SELECT lane.place, head.id, head.quoted, head.key_id, head.crashes
FROM unnest(%s::bigint[], %s::smallint[], %s::uuid[]) WITH ORDINALITY AS lane(route_id, priority, account_id, place),
LATERAL (
  SELECT id, quoted, key_id, crashes, rank FROM tasks_task
  WHERE status = 'queued' AND ready AND route_id = lane.route_id AND priority = lane.priority
    AND account_id = lane.account_id
  ORDER BY rank, id LIMIT %s) AS head
ORDER BY lane.place, head.rank, head.id
"""
USED = """
SELECT executor_id, credential_id, account_id, key_id, family,
       stage IN ('admitted', 'claimed', 'sending') AND NOT alone AS on_thread, count(*)
FROM tasks_attempt WHERE slot GROUP BY 1, 2, 3, 4, 5, 6
"""
WORKERS = """
SELECT queues, threads FROM tasks_worker
WHERE NOT draining AND NOT quarantine AND last_seen > now() - make_interval(secs => %s)
"""
QUARANTINE = """
SELECT count(*) FROM tasks_worker WHERE quarantine AND NOT draining AND last_seen > now() - make_interval(secs => %s)
"""
ALONE = "SELECT count(*) FROM tasks_attempt WHERE slot AND alone"
KEY_LIMITS = "SELECT id, max_concurrency FROM accounts_apikey WHERE id = ANY(%s) AND max_concurrency IS NOT NULL"
CLOCKS = "SELECT family, level, clock, floor FROM tasks_levelclock"
STATES = "SELECT name, state FROM admin_integrations_familystate WHERE state <> 'active'"
KEEP_SHARES = (
    "INSERT INTO tasks_share (family, level, account_id, clock) SELECT family, level, account_id, clock FROM "  # noqa: S608
    + sql.unnest({"family": "text", "level": "smallint", "account_id": "uuid", "clock": "float8"})
    + " ON CONFLICT (family, level, account_id) DO UPDATE SET clock = excluded.clock"
)
KEEP_CLOCKS = (
    "INSERT INTO tasks_levelclock (family, level, clock, floor) SELECT family, level, clock, floor FROM "  # noqa: S608
    + sql.unnest({"family": "text", "level": "smallint", "clock": "float8", "floor": "float8"})
    + " ON CONFLICT (family, level) DO UPDATE SET clock = excluded.clock, floor = excluded.floor"
)
MEDIANS = """
SELECT family, percentile_cont(0.5) WITHIN GROUP (ORDER BY quoted) FROM (
  SELECT family, quoted FROM tasks_task ORDER BY id DESC LIMIT 10000) AS recent
WHERE quoted > 0 GROUP BY family
"""


@dataclass(slots=True)
class Head:
    """A task at the front of a lane."""

    id: UUID
    quoted: int
    key_id: UUID | None
    suspect: bool


@dataclass(slots=True)
class Lane:
    route: RouteView
    level: int
    account_id: UUID
    clock: float
    weight: int
    limit: int  # of the tenant's concurrency, 0 = none
    heads: list[Head] = field(default_factory=list)

    def order(self) -> tuple[float, UUID]:
        return (self.clock, self.heads[0].id)


class Capacity:
    """What is free right now, counted down as the round admits."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.executors: Counter[UUID] = Counter()
        self.credentials: Counter[UUID] = Counter()
        self.accounts: Counter[UUID] = Counter()
        self.keys: Counter[UUID] = Counter()
        self.on_thread: Counter[str] = Counter()
        for executor, credential, account, key, family, thread, count in sql.fetch(USED):
            self._count(executor, credential, account, key, count)
            self.on_thread[family] += count * thread
        alive = [config.lease_seconds]
        self.workers = [
            (frozenset(queues), threads) for queues, threads in sql.fetch(WORKERS, alive)
        ]
        quarantines = sql.fetch(QUARANTINE, alive)[0][0]
        self.alone = quarantines - (sql.fetch(ALONE)[0][0] if quarantines else 0)
        self.key_limits: dict[UUID, int] = {}

    def _count(
        self,
        executor: UUID,
        credential: UUID | None,
        account: UUID,
        key: UUID | None,
        count: int = 1,
    ) -> None:
        self.executors[executor] += count
        self.accounts[account] += count
        if credential:
            self.credentials[credential] += count
        if key:
            self.keys[key] += count

    def free_slots(self) -> int:
        free = 0
        for executor in self.fleet.executors:
            if executor.status == "active":
                free += max(executor.max_concurrency - self.executors[executor.id], 0)
        return free

    def free_threads(self, family: str, *, others_wait: bool) -> int:
        """Threads of live workers that serve the family, plus a little that is published ahead."""
        serving = [(queues, threads) for queues, threads in self.workers if family in queues]
        total: int = sum(threads for _, threads in serving)
        neighbours = {name for queues, _ in serving for name in queues}
        busy: int = sum(self.on_thread[name] for name in neighbours)
        ahead: int = sum(max(4, threads // 4) for _, threads in serving)
        free: int = total + ahead - busy
        if others_wait:
            mine: int = self.on_thread[family]
            free = min(free, int(total * MOST_OF_A_WORKER) + ahead - mine)
        return max(free, 0)

    def why_full(self, verdict: Verdict) -> tuple[str, str] | None:
        """`slots_full`, `credential_full` or None."""
        executor = verdict.executor
        used = self.executors[executor.id]
        if used >= executor.max_concurrency:
            return "slots_full", f"{used}/{executor.max_concurrency} slots"
        credential = (
            self.fleet.credentials.get(verdict.credential_id) if verdict.credential_id else None
        )
        if credential and credential.max_concurrency is not None:
            busy = self.credentials[credential.id]
            if busy >= credential.max_concurrency:
                return (
                    "credential_full",
                    f"{busy}/{credential.max_concurrency} on key {credential.name}",
                )
        return None

    def tenant_full(self, lane: Lane, head: Head) -> bool:
        if lane.limit and self.accounts[lane.account_id] >= lane.limit:
            return True
        limit = self.key_limits.get(head.key_id) if head.key_id else None
        return limit is not None and self.keys[head.key_id] >= limit  # type: ignore[index]

    def take(self, lane: Lane, head: Head, verdict: Verdict) -> None:
        self._count(verdict.executor.id, verdict.credential_id, lane.account_id, head.key_id)
        if head.suspect:
            self.alone -= 1
        else:
            self.on_thread[lane.route.family] += 1


@dataclass(slots=True)
class LevelClock:
    clock: float = 0.0
    floor: float = 0.0


class Round:
    """One admission round inside the leader's transaction."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.capacity = Capacity(fleet)
        self.verdicts: dict[int, list[Verdict]] = {}
        self.lanes: dict[tuple[str, int], list[Lane]] = defaultdict(list)
        self.clocks: dict[tuple[str, int], LevelClock] = defaultdict(LevelClock)
        self.moved: dict[tuple[str, int, UUID], float] = {}
        self.admits: list[Admit] = []
        self.started: Counter[UUID] = Counter()  # by executor, to share ties by weight
        self.probed: set[tuple[UUID, str]] = set()

    def run(self) -> list[Applied]:
        """Admit what fits; the moves that were applied."""
        if self.capacity.free_slots() == 0:
            return []
        self._read_lanes()
        families = sorted({family for family, _ in self.lanes})
        for family in families:
            self._admit_family(family, others_wait=len(families) > 1)
        if not self.admits:
            return []
        applied = [done for done in apply(self.admits) if done.ok]
        # An attempt uses its vendor key once, whatever comes of it.
        moves = [done.move for done in applied if isinstance(done.move, Admit)]
        usage.count(Counter(move.credential_id for move in moves if move.credential_id))
        self._keep_clocks()
        return applied

    def _read_lanes(self) -> None:
        paused = {name for name, state in sql.fetch(STATES) if state == "paused"}
        rows = sql.fetch(LANES)
        known = routes.views({row[0] for row in rows})
        lanes = [
            Lane(
                route=known[route],
                level=level,
                account_id=account,
                clock=clock or 0.0,
                weight=weight,
                limit=limit or config.max_concurrency_per_user,
            )
            for route, level, account, clock, weight, limit in rows
            if "*" not in paused and known[route].family not in paused
        ]
        lanes = [lane for lane in lanes if self._somewhere(lane.route)]
        self._read_heads(lanes)
        for family, level, clock, floor in sql.fetch(CLOCKS):
            self.clocks[(family, level)] = LevelClock(clock, floor)
        for lane in lanes:
            if lane.heads:
                floor = self.clocks[(lane.route.family, lane.level)].floor
                lane.clock = max(lane.clock, floor)
                self.lanes[(lane.route.family, lane.level)].append(lane)

    def _somewhere(self, route: RouteView) -> bool:
        """Has any executor that may serve the route a free slot?"""
        if route.id not in self.verdicts:
            self.verdicts[route.id] = self.fleet.verdicts(route)
        return any(self._open(verdict) for verdict in self.verdicts[route.id])

    def _open(self, verdict: Verdict) -> bool:
        """Work of a pull executor is handed out by its agent's own request, not here."""
        pushed = verdict.executor.dispatch == "celery"
        return pushed and verdict.eligible and self.capacity.why_full(verdict) is None

    def _read_heads(self, lanes: Sequence[Lane]) -> None:
        if not lanes:
            return
        free = min(self.capacity.free_slots(), MOST_PER_ROUND)
        depth = max(4, -(-2 * free // len(lanes)))
        places = sql.columns([(lane.route.id, lane.level, lane.account_id) for lane in lanes])
        for place, id_, quoted, key, crashes in sql.fetch(HEADS, [*places, depth]):
            head = Head(id_, quoted, key, crashes >= SUSPECT_AFTER)
            lanes[place - 1].heads.append(head)
        keys = {head.key_id for lane in lanes for head in lane.heads if head.key_id}
        self.capacity.key_limits = dict(sql.fetch(KEY_LIMITS, [list(keys)])) if keys else {}

    def _admit_family(self, family: str, *, others_wait: bool) -> None:
        heaps: dict[int, list[tuple[tuple[float, UUID], int, Lane]]] = {}
        for level in range(len(LEVEL_SHARES)):
            lanes = self.lanes.get((family, level), [])
            if lanes:
                heaps[level] = [(lane.order(), number, lane) for number, lane in enumerate(lanes)]
                heapq.heapify(heaps[level])
        self._level_up(family, heaps)
        threads = self.capacity.free_threads(family, others_wait=others_wait)
        while heaps and threads > 0 and len(self.admits) < MOST_PER_ROUND:
            level = min(heaps, key=lambda level: (self.clocks[(family, level)].clock, level))
            order, number, lane = heapq.heappop(heaps[level])
            # Another lane of the same tenant may have run its clock meanwhile: then it waits at its new place.
            stays = True if order != lane.order() else self._admit_head(lane)
            if stays and lane.heads:
                heapq.heappush(heaps[level], (lane.order(), number, lane))
            if not heaps[level]:
                del heaps[level]
            threads = self.capacity.free_threads(family, others_wait=others_wait)

    def _level_up(self, family: str, heaps: Iterable[int]) -> None:
        """A level back from idle starts beside those that were busy, not with a credit for its absence."""
        waiting = set(heaps)
        busy = [clock.clock for (name, _), clock in self.clocks.items() if name == family]
        floor = self._family_floor(family, busy)
        for level in waiting:
            entry = self.clocks[(family, level)]
            entry.clock = max(entry.clock, floor)

    @staticmethod
    def _family_floor(family: str, clocks: Sequence[float]) -> float:
        """No level may lag behind the furthest one by more than one admission of the smallest share."""
        return max(clocks, default=0.0) - 1.0 / min(LEVEL_SHARES)

    def _admit_head(self, lane: Lane) -> bool:
        """Admit the lane's first task, or step over it; False when the lane can have nothing more now."""
        head = lane.heads[0]
        if head.suspect and self.capacity.alone <= 0:
            # It waits for the quarantine worker; those behind it do not wait for it.
            lane.heads.pop(0)
            return True
        verdict = None if self.capacity.tenant_full(lane, head) else self._place(lane.route)
        if verdict is None:
            return False
        lane.heads.pop(0)
        self.capacity.take(lane, head, verdict)
        self.started[verdict.executor.id] += 1
        self._tick(lane, head)
        self.admits.append(
            Admit(
                task_id=head.id,
                executor_id=verdict.executor.id,
                executor=verdict.executor.name,
                credential_id=verdict.credential_id,
                alone=head.suspect,
            )
        )
        return True

    def _place(self, route: RouteView) -> Verdict | None:
        """The best executor with room: preferred, loaded model, least relative load, weight."""
        open_ = [
            verdict
            for verdict in self.verdicts[route.id]
            if self._open(verdict) and not (verdict.probe and self._probing(verdict, route))
        ]
        if not open_:
            return None
        best = min(open_, key=lambda verdict: self._cost(verdict.executor, route))
        if best.probe:
            self.probed.add((best.executor.id, route.model))
        return best

    def _probing(self, verdict: Verdict, route: RouteView) -> bool:
        """Half-open: one task at a time is let through until it has succeeded or failed."""
        return (verdict.executor.id, route.model) in self.probed or (
            self.capacity.executors[verdict.executor.id] > 0
        )

    def _cost(self, executor: ExecutorView, route: RouteView) -> tuple[Any, ...]:
        weight = max(executor.weight, 1)
        return (
            executor.name not in route.prefer,
            executor.loaded_model != route.model if route.model else False,
            self.capacity.executors[executor.id] / (executor.max_concurrency * weight),
            (served[executor.id] + self.started[executor.id]) / weight,
            executor.name,
        )

    def _tick(self, lane: Lane, head: Head) -> None:
        """Run the clocks of level and tenant by what this task costs."""
        key = (lane.route.family, lane.level)
        entry = self.clocks[key]
        entry.clock += 1.0 / LEVEL_SHARES[lane.level]
        entry.floor = max(entry.floor, lane.clock)
        cost = max(1.0, head.quoted / medians.get(lane.route.family, 1_000_000.0))
        lane.clock += cost / lane.weight
        for other in self.lanes[key]:
            if other.account_id == lane.account_id:
                other.clock = lane.clock
        self.moved[(*key, lane.account_id)] = lane.clock

    def _keep_clocks(self) -> None:
        sql.execute(
            KEEP_SHARES,
            sql.columns([(*key, clock) for key, clock in sorted(self.moved.items(), key=str)]),
        )
        sql.execute(
            KEEP_CLOCKS,
            sql.columns([(*key, entry.clock, entry.floor) for key, entry in self.clocks.items()]),
        )


def refresh_medians() -> None:
    """What a task of each family costs at present; without it one credit is taken for the unit."""
    medians.update(sql.fetch(MEDIANS))


medians: dict[str, float] = {}  # micro-credits, by family
served: Counter[UUID] = Counter()  # what each executor was given by this process: ties go by weight


def admit() -> list[Applied]:
    """Run one round in the current transaction; what was admitted."""
    round_ = Round(current())
    applied = round_.run()
    served.update(round_.started)
    return applied
