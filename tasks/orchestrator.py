"""The orchestrator: loops over SQL, each with its tick, each in a thread of its own.

    admit    leader only    waiting tasks -> slots, fair; woken by the bell at once
    review   leader only    routes nobody can serve -> blocked, and back
    poll     every replica  vendor jobs whose next look is due
    reap     every replica  dead workers, lost messages, deadlines
    chores   every replica  slow periodic work, claimed as rows
    medians  every replica  what a task of each family costs, for fair shares
    deliver  every replica  webhooks that are due
    alone    leader only    the quarantine worker, when suspect tasks wait for it

Any number of replicas may run. The database decides who leads; Redis being away costs a tick.
"""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

import redis
import structlog
from django.db import Error as DatabaseError
from django.db import connection, transaction

from admin_integrations import fleet
from genpulse import meters, sql
from genpulse.config import config
from genpulse.events import bells
from tasks import admission, blocking, capacity, chores, publish, timers, webhooks
from tasks.leader import STUCK, Lease
from tasks.lifecycle import Applied
from tasks.quarantine import Quarantine

log = structlog.get_logger(__name__)
ROUND_PAUSE = 0.005  # rounds are coalesced to one per 5 ms
REVIEW_EVERY = 4  # ticks of admit


@dataclass(frozen=True)
class Loop:
    """Something to do every `tick` seconds."""

    name: str
    tick: float
    run: Callable[[], object]


class Orchestrator:
    """All loops of one process. `run` returns when `stop` was called."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.bell = threading.Event()
        self.lease = Lease()
        self.leading = False
        self.quarantine = Quarantine()

    def run(self) -> None:
        loops = [
            Loop("poll", config.tick_poll, timers.due),
            Loop("reap", config.tick_reap, self.reap),
            Loop("deliver", config.tick_deliver, webhooks.due),
            Loop("chores", min(config.tick_chores, 5), chores.claim),
            Loop("medians", config.tick_chores, admission.refresh_medians),
            Loop("alone", config.tick_reap, self.isolate),
        ]
        threads = [
            threading.Thread(target=self._every, args=[loop], name=loop.name) for loop in loops
        ]
        threads.append(threading.Thread(target=self._listen, name="bell", daemon=True))
        for thread in threads:
            thread.start()
        self._admit_forever()
        for thread in threads:
            thread.join(timeout=5)
        self.lease.release()

    def stop(self, *_: object) -> None:
        self.stopping.set()
        self.bell.set()

    @staticmethod
    def reap() -> None:
        timers.wake()
        meters.healed.labels("lease_expired").inc(timers.reap())
        meters.healed.labels("lost_message").inc(timers.republish())
        timers.expire()
        timers.end_races()

    def isolate(self) -> None:
        if self.leading:
            self.quarantine.ensure()

    def _every(self, loop: Loop) -> None:
        while not self.stopping.wait(loop.tick):
            guarded(loop.name, loop.run)
        connection.close()

    def _admit_forever(self) -> None:
        ticks = 0
        while not self.stopping.is_set():
            rung = self.bell.wait(config.tick_admit)
            self.bell.clear()
            guarded("admit", self._admit_all)
            ticks += not rung
            if self.leading and ticks % REVIEW_EVERY == 0:
                guarded("review", blocking.review)
            time.sleep(ROUND_PAUSE)

    def _admit_all(self) -> None:
        """Rounds until nothing more fits."""
        while not self.stopping.is_set():
            admitted = self.round()
            if len(admitted) < admission.MOST_PER_ROUND // 2:
                return

    def round(self) -> Sequence[Applied]:
        """One round as the leader; nothing as anybody else. Workers hear of it before those who listen to events."""
        admitted: list[Applied] = []
        with meters.admit_seconds.time(), transaction.atomic():
            transaction.on_commit(lambda: publish.publish(messages(admitted)))
            with sql.together(STUCK):
                asked, used = self.lease.ask(), capacity.ask()
                self.leading = self.lease.hold(asked)
                admitted += admission.admit(used) if self.leading else []
        return admitted

    def _listen(self) -> None:
        """The doorbell; without it admission still happens every tick."""
        while not self.stopping.is_set():
            try:
                for _ in bells.listen(bells.ADMIT, self.stopping):
                    self.bell.set()
            except redis.RedisError:
                time.sleep(config.tick_admit)


def messages(admitted: Sequence[Applied]) -> list[publish.Message]:
    return publish.submits(
        (
            done.task.id,
            done.task.attempt,
            publish.QUARANTINE if done.task.suspect else done.task.family,
            done.task.priority,
        )
        for done in admitted
        if done.task
    )


def guarded(name: str, run: Callable[[], object]) -> None:
    """A loop survives what one of its rounds meets; the database is asked again next tick."""
    try:
        with meters.tick_seconds.labels(name).time():
            run()
    except DatabaseError as error:
        log.warning("loop.database", loop=name, error=type(error).__name__)
        connection.close()
        fleet.forget()
        time.sleep(0.1)
    except Exception:
        log.exception("loop.failed", loop=name)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    orchestrator = Orchestrator()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        orchestrator.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    orchestrator.run()
