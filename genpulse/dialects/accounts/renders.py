"""Users and keys as the native API shows them. No secret, no digest, ever."""

from typing import Any

from genpulse.auth.keys import PREFIX
from genpulse.auth.models import Account, ApiKey, User
from genpulse.http.parsing import render_time
from genpulse.money import to_credits


def render_key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": str(key.id),
        "name": key.name,
        "user": key.user.name,
        "prefix": f"{PREFIX}{key.lookup}",
        "last4": key.last4,
        "scopes": key.scopes,
        "expires_at": render_time(key.expires_at),
        "allowed_ips": key.allowed_ips,
        "models": key.model_patterns,
        "budget": render_budget(key),
        "max_concurrency": key.max_concurrency,
        "created_at": render_time(key.created_at),
        "last_used_at": render_time(key.last_used_at),
        "revoked_at": render_time(key.revoked_at),
    }


def render_user(user: User) -> dict[str, Any]:
    account = user.account
    return {
        **render_person(user),
        "uploads_blocked": account.uploads_blocked,
        "max_concurrency": account.max_concurrency,
        "max_waiting": account.max_waiting,
        "budget": render_budget(account),
        "updated_at": render_time(user.updated_at),
    }


def render_person(user: User) -> dict[str, Any]:
    """The part of a user that `GET /api/v1/me` shows."""
    return {
        "id": str(user.id),
        "name": user.name,
        "email": user.email,
        "role": user.role,
        "status": "active" if user.is_active else "disabled",
        "created_at": render_time(user.created_at),
    }


def render_budget(owner: Account | ApiKey) -> dict[str, Any] | None:
    if owner.budget_amount is None:
        return None
    return {"amount": to_credits(owner.budget_amount), "window": owner.budget_window}
