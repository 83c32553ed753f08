"""`/api/v1/queues`: look at queues, pause, drain, resume, purge, promote. Operators only."""

from typing import ClassVar

from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import states
from genpulse.auth.services import find_user
from genpulse.errors import NotFound, ValidationFailed
from genpulse.http.parsing import Body, Duration, Id
from genpulse.http.views import NativeView
from tasks import queues, verbs
from tasks.models import Task
from tasks.render import extras, render_task
from tasks.requests import PriorityLevel

STATES = {"pause": states.PAUSED, "drain": states.DRAINING, "resume": states.ACTIVE}


class ReasonBody(Body):
    """Why, for those who look at the queue."""

    reason: str = Field("", max_length=200)


class PurgeBody(Body):
    """`confirm` repeats the family; the others narrow what is canceled."""

    confirm: str | None = None
    priority: PriorityLevel | None = None
    user: str | None = Field(None, min_length=1, max_length=128)
    older_than: Duration | None = None


class PromoteBody(Body):
    task_id: Id


class QueueDoor(NativeView):
    scopes: ClassVar[dict[str, str]] = {"GET": "admin", "POST": "admin"}


class Queues(QueueDoor):
    """Every queue with its counts."""

    def get(self, request: Request) -> Response:
        return Response({"items": queues.show()})


class OneQueue(QueueDoor):
    """One queue with its counts."""

    def get(self, request: Request, family: str) -> Response:
        return Response(queues.show(queues.known(family))[0])


class SteerAll(QueueDoor):
    """Pause, drain or resume every queue, also those of families that appear later."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": ReasonBody}
    verb: str = ""

    def post(self, request: Request) -> Response:
        queues.set_state(states.EVERY, STATES[self.verb], self.parse(ReasonBody).reason)
        return Response({"items": queues.show()})


class Steer(QueueDoor):
    """Pause, drain or resume one queue. Repeating it changes nothing."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": ReasonBody}
    verb: str = ""

    def post(self, request: Request, family: str) -> Response:
        queues.set_state(queues.known(family), STATES[self.verb], self.parse(ReasonBody).reason)
        return Response(queues.show(family)[0])


class Purge(QueueDoor):
    """Cancel the queued and blocked tasks of a queue; their holds are released."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": PurgeBody}

    def post(self, request: Request, family: str) -> Response:
        wanted = self.parse(PurgeBody)
        if wanted.confirm != queues.known(family):
            code = "required" if wanted.confirm is None else "choice"
            raise ValidationFailed.of("confirm", code, f"repeat the name of the queue: {family}")  # type: ignore[arg-type]
        owner = find_user(wanted.user) if wanted.user else None
        if wanted.user and owner is None:
            return Response({"canceled": 0})
        canceled = queues.purge(
            family,
            by=self.credential.user.name,
            priority=wanted.priority,
            account=owner.account_id if owner else None,
            older_than=wanted.older_than,
        )
        return Response({"canceled": canceled})


class Promote(QueueDoor):
    """Move a task to the head of its own user's line."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": PromoteBody}

    def post(self, request: Request, family: str) -> Response:
        wanted = self.parse(PromoteBody).task_id
        task = Task.objects.filter(pk=wanted, family=queues.known(family), hidden_at=None).first()
        if task is None:
            raise NotFound
        verbs.promote(task, by=self.credential.user.name)
        task.refresh_from_db()
        return Response(render_task(task, extras([task.id])[task.id], admin=True))
