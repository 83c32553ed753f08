"""Who goes next, and where: one round of fair admission.

Free capacity drives it. Each executor with a free slot looks at the lanes it may serve, across families: it chooses
the level by 6:3:1 (a clock for each executor and level), then the tenant that has had least (stride scheduling), then
the oldest task. The task goes to its best executor: the one it prefers, that has its model loaded, that is least
busy. Everything is decided from rows and written in the leader's transaction, so a new leader goes on exactly.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from admin_integrations import fleet, states, usage
from admin_integrations.fleet import ExecutorView, Fleet, RouteView, Verdict
from genpulse import sql
from genpulse.config import config
from tasks import capacity, clocks, lanes
from tasks.capacity import Capacity
from tasks.clocks import Clocks
from tasks.lanes import PORTION, Head, Lane, Line, lanes_of, read_heads
from tasks.lifecycle import Applied, apply
from tasks.moves import Admit

MOST_PER_ROUND = 512
LOADED_FIRST = 8  # so often in a row a loaded model may pass by those whose turn it is
PROBE_SECONDS = 30.0  # half-open: one task is let through in this time, until one has succeeded

KEEP_SHARES = (
    "INSERT INTO tasks_share (provider, level, account_id, clock) SELECT provider, level, account_id, clock FROM "  # noqa: S608
    + sql.unnest({"provider": "text", "level": "smallint", "account_id": "uuid", "clock": "float8"})
    + " ON CONFLICT (provider, level, account_id) DO UPDATE SET clock = excluded.clock"
)
LET_THROUGH = """
UPDATE admin_integrations_cooldown SET probing = true, until = now() + make_interval(secs => %s)
WHERE executor_id = %s AND credential_id IS NULL AND model IN ('', %s) AND until <= now()
"""
MEDIANS = """
SELECT family, percentile_cont(0.5) WITHIN GROUP (ORDER BY quoted) FROM (
  SELECT family, quoted FROM tasks_task ORDER BY id DESC LIMIT 10000) AS recent
