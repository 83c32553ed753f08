"""Who goes before whom: places in line, estimated from the lengths of lanes and the clocks of the fair share."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from admin_integrations.fleet import RouteView
from tasks.clocks import LEVEL_SHARES

COUNTED_TO = 1000


@dataclass(frozen=True, slots=True)
class LaneLength:
    """`count` is infinite when it was too long to be counted; `first` is its oldest task."""

    route: RouteView
    level: int
    account_id: UUID
    first: UUID
    weight: int
    clock: float
    count: float


@dataclass(frozen=True, slots=True)
class Place:
    """How many tasks are expected to go before one, of its own tenant and of others."""

    own: int
    others: int
    tenants: int = 1  # that wait in its level

    @property
    def position(self) -> int:
        return self.own + self.others + 1


@dataclass(slots=True)
class Waiting:
    """One tenant in one level."""

    clock: float
    weight: int
    first: UUID
    count: float

    def before(self, turn: float, task: UUID | None) -> float:
        """How many of its tasks go before a turn at that clock; at equal clocks the older task goes first."""
        lead = round((turn - self.clock) * self.weight, 6)
        if lead < 0:
            return 0
        whole = math.ceil(lead)
        tie = whole == lead and (task is None or self.first < task)
        return min(self.count, whole + tie)


class Rivals:
    """The lanes that wait for the same executors, summed by level and tenant."""

    def __init__(self, lanes: Iterable[LaneLength]) -> None:
        self.levels: dict[int, dict[UUID, Waiting]] = {}
        self.counts: Counter[int] = Counter()
        for lane in lanes:
            self.counts[lane.level] += int(min(lane.count, COUNTED_TO))
            tenants = self.levels.setdefault(lane.level, {})
            known = tenants.get(lane.account_id)
            if known is None:
                tenants[lane.account_id] = Waiting(lane.clock, lane.weight, lane.first, lane.count)
            else:
                known.first, known.count = min(known.first, lane.first), known.count + lane.count

    @property
    def depth(self) -> int:
        """How many tasks wait; long lanes count as far as they were counted."""
        return self.counts.total()

    def place(self, level: int, account: UUID, own: int, task: UUID | None = None) -> Place:
        """`own`: tasks before it in its own lane. `task` None: it would come now."""
        tenants = self.levels.get(level, {})
        mine = tenants.get(account)
        lowest = min((one.clock for one in tenants.values()), default=0.0)
        turn = (mine.clock if mine else lowest) + own / (mine.weight if mine else 1)
        others = sum(one.before(turn, task) for one in tenants.values() if one is not mine)
        higher = self._of_other_levels(level, own + others)
        return Place(own, int(others) + higher, len(tenants) + (mine is None))

    def _of_other_levels(self, level: int, before: float) -> int:
        """Other levels go on by their share while `before` tasks of this one go."""
        return sum(
            min(count, int((before + 0.5) * LEVEL_SHARES[other] / LEVEL_SHARES[level]))
            for other, count in self.counts.items()
            if other != level
        )
