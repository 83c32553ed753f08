"""`WS /api/notify/v1/stream`: what happens to one user's tasks and points, in the platform's words."""

import json
from collections.abc import Collection
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from genpulse import sql
from genpulse.dialects.platform.common import points
from genpulse.dialects.platform.tasks import WORDS as STATUS_WORDS
from genpulse.money import MICRO
from tasks import channels
from tasks.connection import Connection, Refused
from tasks.feeds import Shown
from tasks.hub import EVERYTHING, Loader, Watch
from tasks.models import TERMINAL, Status
from tasks.streams import DELTA

STATUS = {f"task.{status}": status for status in Status}
WALLET = {"wallet.held": "frozen", "wallet.charged": "deducted", "wallet.released": "released"}
ABILITY = "ability-task.status"
PROGRESS = "task.progress"
NAMES = """
SELECT id::text, coalesce(external_id, id::text), quoted FROM tasks_task WHERE id = ANY(%(ids)s::uuid[])
UNION ALL
SELECT id::text, nullif(reference, ''), amount FROM wallet_hold WHERE id = ANY(%(ids)s::uuid[])
"""
NAMES_KEPT = 1000


class Known(NamedTuple):
    """What events do not say: the client's own id of a task or hold, and its points in micro-credits."""

    name: str | None
    points: int


def known_of(ids: Collection[str]) -> dict[str, Known]:
    return {id_: Known(name, micro) for id_, name, micro in sql.fetch(NAMES, {"ids": list(ids)})}


class NotifySocket(Connection):
    """Subscribed to the own user from the beginning; what the client says is ignored."""

    async def prepare(self) -> None:
        self.names = Loader(known_of, self.hub.threads)
        self.kept: dict[str, Known] = {}
        self.progress: dict[str, int] = {}
        await self.hold()
        await self.join(self.given.account_id)

    async def begin(self) -> None:
        self.start(self._catch_up())
        self.start(self._pass_on_forever())

    async def _catch_up(self) -> None:
        """Beside the sender: a long replay waits until there is room."""
        try:
            await self.hold_back(self._replayed())
        except Refused as refused:
            self.say("error", code=refused.code, message=str(refused), id=None)

    async def _replayed(self) -> int:
        return await self.replay(self.query["cursor"]) if "cursor" in self.query else 0

    async def _pass_on_forever(self) -> None:
        """Operators' words, which are stored nowhere."""
        watch = Watch(EVERYTHING)
        with self.hub.hearing(watch, channels.said(self.given.account_id), channels.EVERYBODY):
            while True:
                _, passing = await watch.woken()
                for message in passing:
                    self.outbox.put(json.dumps(message), transient=True)

    def wants(self, owner: UUID | None, kind: str, task: str | None, batch: str | None) -> bool:
        return kind != DELTA

    def item_of(self, owner: UUID | None, event: Shown) -> Shown | None:
        return event if event.kind in {PROGRESS, ABILITY, *STATUS, *WALLET} else None

    async def worded(self, item: Any) -> str | None:
        if isinstance(item, str):
            return item
        event = json.loads(item.text(admin=False))
        said = await self._said(event)
        return json.dumps({"id": event["id"], **said, "at": event["at"]})

    async def _said(self, event: dict[str, Any]) -> dict[str, Any]:
        kind, data = event["type"], event["data"]
        if kind == ABILITY:
            return {"type": kind, "payload": data}
        known = await self._known(event["task_id"] or data["hold_id"])
        if kind in WALLET:
            balance = points(int(Decimal(data["available"]) * MICRO))
            told = {"taskId": known.name, "status": WALLET[kind], "balance": balance}
            return {"type": "wallet.points", "payload": told}
        status = STATUS.get(kind, Status.RUNNING)
        told = {
            "taskId": known.name,
            "status": STATUS_WORDS[status],
            "progress": self._progress(event, status),
            "points": points(known.points),
        }
        return {"type": "task.status", "payload": told}

    def _progress(self, event: dict[str, Any], status: Status) -> int:
        """As last heard; a new attempt begins at 0."""
        task = event["task_id"]
        if event["type"] == PROGRESS:
            self.progress[task] = event["data"]["progress"]
        elif status not in {Status.AWAITING, Status.VERIFYING, *TERMINAL}:
            self.progress.pop(task, None)
        if status == Status.SUCCEEDED:
            self.progress[task] = 100
        return (self.progress.pop if status in TERMINAL else self.progress.get)(task, 0)

    async def _known(self, id_: str) -> Known:
        if id_ not in self.kept:
            found = await self.names.load(id_)
            if found is None:  # hidden from the loader by a database that is away, or gone
                found = (await self.ask(lambda: known_of([id_]))).get(id_, Known(id_, 0))
            while len(self.kept) >= NAMES_KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[id_] = found
        return self.kept[id_]
