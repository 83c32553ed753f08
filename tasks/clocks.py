"""The clocks of the fair share: levels get 6:3:1 at each executor, tenants start where the others are.

A clock runs by what its owner has had, divided by its share; whoever is most behind goes next.
"""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from genpulse import sql

LEVEL_SHARES = (6.0, 3.0, 1.0)  # critical, default, low

CLOCKS = "SELECT name, level, clock FROM tasks_levelclock"
KEEP_CLOCKS = (
    "INSERT INTO tasks_levelclock (name, level, clock) SELECT name, level, clock FROM "  # noqa: S608
    + sql.unnest({"name": "text", "level": "smallint", "clock": "float8"})
    + " ON CONFLICT (name, level) DO UPDATE SET clock = excluded.clock"
)


def ask() -> sql.Answer:
    """Send the question for `Clocks`."""
    return sql.later(CLOCKS)


class Clocks:
    """The clocks of levels (6:3:1 at each executor), and the floors that tenants back from idle start at."""

    def __init__(self, asked: sql.Answer) -> None:
        self.values: dict[tuple[str, int], float] = defaultdict(float)
        for name, level, clock in asked.rows():
            self.values[(name, level)] = clock
        self.changed: set[tuple[str, int]] = set()

    def start(self, executor: UUID, waiting: Iterable[int]) -> None:
        """A level back from idle starts beside the others, at most one turn of the smallest share behind."""
        name = str(executor)
        floor = max(self.values[(name, level)] for level in range(len(LEVEL_SHARES)))
        for level in waiting:
            self._raise((name, level), floor - 1.0 / min(LEVEL_SHARES))

    def of_level(self, executor: UUID, level: int) -> float:
        return self.values[(str(executor), level)]

    def tick(self, executor: UUID, level: int) -> None:
        key = (str(executor), level)
        self._raise(key, self.values[key] + 1.0 / LEVEL_SHARES[level])

    def floor(self, provider: str, level: int) -> float:
        return self.values[(provider, level)]

    def raise_floor(self, provider: str, level: int, clock: float) -> None:
        self._raise((provider, level), clock)

    def _raise(self, key: tuple[str, int], value: float) -> None:
        if value > self.values[key]:
            self.values[key] = value
            self.changed.add(key)

    def keep(self) -> None:
        if self.changed:
            rows = [(*key, self.values[key]) for key in sorted(self.changed)]
            sql.execute(KEEP_CLOCKS, sql.columns(rows))
