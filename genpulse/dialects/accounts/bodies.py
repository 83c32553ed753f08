"""What the doors about people take."""

import ipaddress
from datetime import datetime
from typing import Annotated, Literal

from django.utils import timezone
from pydantic import AfterValidator, Field, StringConstraints

from genpulse.auth.services import AccountOptions, KeyOptions, UserChanges
from genpulse.http.parsing import AwareTime, Body, MoneyMicro, wrong

Scope = Literal[
    "tasks",
    "tasks:read",
    "media",
    "media:read",
    "wallet",
    "wallet:read",
    "webhooks",
    "keys",
    "act_as",
    "admin",
]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise wrong("format", "want an IP address or a CIDR range") from None


def _ahead(time: datetime) -> datetime:
    if time <= timezone.now():
        raise wrong("too_small", "must lie in the future")
    return time


Network = Annotated[str, AfterValidator(_network)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Limit = Annotated[int, Field(ge=1, le=1_000_000)]
Email = Annotated[
    str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s.]+$", to_lower=True)
]
Password = Annotated[str, StringConstraints(min_length=10, max_length=1024)]


class Budget(Body):
    amount: Annotated[MoneyMicro, Field(gt=0)]
    window: Literal["day", "month"]


class NewKey(Body):
    """`POST /api/v1/keys`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    scopes: Annotated[list[Scope], Field(min_length=1)] | None = None
    expires_at: Annotated[AwareTime, AfterValidator(_ahead)] | None = None
    allowed_ips: Annotated[list[Network], Field(max_length=100)] = []
    models: Annotated[list[Pattern], Field(max_length=100)] = []
    budget: Budget | None = None
    max_concurrency: Limit | None = None

    def options(self) -> KeyOptions:
        return {
            "expires_at": self.expires_at,
            "allowed_ips": self.allowed_ips,
            "model_patterns": self.models,
            "budget_amount": self.budget.amount if self.budget else None,
            "budget_window": self.budget.window if self.budget else None,
            "max_concurrency": self.max_concurrency,
        }


class UserFields(Body):
    """What a new user and a changed one share."""

    email: Email | None = None
    password: Password | None = None
    role: Literal["user", "admin"] = "user"
    max_concurrency: Limit | None = None
    max_waiting: Limit | None = None
    budget: Budget | None = None

    def limits(self) -> AccountOptions:
        """Only what the body names, so that a PATCH leaves the rest alone."""
        named, limits = self.model_fields_set, AccountOptions()
        if "max_concurrency" in named:
            limits["max_concurrency"] = self.max_concurrency
        if "max_waiting" in named:
            limits["max_waiting"] = self.max_waiting
        if "budget" in named:
            limits["budget_amount"] = self.budget.amount if self.budget else None
            limits["budget_window"] = self.budget.window if self.budget else None
        return limits


class NewUser(UserFields):
    """`POST /api/v1/users`."""

    name: str


class ChangedUser(UserFields):
    """`PATCH /api/v1/users/{name}`."""

    status: Literal["active", "disabled"] = "active"
    uploads_blocked: bool = False

    def changes(self) -> UserChanges:
        named, changes = self.model_fields_set, UserChanges()
        if "email" in named:
            changes["email"] = self.email
        if "password" in named:
            changes["password"] = self.password
        if "role" in named:
            changes["role"] = self.role
        if "status" in named:
            changes["is_active"] = self.status == "active"
        return changes

    def limits(self) -> AccountOptions:
        limits = super().limits()
        if "uploads_blocked" in self.model_fields_set:
            limits["uploads_blocked"] = self.uploads_blocked
        return limits
