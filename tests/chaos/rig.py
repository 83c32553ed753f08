"""What experiments stand on: processes and servers they may break, people, executors, and counts to report."""

import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import redis
from django.db import InterfaceError, OperationalError, connection

from admin_integrations import fleet, vault
from admin_integrations.models import Credential, Executor
from genpulse import sql
from genpulse.embedded import Postgres, Running, Valkey
from genpulse.ids import new_id
from providers.testing import CREDENTIAL
from tasks import audit
from tasks.models import TERMINAL, Task
from tests.integration import stack as stacks
from tests.integration.cast import Caller, caller
from tests.integration.stack import Stack, forget_everything
from wallet import services as wallet

T = TypeVar("T")
_numbers = itertools.count(1)
PATIENCE = 120.0  # seconds for what is sure to come, however busy the machine is
RETURNED = 30.0  # seconds a server may take to come back
REPLACED = "SELECT count(*) FROM tasks_attempt WHERE outcome = 'replaced' AND task_id = ANY(%s)"
HEALED = """
SELECT count(*) FROM tasks_attempt WHERE published_at > created_at + interval '0.5 seconds' AND task_id = ANY(%s)
"""
DOUBLED = "SELECT count(*) FROM tasks_attempt WHERE task_id = ANY(%s) AND possible_cost"


@dataclass
class Server:
    """One of the two servers; `start` starts it where it was."""

    recipe: Postgres | Valkey
    running: Running

    def kill(self, sig: int) -> None:
        self.running.process.send_signal(sig)
        self.running.process.wait(30)

    def start(self) -> None:
        self.running = self.recipe.start()


