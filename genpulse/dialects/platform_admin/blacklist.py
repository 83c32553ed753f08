"""`/api/admin/upload-blacklist`: users who may not upload."""

from typing import Annotated, Any

from pydantic import StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services
from genpulse.auth.models import Account
from genpulse.dialects.platform_admin.resources import ADMIN, AdminBody, PageQuery
from genpulse.errors import NotFound
from genpulse.http.views import DoorView


class Blocked(AdminBody):
    """`POST /api/admin/upload-blacklist`."""

    user_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    reason: Annotated[str, StringConstraints(max_length=200)] | None = None


class Blacklist(DoorView):
    """Users refused by upload-key and sts."""

    scopes = ADMIN
    bodies = {"POST": Blocked}
    queries = {"GET": PageQuery}

    def get(self, request: Request) -> Response:
        query = self.query(PageQuery)
        rows = Account.objects.filter(uploads_blocked=True).order_by("name")
        return Response([render(row) for row in rows[query.offset : query.offset + query.limit]])

    def post(self, request: Request) -> Response:
        body = self.parse(Blocked)
        account = services.get_or_create_user(body.user_id).account
        set_blocked(account, True, body.reason or "")
        return Response(render(account))


class BlockedUser(DoorView):
    """One of them; DELETE lets the user upload again."""

    scopes = ADMIN

    def get(self, request: Request, name: str) -> Response:
        return Response(render(blocked(name)))

    def delete(self, request: Request, name: str) -> Response:
        set_blocked(blocked(name), False, "")
        return Response({"status": "deleted"})


def blocked(name: str) -> Account:
    account = Account.objects.filter(name=name, uploads_blocked=True).first()
    if account is None:
        raise NotFound("This user is not on the list.")
    return account


def set_blocked(account: Account, wanted: bool, reason: str) -> None:
    account.uploads_blocked, account.uploads_blocked_reason = wanted, reason
    account.save(update_fields=["uploads_blocked", "uploads_blocked_reason"])


def render(account: Account) -> dict[str, Any]:
    return {"user_id": account.name, "reason": account.uploads_blocked_reason or None}
