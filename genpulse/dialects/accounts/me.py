"""`GET /api/v1/me`: who am I, what may I do, what have I left."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth.credentials import Credential
from genpulse.auth.models import Account
from genpulse.config import config
from genpulse.dialects.accounts.renders import render_person
from genpulse.http import ratelimit
from genpulse.http.views import NativeView
from wallet.api import render_wallet


class MeView(NativeView):
    """Any credential; `X-GenPulse-User` shows the user acted for."""

    def get(self, request: Request) -> Response:
        user = self.user
        return Response(
            {
                "user": render_person(user),
                "credential": render_credential(self.credential),
                "wallet": render_wallet(user.account),
                "limits": render_limits(self.credential, user.account),
            }
        )


def render_credential(credential: Credential) -> dict[str, Any]:
    return {
        "type": credential.type,
        "id": credential.id,
        "name": credential.name,
        "scopes": sorted(credential.scopes),
    }


def render_limits(credential: Credential, account: Account) -> dict[str, Any]:
    """null: no limit. Rates are requests a minute."""
    writes, reads = ratelimit.limits(credential)
    own, key = account.max_concurrency, credential.key
    waiting = account.max_waiting
    return {
        "max_waiting": (config.max_waiting_per_user if waiting is None else waiting) or None,
        "max_concurrency": (config.max_concurrency_per_user if own is None else own) or None,
        "key_max_concurrency": key.max_concurrency if key else None,
        "rate_write": writes or None,
        "rate_read": reads or None,
    }
