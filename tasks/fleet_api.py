"""Executors as operators see and steer them, the attempts made there, and what could not be read or recorded."""

from collections import Counter
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from pydantic import BaseModel, ConfigDict
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import condition, fleet, probes
from admin_integrations.models import Cooldown, Executor, Wish
from genpulse import sql
from genpulse.errors import NotFound
from genpulse.events.bells import ring_admit
from genpulse.events.log import NewEvent, append
from genpulse.http.pagination import paginate
from genpulse.http.parsing import AwareTime, Flag, render_time
from genpulse.http.views import NativeView
from genpulse.ids import parse_id
from tasks import insight
from tasks.api import TaskDoor
from tasks.attempts import render_attempts
from tasks.explain import explain
from tasks.models import Attempt, DeadLetter
from tasks.queue_api import ReasonBody
from tasks.render import extras

WISHES = {"pause": Wish.PAUSED, "drain": Wish.DRAINING, "resume": Wish.ACTIVE}
USED = "SELECT executor_id, count(*) FROM tasks_attempt WHERE slot GROUP BY executor_id"
STATES_OF_HEALTH = {"circuit_open", "unhealthy"}


class ExecutorDoor(NativeView):
    scopes: ClassVar[dict[str, str]] = {"GET": "admin", "POST": "admin"}

    @staticmethod
    def executor(reference: str) -> Executor:
        """By id or name. Raises NotFound."""
        key = parse_id(reference)
        rows = Executor.objects.prefetch_related("cooldowns")
        found = rows.filter(pk=key).first() if key else rows.filter(name=reference).first()
        if found is None:
            raise NotFound
        return found


class Executors(ExecutorDoor):
    """Executors with their slots and health."""

    def get(self, request: Request) -> Response:
        used = slots_used()
        rows = Executor.objects.prefetch_related("cooldowns")
        shown = paginate(rows, request.query_params.dict(), lambda row: render(row, used[row.id]))
        return Response(shown)


class OneExecutor(ExecutorDoor):
    """One executor, by id or name."""

    def get(self, request: Request, reference: str) -> Response:
        executor = self.executor(reference)
        return Response(render(executor, slots_used()[executor.id]))


class SteerExecutor(ExecutorDoor):
    """Pause, drain or resume an executor: what it works on ends normally."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": ReasonBody}
    verb: str = ""

    def post(self, request: Request, reference: str) -> Response:
        executor, reason = self.executor(reference), self.parse(ReasonBody).reason
        steer(executor, WISHES[self.verb], reason)
        return Response(render(self.executor(str(executor.id)), slots_used()[executor.id]))


class ProbeExecutor(ExecutorDoor):
    """Look now whether it answers, knows its key, and what it has."""

    def post(self, request: Request, reference: str) -> Response:
        executor = self.executor(reference)
        probes.check(executor.id)
        return Response(render(self.executor(str(executor.id)), slots_used()[executor.id]))


@transaction.atomic
def steer(executor: Executor, wish: str, reason: str) -> None:
    """Set the operator's wish and tell operators, when it is a new one."""
    changed = Executor.objects.filter(pk=executor.pk).exclude(status=wish)
    if not changed.update(status=wish, **({"removing": False} if wish == Wish.ACTIVE else {})):
        return
    data = {"executor": executor.name, "reason": reason, "state": str(wish)}
    append([NewEvent(account=None, type="executor.state", data=data)])
    transaction.on_commit(_changed, robust=True)


def _changed() -> None:
    fleet.forget()
    insight.forget()
    ring_admit()


def slots_used() -> Counter[UUID]:
    return Counter(dict(sql.fetch(USED)))


