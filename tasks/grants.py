"""The right to an open connection: given for a ticket or a credential, and looked at again every second."""

import json
import re
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services, tokens
from genpulse.auth.authentication import from_headers
from genpulse.auth.credentials import Credential
from genpulse.auth.models import ApiKey, User
from genpulse.errors import Problem
from genpulse.events.bells import live
from genpulse.http.views import NativeView
from tasks import channels

TICKET_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Whose events are shown, and on what ground. `key` and `mark` are empty where they do not apply."""

    name: str
    account: str
    user: str  # the owner of the credential
    key: str
    mark: str  # of the password, for log-ins
    role: str
    admin: bool
    everybody: bool  # may look at any user's tasks

    @property
    def account_id(self) -> UUID:
        return UUID(self.account)

    def sees(self, account: UUID) -> bool:
        return self.everybody or account == self.account_id


def grant(credential: Credential, shown: User, *, named: bool) -> Grant:
    """`shown` is the user acted for; one that was named narrows what the connection may see."""
    personal = credential.type != "api_key"
    return Grant(
        name=shown.name,
        account=str(shown.account.id),
        user=str(credential.user.id),
        key=str(credential.key.id) if credential.key else "",
        mark=tokens.password_mark(credential.user) if personal else "",
        role=credential.user.role if personal else "",
        admin=credential.has("admin"),
        everybody=credential.names_others and not named,
    )


def in_force(grants: Collection[Grant]) -> dict[Grant, bool]:
    """Which of them would be given again."""
    users = User.objects.in_bulk({UUID(one.user) for one in grants})
    fresh = Q(expires_at=None) | Q(expires_at__gt=Now())
    keys = ApiKey.objects.filter(fresh, revoked_at=None, pk__in=[g.key for g in grants if g.key])
    valid = {str(key) for key in keys.values_list("pk", flat=True)}
    return {one: _holds(one, users.get(UUID(one.user)), valid) for one in grants}


def _holds(one: Grant, user: User | None, keys: Collection[str]) -> bool:
    if user is None or not user.is_active or (one.key and one.key not in keys):
        return False
    return not one.mark or (one.mark == tokens.password_mark(user) and one.role == user.role)


def read(text: bytes | str) -> Grant:
    return Grant(**json.loads(text))


class Ticket(NativeView):
    """A ticket for one WebSocket: browsers cannot send a header with it, and a credential has no place in a URL."""

    scopes: ClassVar[dict[str, str]] = {"POST": "tasks:read"}
    statuses: ClassVar[dict[str, int]] = {"POST": 201}

    def post(self, request: Request) -> Response:
        named = "X-GenPulse-User" in request.headers
        given: dict[str, Any] = asdict(grant(self.credential, self.user, named=named))
        secret = secrets.token_urlsafe(32)
        live().set(channels.ticket(secret), json.dumps(given), ex=TICKET_SECONDS)
        body = {
            "ticket": secret,
            "expires_in": TICKET_SECONDS,
            "url": f"/ws/events?ticket={secret}",
        }
        return Response(body, status=201)


def authenticated(headers: dict[str, str], address: str) -> Grant | None:
    """By `Authorization` or `X-API-Key`, acting for `X-GenPulse-User`; None when that does not do."""
    credentials = {name.title(): value for name, value in headers.items()}
    name = headers.get("x-genpulse-user")
    try:
        credential = from_headers({**credentials, "X-API-Key": headers.get("x-api-key")}, address)  # type: ignore[dict-item]
        if credential is None or not credential.has("tasks:read"):
            return None
        shown = services.acting_user(credential, name, create=False)
    except Problem:
        return None
    return grant(credential, shown, named=name is not None)


def origin_allowed(headers: dict[str, str]) -> bool:
    """No Origin, our own, or one that CORS allows: a foreign page must not listen with a stolen ticket."""
    origin = headers.get("origin")
    if origin is None:
        return True
    if urlsplit(origin).netloc == headers.get("host") or origin in settings.CORS_ALLOWED_ORIGINS:
        return True
    return any(re.match(pattern, origin) for pattern in settings.CORS_ALLOWED_ORIGIN_REGEXES)
