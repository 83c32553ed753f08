"""Signing in: by name and password, by refresh token, by a one-time link."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.core import signing
from django.db.models import Q
from django.utils import timezone

from genpulse.auth import tokens
from genpulse.auth.models import User
from genpulse.auth.tokens import InvalidTokenPayload
from genpulse.config import config
from genpulse.errors import AccountDisabled, InvalidCredentials
from genpulse.ids import new_id

LINK_LIFE = timedelta(minutes=15)
LINK_SALT = "genpulse.login-link"
PAGES = ("/console/", "/admin/")


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a log-in answers; `access` lives JWT_ACCESS_TOKEN_EXPIRES seconds."""

    user: User
    access: str
    refresh: str


def by_password(name_or_email: str, password: str) -> User:
    """Raises InvalidCredentials (also for unknown names, after the same work), AccountDisabled."""
    match = Q(name=name_or_email) | Q(email=name_or_email.lower())
    user = User.objects.select_related("account").filter(match).order_by("-name").first()
    if user is None:
        make_password(password)
        raise InvalidCredentials("Name or password is wrong.")
    if not user.check_password(password):
        raise InvalidCredentials("Name or password is wrong.")
    return _active(user)


def pair(user: User) -> TokenPair:
    return TokenPair(user, tokens.issue(user, "access"), tokens.issue(user, "refresh"))


def refresh(token: str) -> TokenPair:
    """A new pair; the token is spent. Raises InvalidCredentials, TokenExpired, AccountDisabled."""
    claims = tokens.read(token, "refresh")
    user = User.objects.select_related("account").filter(pk=claims.user_id).first()
    if user is None or tokens.password_mark(user) != claims.password_mark:
        raise InvalidCredentials
    _active(user)
    if not tokens.spend(claims.jti, claims.expires_at):
        raise InvalidCredentials("This refresh token was used before.")
    return pair(user)


def log_out(user: User, token: str) -> None:
    """Spend a refresh token of `user`. Raises InvalidCredentials, TokenExpired."""
    claims = tokens.read(token, "refresh")
    if claims.user_id != user.id:
        raise InvalidTokenPayload
    tokens.spend(claims.jti, claims.expires_at)


def one_time_login_url(user: User, page: str = PAGES[0]) -> str:
    """A link that signs `user` in once, within 15 minutes, and leads to `page` of PAGES."""
    value = signing.dumps([str(user.id), str(new_id()), PAGES.index(page)], salt=LINK_SALT)
    return f"{config.base_url.rstrip('/')}/login-link/{value}"


def by_link(value: str) -> tuple[User, str]:
    """The user and the page of a link, which is spent. Raises InvalidCredentials, AccountDisabled."""
    try:
        user_id, jti, page = signing.loads(value, salt=LINK_SALT, max_age=LINK_LIFE)
    except signing.BadSignature:
        raise InvalidCredentials("This link is wrong or too old; ask for a new one.") from None
    user = User.objects.filter(pk=user_id).first()
    if user is None or not tokens.spend(UUID(jti), timezone.now() + LINK_LIFE):
        raise InvalidCredentials("This link was used before; ask for a new one.")
    return _active(user), PAGES[page]


def _active(user: User) -> User:
    if not user.is_active:
        raise AccountDisabled
    return user
