"""What is free right now: slots of executors, vendor keys and tenants, threads of workers.

Everything is counted from the rows of active attempts; nothing is kept elsewhere that could be lost or drift.
"""

from collections import Counter
from collections.abc import Collection
from uuid import UUID

from admin_integrations.fleet import ExecutorView, Fleet, Verdict
from genpulse import sql
from genpulse.config import config

MOST_OF_A_WORKER = 0.8  # what one family may hold while another one waits

# What is being looked up is in stage `sending` too, but no worker holds a lease on it.
USED = """
SELECT executor_id, credential_id, account_id, key_id, api_key.max_concurrency, family,
       (stage = 'admitted' OR lease_until IS NOT NULL) AND NOT alone AS on_thread, count(*)
FROM tasks_attempt LEFT JOIN accounts_apikey AS api_key ON api_key.id = key_id
WHERE slot GROUP BY 1, 2, 3, 4, 5, 6, 7
"""
WORKERS = """
SELECT queues, threads, quarantine FROM tasks_worker
WHERE NOT draining AND last_seen > now() - make_interval(secs => %s)
"""
ALONE = """
SELECT count(*) FROM tasks_attempt WHERE slot AND alone AND (stage = 'admitted' OR lease_until IS NOT NULL)
"""


Asked = tuple[sql.Answer, sql.Answer]


def ask() -> Asked:
    """Send the questions of a `Capacity`."""
    with sql.together():
        return sql.later(USED), sql.later(WORKERS, [config.lease_seconds])


class Capacity:
    """What is free at one moment, counted down as a round admits."""

    def __init__(self, fleet: Fleet, asked: Asked | None = None) -> None:
        used, workers = asked or ask()
        self.fleet = fleet
        self.executors: Counter[UUID] = Counter()
        self.credentials: Counter[UUID] = Counter()
        self.accounts: Counter[UUID] = Counter()
        self.keys: Counter[UUID] = Counter()
        self.uses: Counter[UUID] = Counter()  # of vendor keys, by what this round has admitted
        self.on_thread: Counter[str] = Counter()
        self.key_limits: dict[UUID, int] = {}
        for executor, credential, account, key, limit, family, thread, count in used.rows():
            self.know(key, limit)
            self.count(executor, credential, account, key, count)
            self.on_thread[family] += count * thread
        rows = workers.rows()
        self.workers = [
            (frozenset(queues), threads) for queues, threads, alone in rows if not alone
        ]
        quarantines = sum(alone for _, _, alone in rows)
        self.alone = quarantines - (sql.fetch(ALONE)[0][0] if quarantines else 0)

    def count(
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

    def know(self, key: UUID | None, limit: int | None) -> None:
        """How much of an API key may run at once, where that is limited."""
        if key and limit is not None:
            self.key_limits[key] = limit

    def free_slots(self, executor: ExecutorView) -> int:
        return max(executor.max_concurrency - self.executors[executor.id], 0)

    def is_served(self, family: str) -> bool:
        """Is a worker alive that takes this family?"""
        return any(family in queues for queues, _ in self.workers)

    def free_threads(self, family: str, waiting: Collection[str]) -> int:
        """Threads of live workers that serve the family, plus a little that is published ahead.

        While another of the `waiting` families shares its workers, it gets at most most of them.
        """
        serving = [(queues, threads) for queues, threads in self.workers if family in queues]
        total: int = sum(threads for _, threads in serving)
        neighbours = {name for queues, _ in serving for name in queues}
        busy: int = sum(self.on_thread[name] for name in neighbours)
        ahead: int = sum(max(4, threads // 4) for _, threads in serving)
        free: int = total + ahead - busy
        if any(other in neighbours for other in waiting if other != family):
            mine: int = self.on_thread[family]
            free = min(free, int(total * MOST_OF_A_WORKER) + ahead - mine)
        return max(free, 0)

    def credential(self, verdict: Verdict) -> UUID | None:
        """Of the keys that may be used there the one with room that is least busy."""
        open_ = [id_ for id_ in verdict.credentials if not self._is_full(id_)]
        return min(open_, key=lambda id_: self.credentials[id_], default=None)

    def why_full(self, verdict: Verdict) -> tuple[str, str] | None:
        """`slots_full` or `credential_full` with a detail, None when there is room."""
        executor = verdict.executor
        used = self.executors[executor.id]
        if used >= executor.max_concurrency:
            return "slots_full", f"{used}/{executor.max_concurrency} slots"
        if verdict.credentials and self.credential(verdict) is None:
            return "credential_full", f"{len(verdict.credentials)} keys are at their limit"
        return None

    def _is_full(self, credential: UUID) -> bool:
        key = self.fleet.credentials[credential]
        if key.quota_left is not None and self.uses[credential] >= key.quota_left:
            return True
        return key.max_concurrency is not None and (
            self.credentials[credential] >= key.max_concurrency
        )

    def key_full(self, key: UUID | None) -> bool:
        limit = self.key_limits.get(key) if key else None
        return limit is not None and key is not None and self.keys[key] >= limit

    def full_keys(self) -> list[UUID]:
        return [key for key in self.key_limits if self.key_full(key)]