@dataclass
class Rig:
    """`scale` 1 is the full size. The servers are None where they are not ours to break."""

    stack: Stack
    valkey: Server | None = None
    postgres: Server | None = None
    scale: float = 1.0
    seed: int = field(default_factory=lambda: random.randrange(1 << 30))
    log: Path | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.counts: Counter[str] = Counter()
        self.sometimes: dict[str, tuple[int, int]] = {}

    def some(self, full: int, least: int = 1) -> int:
        """`full` at scale 1."""
        return max(round(full * self.scale), least)

    @property
    def crew(self) -> tuple[str, ...]:
        """The workers where one would do: starting more costs a small run more than the run."""
        return ("worker", "worker-2") if self.scale >= 1 else ("worker",)

    @property
    def broker(self) -> "redis.Redis":
        return redis.Redis.from_url(self.stack.environment["REDIS_URL"], socket_timeout=5)

    def restart(self, name: str) -> None:
        """kill -9, and another one in its place."""
        self.stack.restart(name)
        self.counts[f"killed {name.partition('-')[0]}"] += 1

    def hit(self, what: str, count: int, least: int = 1, *, by_chance: bool = False) -> None:
        """Say how often the window was hit; fewer than `least` times is a run that proves nothing.

        `by_chance`: small runs may miss it.
        """
        self.sometimes[what] = (count, 0 if by_chance and self.scale < 1 else least)

    def finish(self, name: str) -> None:
        """Print what happened; fail when an invariant is broken or the window was missed."""
        said = {
            "experiment": name,
            "seed": self.seed,
            "scale": self.scale,
            "counts": dict(self.counts),
            "sometimes": {what: count for what, (count, _) in self.sometimes.items()},
        }
        print(json.dumps(said), flush=True)  # noqa: T201 - this is the report
        assert not (found := audit.breaches()), found
        missed = [what for what, (count, least) in self.sometimes.items() if count < least]
        assert not missed, f"not exercised: {missed}, seed {self.seed}"
        self.sometimes.clear()
        self.counts.clear()

    # --- Who and where

    def owner(self) -> Caller:
        who = caller(f"chaos-{next(_numbers)}", "tasks", "read", "admin")
        wallet.deposit(who.user.account_id, 10**12, reason="chaos")
        return who

    def executor(
        self, kind: str = "sandbox", url: str = "", slots: int = 512, **config: Any
    ) -> Executor:
        made = Executor.objects.create(
            name=f"{kind}-{next(_numbers)}",
            type=kind,
            base_url=url,
            max_concurrency=slots,
            config=config,
        )
        if url:
            id_ = new_id()
            sealed = vault.encrypt(CREDENTIAL, owner=id_)
            made.credentials.add(
                Credential.objects.create(
                    id=id_, provider=kind, name=made.name, ciphertext=sealed, last4="0000"
                )
            )
        fleet.forget()
        return made

    # --- Work

    def submit(self, who: Caller, model: str, at: Executor, count: int, **fields: Any) -> list[str]:
        """`count` tasks, each with a prompt of its own; `vary(number)` gives sandbox controls for one."""
        vary = fields.pop("vary", None)
        inputs = fields.pop("input", None)
        ids = []
        for number in range(count):
            given = dict(inputs or {"prompt": f"{at.name} {next(_numbers)}"})
            if vary is not None:
                given["sandbox"] = vary(number)
            body = {"model": model, "input": given, "executor": {"only": [at.name]}, **fields}
            answer = who.post("/api/v1/tasks", body)
            assert answer.status_code == 201, answer.content
            ids.append(answer.json()["id"])
        self.counts["submitted"] += count
        return ids

    def ended(self, ids: Sequence[str], seconds: float = 300) -> list[Task]:
        """The tasks, when all have ended; also over a database that comes and goes."""
        until = time.monotonic() + seconds
        while True:
            tasks: list[Task] = patiently(
                lambda: list(Task.objects.filter(pk__in=ids).order_by("pk"))
            )
            open_ = [task for task in tasks if task.status not in TERMINAL]
            if not open_ and len(tasks) == len(ids):
                break
            assert time.monotonic() < until, (
                f"{len(open_)} of {len(ids)} have not ended in {seconds} s, {len(tasks)} exist, seed {self.seed}: "
                f"{Counter((task.status, task.phase) for task in open_)}"
            )
            time.sleep(0.2)
        self.counts.update(f"ended {task.status}" for task in tasks)
        return tasks

    def succeeded(self, ids: Sequence[str], seconds: float = 300) -> list[Task]:
        """As `ended`, and all of them well, without a try that counted."""
        tasks = self.ended(ids, seconds)
        odd = [(str(t.id), t.status, t.tries) for t in tasks if t.status != "succeeded" or t.tries]
        assert not odd, f"seed {self.seed}: {odd[:5]}"
        return tasks

    def count(self, query: str, ids: Sequence[str]) -> int:
        return int(patiently(lambda: sql.fetch(query, [list(ids)]))[0][0])

    def refused(self) -> int:
        """How many claims came too late."""
        return self.logged("claim.refused")

    def logged(self, event: str) -> int:
        """How often the processes logged it."""
        text = self.log.read_text() if self.log and self.log.exists() else ""
        return text.count(f'"{event}"')

    def queued(self, family: str) -> int:
        """Messages that nobody has taken, of every priority."""
        with self.broker as broker:
            return sum(
                int(broker.llen(key)) for key in broker.scan_iter(f"gp:{family}*", _type="list")
            )


def eventually(check: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The first true answer of `check`; fails when none comes in time."""
    return stacks.eventually(check, seconds)


def patiently(ask: Callable[[], Any], seconds: float = RETURNED) -> Any:
    """The answer of a database that may be away for a while."""
    until = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (OperationalError, InterfaceError):
            connection.close()
            assert time.monotonic() < until, "the database did not come back"
            time.sleep(0.1)


@contextmanager
def meanwhile(do: Callable[[], object], every: Callable[[], float]) -> Iterator[None]:
    """Again and again beside the block; what it raises fails the block at its end."""
    stop, failed = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not stop.wait(every()):
                do()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def fresh() -> None:
    """What this process remembers of an installation that changed under it."""
    forget_everything()
