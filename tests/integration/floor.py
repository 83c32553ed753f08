"""A shop floor for tests of admission: executors, a worker, tenants with backlogs, and rounds counted one by one.

No process runs. `admit` is a round of the leader; `finish` ends what was admitted, in the order it was.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone

from admin_integrations import fleet
from admin_integrations.fleet import RouteView
from admin_integrations.models import Executor
from genpulse import sql
from genpulse.auth import services as people
from genpulse.auth.models import Account
from genpulse.ids import new_id
from tasks import admission, insight, routes
from tasks.models import Worker
from tests.integration.cast import Caller, caller
from wallet import services as wallet

LEVELS = {"critical": 0, "default": 1, "low": 2}
INSERT = """
INSERT INTO tasks_task (id, account_id, route_id, family, provider, model, task_type, source, status, priority, ready,
  timeout, key_id, quoted, superseded, rank, attempt, tries, here, crashes, alone_crashes, waited, max_attempts,
  cancel_requested, stream, charged, seq, phase, ran, store, tags)
SELECT id, %s, %s, %s, %s, %s, 'chat', 'native', 'queued', %s, true, 60, %s, %s, false, 0, 0, 0, 0, 0, 0, 0, 5,
  false, false, 0, 1, '', 0, true, '{}' FROM unnest(%s::uuid[]) AS new(id)
"""
FREE = "UPDATE tasks_attempt SET slot = false, stage = 'closed', outcome = 'succeeded', finished_at = now() WHERE task_id = ANY(%s)"
END = "UPDATE tasks_task SET status = 'succeeded', finished_at = now(), hold_id = NULL WHERE id = ANY(%s)"


class Floor:
    """What the tests act on; `order` is everything that was admitted, first to last."""

    def __init__(self) -> None:
        self.order: list[UUID] = []
        self.active: list[UUID] = []
        self.of: dict[UUID, str] = {}
        for memory in (admission.served, admission.loaded, admission.passed_by):
            memory.clear()

    def executor(
        self, name: str, slots: int = 1, provider: str = "sandbox", **more: Any
    ) -> Executor:
        made = Executor.objects.create(name=name, type=provider, max_concurrency=slots, **more)
        fleet.forget()
        return made

    def worker(self, *families: str, threads: int = 1000) -> Worker:
        names = list(families or ("sandbox",))
        return Worker.objects.create(
            name=f"w-{new_id()}",
            queues=names,
            threads=threads,
            free=threads,
            last_seen=timezone.now() + timedelta(hours=1),  # its heart beats through long tests
        )

    def tenant(self, name: str, **limits: Any) -> Account:
        account = people.get_or_create_user(name).account
        Account.objects.filter(pk=account.pk).update(**limits)
        return account

    def queue(
        self,
        tenant: str,
        tasks: int,
        level: str = "default",
        model: str = "sandbox-text",
        **more: Any,
    ) -> list[UUID]:
        """`tasks` more tasks of one tenant in one lane. `more`: key, quoted, family, provider, and route filters."""
        family, provider = more.pop("family", "sandbox"), more.pop("provider", "sandbox")
        key, quoted = more.pop("key", None), more.pop("quoted", 0)
        view = RouteView(id=0, family=family, provider=provider, model=model, **more)
        route = routes.find_or_make(view).id
        account = people.get_or_create_user(tenant).account_id
        ids = [new_id() for _ in range(tasks)]
        given = [account, route, family, provider, model, LEVELS[level], key, quoted, ids]
        sql.execute(INSERT, given)
        self.of.update(dict.fromkeys(ids, f"{tenant}/{level}"))
        return ids

    def admit(self) -> list[UUID]:
        """One round; the tasks admitted, in order."""
        fleet.forget()
        with transaction.atomic():
            done = [applied.task.id for applied in admission.admit() if applied.task]
        self.order += done
        self.active += done
        return done

    def finish(self, count: int | None = None) -> None:
        """The oldest `count` of what is active ends well (None: all of it)."""
        ending, self.active = self.active[:count], self.active[count or len(self.active) :]
        sql.execute(FREE, [ending])
        sql.execute(END, [ending])

    def run(self, rounds: int, finishing: int | None = None) -> Counter[str]:
        """Rounds with `finishing` ends after each; how many of each tenant/level were admitted."""
        before = len(self.order)
        for _ in range(rounds):
            self.admit()
            self.finish(finishing)
        return self.counts(self.order[before:])

    def counts(self, ids: Sequence[UUID]) -> Counter[str]:
        return Counter(self.of[id_] for id_ in ids)


TASKS, QUEUES = "/api/v1/tasks", "/api/v1/queues"
GOOD = {"model": "sandbox-text", "input": {"prompt": "hi"}}


def rich(name: str) -> Caller:
    """A caller with credits."""
    who = caller(name)
    wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return who


def submit(who: Caller, expect: int = 201, **fields: Any) -> Any:
    """The answer to a submit; what the process knew of lanes is a second old at most, so it is forgotten."""
    insight.forget()
    answer = who.post(TASKS, {**GOOD, **fields})
    assert answer.status_code == expect, answer.content
    return answer.json()


def ask(who: Caller, task: dict[str, Any], what: str = "") -> Any:
    """The task, or `what` below it, as it is now."""
    insight.forget()
    return who.get(f"{TASKS}/{task['id']}{what}").json()


@pytest.fixture
def floor(db: None) -> Floor:
    return Floor()


@pytest.fixture
def root(db: None) -> Caller:
    return caller("root", "admin")


@pytest.fixture
def alice(db: None) -> Caller:
    return rich("alice")
