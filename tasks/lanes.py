"""The waiting work of one admission round: lanes (route, level, tenant), and the lines they stand in.

Lanes are enumerated by a loose index scan, so a round costs in their number, never in the backlog. Their tasks are
read in portions, only of lanes whose turn may come. A *line* is the lanes of one level that the same executors
serve with the same model: whoever has a slot free looks at the first of each of its lines.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from admin_integrations import states
from admin_integrations.fleet import RouteView
from admin_integrations.states import States
from genpulse import sql
from genpulse.config import config
from tasks import routes
from tasks.capacity import Capacity
from tasks.state import SUSPECT_AFTER

PORTION = 64  # lanes whose first tasks are read together
LOWEST = -(2**63)

WAITING_LANES = """
WITH RECURSIVE lane AS (
  (SELECT route_id, priority, account_id, id FROM tasks_task WHERE status = 'queued' AND ready
   ORDER BY route_id, priority, account_id, rank, id LIMIT 1)
  UNION ALL
  SELECT following.* FROM lane, LATERAL (
    SELECT route_id, priority, account_id, id FROM tasks_task WHERE status = 'queued' AND ready
    AND (route_id, priority, account_id) > (lane.route_id, lane.priority, lane.account_id)
    ORDER BY route_id, priority, account_id, rank, id LIMIT 1) AS following
)
"""
LANES = (
    WAITING_LANES
    + """
SELECT lane.route_id, lane.priority, lane.account_id, lane.id, account.weight, account.max_concurrency, share.clock
FROM lane JOIN tasks_route route ON route.id = lane.route_id
JOIN accounts_account account ON account.id = lane.account_id
LEFT JOIN tasks_share share ON share.provider = route.provider AND share.level = lane.priority
  AND share.account_id = lane.account_id
"""
)
HEADS = """
SELECT lane.place, head.id, head.quoted, head.key_id, head.crashes, head.rank, api_key.max_concurrency
FROM unnest(%s::bigint[], %s::smallint[], %s::uuid[], %s::bigint[], %s::uuid[]) WITH ORDINALITY
  AS lane(route_id, priority, account_id, rank, id, place),
LATERAL (
  SELECT id, quoted, key_id, crashes, rank FROM tasks_task
  WHERE status = 'queued' AND ready AND route_id = lane.route_id AND priority = lane.priority
    AND account_id = lane.account_id AND (rank, id) > (lane.rank, lane.id)
    AND (key_id IS NULL OR key_id <> ALL(%s)) AND (crashes < %s OR %s)
  ORDER BY rank, id LIMIT %s) AS head
LEFT JOIN accounts_apikey AS api_key ON api_key.id = head.key_id
ORDER BY lane.place, head.rank, head.id
"""


@dataclass(slots=True, eq=False)
class Tenant:
    """One account in one level of one provider's executors; `clock` is how much it has had, by its weight."""

    account_id: UUID
    weight: int
    limit: int  # of its concurrency, 0 = none
    clock: float


@dataclass(slots=True)
class Head:
    """A task at the front of a lane."""

    id: UUID
    quoted: int
    key_id: UUID | None
    suspect: bool


@dataclass(slots=True, eq=False)
class Lane:
    route: RouteView
    level: int
    tenant: Tenant
    first: UUID  # its oldest task, known before its tasks are read
    heads: deque[Head] = field(default_factory=deque)
    after: tuple[int, UUID] = (LOWEST, UUID(int=0))  # read up to here
    more: bool = True  # there may be tasks that were not read yet

    @property
    def order(self) -> tuple[float, UUID]:
        """The tenant that has had least, then the oldest task."""
        return (self.tenant.clock, self.heads[0].id if self.heads else self.first)


class Line:
    """Lanes in their order; a lane whose tenant's clock has run on stands where it belongs."""

    def __init__(self, family: str, model: str) -> None:
        self.family = family
        self.model = model
        self._heap: list[tuple[tuple[float, UUID], int, Lane]] = []
        self._number = 0

    def add(self, lane: Lane) -> None:
        self._number += 1
        heapq.heappush(self._heap, (lane.order, self._number, lane))

    def first(self) -> Lane | None:
        while self._heap:
            order, number, lane = self._heap[0]
            if order == lane.order:
                return lane
            heapq.heapreplace(self._heap, (lane.order, number, lane))
        return None

    def drop(self) -> None:
        """The first lane has nothing more that could go now."""
        heapq.heappop(self._heap)

    def unread(self, most: int) -> list[Lane]:
        """The first lanes of which nothing was read, roughly in order."""
        waiting = [entry for entry in self._heap if entry[2].more and not entry[2].heads]
        return [entry[2] for entry in heapq.nsmallest(most, waiting)]

    def __len__(self) -> int:
        return len(self._heap)


def ask() -> sql.Answer:
    """Send the question which lanes wait."""
    return sql.later(LANES)


def lanes_of(rows: Sequence[tuple[Any, ...]], wishes: States) -> list[Lane]:
    """Every waiting lane, but those of paused families."""
    known = routes.views({row[0] for row in rows})
    tenants: dict[tuple[str, int, UUID], Tenant] = {}
    lanes = []
    for route_id, level, account, first, weight, limit, clock in rows:
        route = known[route_id]
        if wishes.of(route.family) == states.PAUSED:
            continue
        key = (route.provider, level, account)
        if key not in tenants:
            most = limit or config.max_concurrency_per_user
            tenants[key] = Tenant(account, weight, most, clock or 0.0)
        lanes.append(Lane(route, level, tenants[key], first))
    return lanes


def read_heads(lanes: Sequence[Lane], depth: int, capacity: Capacity) -> None:
    """The next `depth` tasks of each lane that may go: not those of a full key, nor suspects nobody could take."""
    if not lanes:
        return
    rows = [(lane.route.id, lane.level, lane.tenant.account_id, *lane.after) for lane in lanes]
    more = [capacity.full_keys(), SUSPECT_AFTER, capacity.alone > 0, depth]
    for place, id_, quoted, key, crashes, rank, limit in sql.fetch(
        HEADS, [*sql.columns(rows), *more]
    ):
        capacity.know(key, limit)
        lane = lanes[place - 1]
        lane.heads.append(Head(id_, quoted, key, crashes >= SUSPECT_AFTER))
        lane.after = (rank, id_)
    for lane in lanes:
        lane.more = len(lane.heads) >= depth