def render(executor: Executor, used: int) -> dict[str, Any]:
    cooldowns = [
        cold
        for cold in condition.in_force(list(executor.cooldowns.all()))
        if cold.credential_id is None
    ]
    return {
        "id": str(executor.id),
        "name": executor.name,
        "provider": executor.type,
        "base_url": executor.base_url,
        "region": executor.region,
        "weight": executor.weight,
        "max_concurrency": executor.max_concurrency,
        "tags": executor.tags,
        "dispatch": executor.dispatch,
        "status": executor.status,
        "state": state_of(executor, used, cooldowns),
        "slots": {"used": used, "max": executor.max_concurrency},
        "health": {
            "status": condition.word(executor),
            "login": executor.login,
            "checked_at": render_time(executor.checked_at),
            "message": executor.health_message,
        },
        "inventory": {
            "models": executor.known_models,
            "nodes": None if executor.known_nodes is None else len(executor.known_nodes),
            "version": executor.version,
            "loaded_model": executor.loaded_model or None,
        },
        "cooldown_until": render_time(_last(cooldowns)),
    }


def state_of(executor: Executor, used: int, cooldowns: list[Cooldown]) -> str:
    """The operator's wish, or what stands in the way of an active one as a whole."""
    if executor.status == Wish.DRAINING and not used:
        return "drained"
    whole = {cold.reason for cold in cooldowns if not cold.model}
    if executor.status != Wish.ACTIVE or not whole:
        return executor.status
    return min(whole & STATES_OF_HEALTH, default="cooling_down")


def _last(cooldowns: list[Cooldown]) -> datetime | None:
    return max((cold.until for cold in cooldowns if cold.until), default=None)


class Explain(TaskDoor):
    """Why a task is where it is: its place, its limits, and a verdict on each executor."""

    def get(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        return Response(explain(task, extras([task.id])[task.id]))


class TaskAttempts(TaskDoor):
    """Every try of one task."""

    def get(self, request: Request, id_: str) -> Response:
        rows = Attempt.objects.filter(task=self.task(id_)).order_by("number")
        admin = self.credential.has("admin")
        return Response({"items": render_attempts(list(rows), admin=admin)})


class AttemptFilter(BaseModel):
    """What the list of attempts may be narrowed by."""

    model_config = ConfigDict(extra="ignore")

    late: Flag | None = None
    possible_cost: Flag | None = None
    executor: str | None = None
    provider: str | None = None
    since: AwareTime | None = None
    until: AwareTime | None = None

    def apply(self, attempts: QuerySet[Attempt]) -> QuerySet[Attempt]:
        wanted = {
            "late": self.late,
            "possible_cost": self.possible_cost,
            "executor": self.executor,
            "provider": self.provider,
            "created_at__gte": self.since,
            "created_at__lt": self.until,
        }
        return attempts.filter(**{name: v for name, v in wanted.items() if v is not None})


class Attempts(NativeView):
    """Attempts of all tasks: late results, possible costs."""

    scopes: ClassVar[dict[str, str]] = {"GET": "admin"}
    queries: ClassVar[dict[str, type[BaseModel]]] = {"GET": AttemptFilter}

    def get(self, request: Request) -> Response:
        rows = self.query(AttemptFilter).apply(Attempt.objects.all())
        page = paginate(rows, request.query_params.dict(), lambda attempt: attempt)
        page["items"] = render_attempts(page["items"], admin=True, of_tasks=True)
        return Response(page)


class DeadLetters(NativeView):
    """Malformed broker messages, and outcomes that could not be recorded."""

    scopes: ClassVar[dict[str, str]] = {"GET": "admin"}

    def get(self, request: Request) -> Response:
        def shown(letter: DeadLetter) -> dict[str, Any]:
            return {
                "id": str(letter.id),
                "source": letter.source,
                "original_id": letter.original_id,
                "error": letter.error,
                "raw_payload": letter.raw_payload,
                "failed_at": render_time(letter.failed_at),
            }

        return Response(paginate(DeadLetter.objects.all(), request.query_params.dict(), shown))


class OneDeadLetter(NativeView):
    scopes: ClassVar[dict[str, str]] = {"DELETE": "admin"}

    def delete(self, request: Request, id_: str) -> Response:
        key = parse_id(id_)
        if key is None or not DeadLetter.objects.filter(pk=key).delete()[0]:
            raise NotFound
        return Response(status=204)
