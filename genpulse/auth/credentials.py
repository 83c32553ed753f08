"""Who is asking: one frozen value for every way to prove it, and the words of what it may do."""

from dataclasses import dataclass
from typing import Any, Literal, cast

from genpulse.auth.models import ApiKey, Role, User

SCOPES = (
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
)
DEFAULT_SCOPES = ("tasks", "media", "wallet:read", "webhooks")
SERVICE_SCOPES = frozenset({"act_as", "tasks", "media", "wallet", "webhooks"})
PERSONAL_SCOPES = frozenset(SCOPES) - {"act_as", "admin"}

Kind = Literal["api_key", "jwt", "session"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """`user` is the owner of the credential, not the one acted for; `key` only for stored API keys."""

    type: Kind
    id: str
    name: str
    scopes: frozenset[str]
    user: User
    key: ApiKey | None = None

    def has(self, scope: str) -> bool:
        """`x` implies `x:read`, `admin` implies everything."""
        return bool(self.scopes & {scope, scope.removesuffix(":read"), "admin"})

    @property
    def names_others(self) -> bool:
        """May act for any user; such credentials are also exempt from rate limits."""
        return bool(self.scopes & {"act_as", "admin"})

    def sees(self, account_id: str) -> bool:
        """Whether it may see what belongs to that account, when it names nobody."""
        return self.names_others or str(self.user.account_id) == account_id


def credential_of(request: Any) -> Credential | None:
    """What DRF keeps as `request.auth`."""
    return cast("Credential | None", request.auth)


def personal_scopes(user: User) -> frozenset[str]:
    """What a JWT or a session of `user` may do."""
    return frozenset(SCOPES) if user.role == Role.ADMIN else PERSONAL_SCOPES
