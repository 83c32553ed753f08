"""From request headers to a Credential. Nothing is ever read from a query string."""

import hmac
import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, CSRFCheck
from rest_framework.request import Request

from genpulse.auth import keys, recent, services, tokens
from genpulse.auth.credentials import SERVICE_SCOPES, Credential, Kind, personal_scopes
from genpulse.auth.models import ApiKey, User
from genpulse.config import config
from genpulse.errors import (
    AccountDisabled,
    CsrfFailed,
    InvalidCredentials,
    IpNotAllowed,
    TokenExpired,
)

USED_EVERY_SECONDS = 60
SCHEMES = frozenset({"bearer", "key", "token"})
SESSION_KEY = "api_key"  # look-up of the key that a session stands for: it may do what the key may


class CredentialAuthentication(BaseAuthentication):
    """DRF's hook: `request.user` is the owner of the credential, `request.auth` the Credential."""

    def authenticate(self, request: Request) -> tuple[User, Credential] | None:
        view = request.parser_context.get("view")
        credential = from_headers(request.headers, request.META.get("REMOTE_ADDR", ""))
        if credential is None and getattr(view, "takes_session", False):
            credential = of_session(request._request)
        if credential is None and getattr(view, "takes_anonymous", False):
            credential = _anonymous()
        return None if credential is None else (credential.user, credential)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def from_headers(headers: Mapping[str, str], address: str) -> Credential | None:
    """The credential of `Authorization` or `X-API-Key`, None without one; `address` is the peer's.

    Raises InvalidCredentials, TokenExpired, AccountDisabled, IpNotAllowed.
    """
    authorization, secret = headers.get("Authorization"), headers.get("X-API-Key")
    if authorization is not None:
        scheme, _, secret = authorization.strip().partition(" ")
        if scheme.lower() not in SCHEMES:
            raise InvalidCredentials("Authorization must be Bearer, Key or Token.")
    if secret is None:
        return None
    return _admitted(_of_secret(secret.strip()), address)


def _admitted(credential: Credential, address: str) -> Credential:
    if not credential.user.is_active:
        raise AccountDisabled
    if credential.key is not None:
        _check_address(credential.key.allowed_ips, address)
    return credential


def _of_secret(secret: str) -> Credential:
    if secret.startswith(keys.PREFIX):
        return _api_key(secret)
    if secret.startswith("eyJ"):
        return _jwt(secret)
    return _fixed(secret)


def _api_key(text: str) -> Credential:
    lookup = keys.lookup_of(text)
    key = lookup and recent.get(f"key:{lookup}", lambda: _load_key(lookup))
    if not isinstance(key, ApiKey) or not keys.matches(text, key.digest):
        raise InvalidCredentials
    return _of_key(key)


def _of_key(key: ApiKey) -> Credential:
    if key.revoked_at:
        raise InvalidCredentials
    if key.expires_at is not None and key.expires_at <= timezone.now():
        raise TokenExpired
    return Credential(
        type="api_key",
        id=str(key.id),
        name=key.name,
        scopes=frozenset(key.scopes),
        user=key.user,
        key=key,
    )


def _load_key(lookup: str) -> ApiKey | None:
    key = ApiKey.objects.select_related("user__account").filter(lookup=lookup).first()
    if key is not None:
        _note_use(key)
    return key


def _note_use(key: ApiKey) -> None:
    """About once a minute is exact enough, and keeps reads from writing."""
    earlier = timezone.now() - timedelta(seconds=USED_EVERY_SECONDS)
    if key.last_used_at is None or key.last_used_at < earlier:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=earlier)
        ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=Now())


def _jwt(token: str) -> Credential:
    claims = tokens.read(token, "access")
    user = recent.get(f"user:{claims.user_id}", lambda: _load_user(claims.user_id))
    if not isinstance(user, User) or tokens.password_mark(user) != claims.password_mark:
        raise InvalidCredentials
    return _personal("jwt", user)


def _load_user(user_id: UUID) -> User | None:
    return User.objects.select_related("account").filter(pk=user_id).first()


def _personal(kind: Kind, user: User) -> Credential:
    return Credential(
        type=kind, id=str(user.id), name=user.name, scopes=personal_scopes(user), user=user
    )


def _fixed(secret: str) -> Credential:
    """ADMIN_API_TOKEN and SERVICE_API_TOKEN act as the users `admin` and `service`."""
    fixed = {
        "admin": (config.admin_api_token, frozenset({"admin"})),
        "service": (config.service_api_token, SERVICE_SCOPES),
    }
    for name, (token, scopes) in fixed.items():
        if token and hmac.compare_digest(token.encode(), secret.encode()):
            return _named(name, scopes)
    raise InvalidCredentials


def _named(name: str, scopes: frozenset[str]) -> Credential:
    user = recent.get(f"name:{name}", lambda: services.get_or_create_user(name))
    assert isinstance(user, User)  # noqa: S101 - get_or_create never answers None
    return Credential(type="api_key", id=name, name=name, scopes=scopes, user=user)


def _anonymous() -> Credential | None:
    name = config.dev_anonymous_user
    return _named(name, SERVICE_SCOPES) if name and not config.production else None


def of_session(request: HttpRequest) -> Credential | None:
    """Who signed in at console or admin: a user, or a key. None for nobody.

    Raises CsrfFailed, and for a key what `from_headers` raises.
    """
    credential = _signed_in(request)
    if credential is None:
        return None
    check = CSRFCheck(_no_response)
    check.process_request(request)
    if check.process_view(request, _no_response, (), {}):
        raise CsrfFailed("Send the value of the csrftoken cookie as X-CSRFToken.")
    return credential


def _signed_in(request: HttpRequest) -> Credential | None:
    user = getattr(request, "user", None)
    if isinstance(user, User):
        return _personal("session", user)
    session: Mapping[str, str] = getattr(request, "session", {})
    lookup = session.get(SESSION_KEY)
    if lookup is None:
        return None
    key = recent.get(f"key:{lookup}", lambda: _load_key(lookup))
    if not isinstance(key, ApiKey):
        raise InvalidCredentials
    return _admitted(_of_key(key), request.META.get("REMOTE_ADDR", ""))


def _no_response(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
    return HttpResponse()


def _check_address(allowed: list[str], address: str) -> None:
    if allowed and not any(_within(address, network) for network in allowed):
        raise IpNotAllowed


def _within(address: str, network: str) -> bool:
    try:
        peer = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(peer, "ipv4_mapped", None)
    return (mapped or peer) in ipaddress.ip_network(network, strict=False)
