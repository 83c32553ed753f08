"""The AI service dialect's providers, queues and users."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, cast

from django.db import transaction
from pydantic import BaseModel, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import fleet
from genpulse import sql
from genpulse.auth import services as accounts
from genpulse.auth.models import User
from genpulse.auth.services import UserChanges
from genpulse.dialects.accounts.bodies import Email
from genpulse.dialects.ai_service import AiDoor
from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.models import Idempotency
from genpulse.http.parsing import render_time
from genpulse.ids import parse_id
from providers import registry
from tasks.render import PRIORITY_NAMES

# What has ended counts for a day.
QUEUES = """
SELECT priority,
  count(*) FILTER (WHERE status IN ('queued', 'blocked') AND ready) AS pending,
  count(*) FILTER (WHERE status IN ('admitted', 'running', 'awaiting', 'verifying')) AS active,
  count(*) FILTER (WHERE status = 'queued' AND NOT ready AND attempt = 0) AS scheduled,
  count(*) FILTER (WHERE status = 'queued' AND NOT ready AND attempt > 0) AS retry,
  count(*) FILTER (WHERE status IN ('canceled', 'expired')) AS archived,
  count(*) FILTER (WHERE status = 'succeeded') AS completed,
  count(*) FILTER (WHERE status IN ('succeeded', 'failed')) AS processed,
  count(*) FILTER (WHERE status = 'failed') AS failed
FROM tasks_task WHERE finished_at IS NULL OR finished_at > now() - interval '1 day' GROUP BY priority
"""
COLUMNS = (
    "pending",
    "active",
    "scheduled",
    "retry",
    "archived",
    "completed",
    "processed",
    "failed",
)


class Providers(AiDoor):
    """Every provider, and whether it can be used now."""

    def get(self, request: Request) -> Response:
        items = [
            {
                "name": provider.name,
                "status": condition(provider.name),
                "models": [model.name for model in provider.models],
            }
            for provider in registry.all_providers()
        ]
        return Response({"success": True, "data": {"providers": items}, "message": "查询成功"})


def condition(provider: str) -> str:
    """ready, not_configured, or down: all its executors are off or in trouble."""
    now = fleet.current()
    mine = [executor for executor in now.executors if executor.type == provider]
    if not mine:
        return "not_configured"
    troubled = {
        cold.executor_id
        for cold in now.cooldowns
        if cold.reason in fleet.HEALTH | fleet.HARD and not cold.model and not cold.over
    }
    working = [e for e in mine if e.status == "active" and e.id not in troubled]
    return "ready" if working else "down"


class QueueStats(AiDoor):
    """Tasks by priority and state."""

    scopes: ClassVar[dict[str, str]] = {"GET": "admin"}

    def get(self, request: Request) -> Response:
        queues: dict[str, dict[str, int]] = {
            name: dict.fromkeys(COLUMNS, 0) for name in PRIORITY_NAMES.values()
        }
        for row in sql.fetch_dicts(QUEUES):
            queues[PRIORITY_NAMES[row.pop("priority")]] = row
        data = {"queues": queues, "timestamp": render_time(datetime.now(UTC))}
        return Response({"success": True, "data": data, "message": "查询成功"})


Name = Annotated[str, StringConstraints(min_length=2, max_length=50)]


class UserIn(BaseModel):
    email: Email
    name: Name


class UserPut(BaseModel):
    """What is not sent stays as it is."""

    email: Email | None = None
    name: Name | None = None


class Users(AiDoor):
    scopes: ClassVar[dict[str, str]] = {"GET": "admin", "POST": "admin"}
    bodies = {"POST": UserIn}
    statuses = {"POST": 201}

    def get(self, request: Request) -> Response:
        found = [render(user) for user in User.objects.filter(is_active=True).order_by("-id")[:100]]
        return Response({"success": True, "data": {"users": found}, "message": "查询成功"})

    def post(self, request: Request) -> Response:
        body = self.parse(UserIn)
        return self.reply(self.once(lambda: self.create(body)))

    @staticmethod
    def create(body: UserIn) -> Answer:
        user = accounts.create_user(body.name, email=body.email)
        user.refresh_from_db()
        return Answer(status=201, body=said(user, "用户已创建"), object_id=user.id)


class OneUser(AiDoor):
    """DELETE disables: what a user has paid for stays in the books."""

    scopes: ClassVar[dict[str, str]] = {"GET": "admin", "PUT": "admin", "DELETE": "admin"}
    bodies = {"PUT": UserPut}

    def get(self, request: Request, id_: str) -> Response:
        return Response(said(known(id_), "查询成功"))

    def put(self, request: Request, id_: str) -> Response:
        user, changes = known(id_), self.parse(UserPut).model_dump(exclude_none=True)
        called = user.name
        with transaction.atomic():
            accounts.change_user(user, cast("UserChanges", changes), {})
            Idempotency.objects.filter(owner=called).update(owner=user.name)
        user.refresh_from_db()
        return Response(said(user, "用户已更新"))

    def delete(self, request: Request, id_: str) -> Response:
        user = known(id_)
        accounts.change_user(user, UserChanges(is_active=False), {})
        return Response({"success": True, "data": {"id": str(user.id)}, "message": "用户已删除"})


def known(id_: str) -> User:
    """By id or name. Raises NotFound."""
    key = parse_id(id_)
    users = User.objects.filter(is_active=True)
    user = users.filter(pk=key).first() if key else users.filter(name=id_).first()
    if user is None:
        raise NotFound("No such user.")
    return user


def said(user: User, message: str) -> dict[str, Any]:
    return {"success": True, "data": render(user), "message": message}


def render(user: User) -> dict[str, Any]:
    return {
        "id": str(user.id),
        "email": user.email,
        "name": user.name,
        "created_at": render_time(user.created_at),
        "updated_at": render_time(user.updated_at),
    }
