"""`POST /api/notify/v1/event`: an operator's word to one user's open connections, or to everybody's."""

from datetime import UTC, datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services
from genpulse.dialects.platform.common import PlatformDoor
from genpulse.errors import ValidationFailed
from genpulse.events import bells
from genpulse.http.parsing import render_time
from tasks import channels


class Event(PlatformDoor):
    """Any JSON object; `userId` in it addresses one user. It is not stored."""

    scopes = {"POST": "admin"}

    def post(self, request: Request) -> Response:
        payload = self.body
        name = payload.get("userId", payload.get("user_id"))
        channel = channel_of(name)
        if channel is not None:
            at = render_time(datetime.now(UTC))
            bells.ring({channel: {"id": None, "type": "custom", "payload": payload, "at": at}})
        return Response({"success": True})


def channel_of(name: Any) -> str | None:
    """Where a user's open connections listen, None when there is no such user; everybody's without a name."""
    if name is None:
        return channels.EVERYBODY
    if not isinstance(name, str):
        raise ValidationFailed.of("userId", "type", "want a user's name")
    services.check_name(name, "userId")
    user = services.find_user(name)
    return channels.said(user.account_id) if user else None