WHERE quoted > 0 GROUP BY family
"""


class Round:
    """One admission round inside the leader's transaction."""

    def __init__(self, known: Fleet, used: capacity.Asked) -> None:
        self.fleet = known
        self.capacity = Capacity(known, used)
        self.verdicts: dict[int, list[Verdict]] = {}  # by route
        self.serving: dict[int, frozenset[UUID]] = {}
        self.words: dict[int, list[dict[str, Any]]] = {}  # verdicts as `explain` shows them later
        self.lines: dict[UUID, dict[int, list[Line]]] = {}  # executor -> level -> lines it serves
        self.families: set[str] = set()
        self.full: set[str] = set()  # families without free threads
        self.moved: dict[tuple[str, int, UUID], float] = {}
        self.admits: list[Admit] = []
        self.probed: set[tuple[UUID, str]] = set()

    def run(self) -> list[Applied]:
        """Admit what fits; the moves that were applied."""
        if not self._free():
            return []
        with sql.together():
            # The fleet after the lanes, so that what waits finds its executors, keys, quotas and cooldowns of this moment.
            wishes, waiting, now, said = states.ask(), lanes.ask(), fleet.ask(), clocks.ask()
        found = lanes_of(waiting.rows(), states.read(wishes))
        if not found:
            return []
        self.fleet = self.capacity.fleet = Fleet.load(now)
        self.clocks = Clocks(said)
        free = self._free()
        self._form_lines(free, found)
        if not self.lines:
            return []
        self._go_round([executor for executor in free if executor.id in self.lines])
        if not self.admits:
            return []
        applied = [done for done in apply(self.admits, self._keep) if done.ok]
        if self.probed:
            fleet.forget()
        return applied

    def _free(self) -> list[ExecutorView]:
        return [executor for executor in self.fleet.executors if self._takes_work(executor)]

    def _takes_work(self, executor: ExecutorView) -> bool:
        """Work of a pull executor is handed out by its agent's own request, not here."""
        pushed = executor.dispatch == "celery" and executor.status == "active"
        return pushed and self.capacity.free_slots(executor) > 0

    def _form_lines(self, free: list[ExecutorView], waiting: list[Lane]) -> None:
        lines: dict[tuple[frozenset[UUID], str, str, int], Line] = {}
        for lane in waiting:
            serving = self._serving(lane.route)
            if not serving or self._tenant_full(lane):
                continue
            floor = self.clocks.floor(lane.route.provider, lane.level)
            lane.tenant.clock = max(lane.tenant.clock, floor)
            key = (serving, lane.route.family, lane.route.loads, lane.level)
            if key not in lines:
                lines[key] = Line(lane.route.family, lane.route.loads)
            lines[key].add(lane)
        self.families = {family for _, family, _, _ in lines}
        for (serving, _, _, level), line in lines.items():
            for id_ in serving:
                self.lines.setdefault(id_, defaultdict(list))[level].append(line)
        for executor in free:
            self.clocks.start(executor.id, self.lines.get(executor.id, ()))

    def _serving(self, route: RouteView) -> frozenset[UUID]:
        """The executors with room that may serve the route."""
        if route.id not in self.serving:
            verdicts = self.verdicts[route.id] = self.fleet.verdicts(route)
            self.serving[route.id] = frozenset(v.executor.id for v in verdicts if self._is_open(v))
        return self.serving[route.id]

    def _is_open(self, verdict: Verdict) -> bool:
        return (
            verdict.eligible
            and verdict.executor.dispatch == "celery"
            and self.capacity.why_full(verdict) is None
        )

    def _tenant_full(self, lane: Lane) -> bool:
        limit = lane.tenant.limit
        return bool(limit) and self.capacity.accounts[lane.tenant.account_id] >= limit

    def _go_round(self, free: list[ExecutorView]) -> None:
        """The least busy executor chooses, again and again, until nobody has room or nothing fits."""
        busy = [(self._load(executor), executor.name, executor) for executor in free]
        heapq.heapify(busy)
        while busy and len(self.admits) < MOST_PER_ROUND:
            load, name, executor = busy[0]
            if not self._takes_work(executor):
                heapq.heappop(busy)
            elif load != self._load(executor):
                heapq.heapreplace(busy, (self._load(executor), name, executor))
            elif not self._serve(executor):
                heapq.heappop(busy)

    def _load(self, executor: ExecutorView) -> tuple[float, float]:
        weight = max(executor.weight, 1)
        used = self.capacity.executors[executor.id]
        return (used / (executor.max_concurrency * weight), served[executor.id] / weight)

    def _serve(self, executor: ExecutorView) -> bool:
        """Give the executor its next task, or pass over what cannot go; False when nothing is left for it."""
        line = self._choose(executor)
        lane = line.first() if line else None
        if line is None or lane is None:
            return False
        head = self._head(line, lane)
        if head is None or self._tenant_full(lane):
            line.drop()
        elif self._threads(lane.route.family) <= 0:
            self.full.add(lane.route.family)
        elif self._stays_behind(head):
            lane.heads.popleft()
        elif (verdict := self._place(lane.route)) is None:
            line.drop()
        else:
            lane.heads.popleft()
            self._admit(lane, head, verdict)
        return True

    def _choose(self, executor: ExecutorView) -> Line | None:
        """The line whose turn it is: the level that is most behind, then the first of its lanes."""
        for level in sorted(
            self.lines[executor.id], key=lambda level: self.clocks.of_level(executor.id, level)
        ):
            waiting = [
                (lane.order, number, line)
                for number, line in enumerate(self.lines[executor.id][level])
                if line.family not in self.full and (lane := line.first())
            ]
            if waiting:
                return self._loaded_first(executor, waiting)
        return None

    @staticmethod
    def _loaded_first(
        executor: ExecutorView, waiting: list[tuple[tuple[float, UUID], int, Line]]
    ) -> Line:
        """Changing a model costs more than waiting a little; nobody is passed by more than LOADED_FIRST times."""
        turn = min(waiting)[2]
        model = loaded.get(executor.id) or executor.loaded_model
        model = model if executor.type == "comfyui" else ""
        same = [entry for entry in waiting if model and entry[2].model == model]
        if not same or turn.model == model or passed_by[executor.id] >= LOADED_FIRST:
            passed_by[executor.id] = 0
            return turn
        passed_by[executor.id] += 1
        return min(same)[2]

    def _head(self, line: Line, lane: Lane) -> Head | None:
        """The lane's next task; its neighbours' tasks are read along with it."""
        if not lane.heads and lane.more:
            near = [lane, *(other for other in line.unread(PORTION) if other is not lane)]
            room = MOST_PER_ROUND - len(self.admits)
            read_heads(near, max(2, -(-2 * room // max(len(line), 1))), self.capacity)
        return lane.heads[0] if lane.heads else None

    def _stays_behind(self, head: Head) -> bool:
        """Its key is at its limit, or it waits for the quarantine worker; those behind it do not wait for it."""
        return self.capacity.key_full(head.key_id) or (head.suspect and self.capacity.alone <= 0)

    def _threads(self, family: str) -> int:
        return self.capacity.free_threads(family, self.families)

    def _place(self, route: RouteView) -> Verdict | None:
        """The best executor with room: preferred, model loaded, least busy."""
        open_ = [
            verdict
            for verdict in self.verdicts[route.id]
            if self._is_open(verdict)
            and not (verdict.probe and (verdict.executor.id, route.model) in self.probed)
        ]
        return min(open_, key=lambda verdict: self._cost(verdict.executor, route), default=None)

    def _cost(self, executor: ExecutorView, route: RouteView) -> tuple[Any, ...]:
        model = loaded.get(executor.id) or executor.loaded_model
        return (
            executor.name not in route.prefer,
            bool(route.loads) and model != route.loads,
            self._load(executor),
            executor.name,
        )

    def _admit(self, lane: Lane, head: Head, verdict: Verdict) -> None:
        route, executor = lane.route, verdict.executor
        credential = self.capacity.credential(verdict)
        words = self._words(route)
        self.admits.append(
            Admit(
                task_id=head.id,
                executor_id=executor.id,
                executor=executor.name,
                family=route.family,
                provider=route.provider,
                credential_id=credential,
                alone=head.suspect,
                verdicts=words if len(words) > 1 else None,
            )
        )
        if verdict.probe:
            self.probed.add((executor.id, route.model))
        self.capacity.count(executor.id, credential, lane.tenant.account_id, head.key_id)
        if credential:
            self.capacity.uses[credential] += 1
        if head.suspect:
            self.capacity.alone -= 1
        else:
            self.capacity.on_thread[route.family] += 1
        served[executor.id] += 1
        if executor.type == "comfyui" and route.loads:
            loaded[executor.id] = route.loads
        self._run_clocks(lane, head, executor)

    def _words(self, route: RouteView) -> list[dict[str, Any]]:
        """Why each executor could or could not take it, as the round found it."""
        if route.id not in self.words:
            self.words[route.id] = [
                shown(verdict, self.capacity) for verdict in self.verdicts[route.id]
            ]
        return self.words[route.id]

    def _run_clocks(self, lane: Lane, head: Head, executor: ExecutorView) -> None:
        """Run the clocks of level and tenant by what this task costs."""
        route, tenant = lane.route, lane.tenant
        self.clocks.tick(executor.id, lane.level)
        self.clocks.raise_floor(route.provider, lane.level, tenant.clock)
        cost = max(1.0, head.quoted / medians.get(route.family, 1_000_000.0))
        tenant.clock += cost / tenant.weight
        self.moved[(route.provider, lane.level, tenant.account_id)] = tenant.clock

    def _keep(self, done: Sequence[Applied]) -> None:
        """Clocks, uses of vendor keys, and cooldowns of executors that are being tried again."""
        # An attempt uses its vendor key once, whatever comes of it.
        moves = [one.move for one in done if one.ok and isinstance(one.move, Admit)]
        usage.count(Counter(move.credential_id for move in moves if move.credential_id))
        sql.execute(
            KEEP_SHARES,
            sql.columns([(*key, clock) for key, clock in sorted(self.moved.items())]),
        )
        self.clocks.keep()
        for executor, model in self.probed:
            sql.execute(LET_THROUGH, [PROBE_SECONDS * config.backoff_scale, executor, model])


def shown(verdict: Verdict, capacity: Capacity) -> dict[str, Any]:
    """A verdict in the words of `explain`, with what is full."""
    executor = verdict.executor
    words = verdict.shown()
    if verdict.eligible:
        full = capacity.why_full(verdict)
        used = f"{capacity.executors[executor.id]}/{executor.max_concurrency} slots"
        words["reason"], words["detail"] = full or ("eligible", used)
        words["eligible"] = full is None
    return words


def refresh_medians() -> None:
    """What a task of each family costs at present; without it one credit is taken for the unit."""
    medians.update(sql.fetch(MEDIANS))


medians: dict[str, float] = {}  # micro-credits, by family
served: Counter[UUID] = Counter()  # what each executor was given by this process: ties go by weight
loaded: dict[
    UUID, str
] = {}  # the model a ComfyUI server works with since this process sent it there
passed_by: Counter[UUID] = Counter()  # how often in a row the loaded model went first


def admit(used: capacity.Asked | None = None) -> list[Applied]:
    """Run one round in the current transaction; what was admitted. `used`: asked already, in it."""
    return Round(fleet.current(), used or capacity.ask()).run()
