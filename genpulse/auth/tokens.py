"""Signed tokens of a log-in: a short access token, and a refresh token that works once.

One algorithm, one key derived from SECRET_KEY, a header of exactly two members: what a forger may vary
(alg, kid, jku, x5u, crit) is refused before the signature is looked at. Both tokens carry a fragment of
the password's hash, so a new password ends every log-in.
"""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal
from uuid import UUID

import jwt
from django.conf import settings
from django.db.models.functions import Now

from genpulse.auth.models import SpentToken, User
from genpulse.config import config
from genpulse.errors import InvalidCredentials, TokenExpired
from genpulse.ids import new_id, parse_id

ISSUER = AUDIENCE = "genpulse"
HEADER = {"alg": "HS256", "typ": "JWT"}
CLAIMS = ["exp", "iat", "aud", "iss", "jti", "sub", "use", "pwd"]
Use = Literal["access", "refresh"]


class InvalidTokenPayload(InvalidCredentials):
    """The token is signed by us, but is not meant for this."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    jti: UUID
    user_id: UUID
    password_mark: str
    expires_at: datetime


@cache
def signing_key() -> bytes:
    return hmac.digest(settings.SECRET_KEY.encode(), b"genpulse.jwt", "sha256")


def password_mark(user: User) -> str:
    return user.get_session_auth_hash()[:16]


def issue(user: User, use: Use) -> str:
    """A token of `user`, valid for JWT_ACCESS_TOKEN_EXPIRES or JWT_REFRESH_TOKEN_EXPIRES seconds."""
    life = {
        "access": config.jwt_access_token_expires,
        "refresh": config.jwt_refresh_token_expires,
    }[use]
    now = datetime.now(UTC)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(user.id),
        "jti": str(new_id()),
        "iat": now,
        "exp": now + timedelta(seconds=life),
        "use": use,
        "pwd": password_mark(user),
    }
    return jwt.encode(claims, signing_key(), algorithm="HS256")


def read(token: str, use: Use) -> Claims:
    """Raises InvalidCredentials, TokenExpired."""
    try:
        if jwt.get_unverified_header(token) != HEADER:
            raise InvalidCredentials
        claims = jwt.decode(
            token,
            signing_key(),
            algorithms=["HS256"],
            audience=AUDIENCE,
            issuer=ISSUER,
            options={"require": CLAIMS, "enforce_minimum_key_length": True},
        )
        return _claims(claims, use)
    except jwt.ExpiredSignatureError:
        raise TokenExpired from None
    except (jwt.PyJWTError, ValueError, OverflowError):
        raise InvalidCredentials from None


def _claims(claims: dict[str, Any], use: Use) -> Claims:
    jti, user_id = parse_id(claims["jti"]), parse_id(claims["sub"])
    if claims["use"] != use or jti is None or user_id is None:
        raise InvalidTokenPayload
    expires_at = datetime.fromtimestamp(claims["exp"], UTC)
    return Claims(jti, user_id, claims["pwd"], expires_at)


def spend(jti: UUID, expires_at: datetime) -> bool:
    """Use up a single-use token in the current transaction; False when it was used before.

    Of parallel callers exactly one gets True: the others wait for its commit.
    """
    row = SpentToken(jti=jti, expires_at=expires_at)
    SpentToken.objects.bulk_create([row], ignore_conflicts=True)
    return SpentToken.objects.filter(jti=jti, mark=row.mark).exists()


def purge_spent() -> int:
    """Delete the marks of tokens that have expired anyway; the number deleted."""
    return SpentToken.objects.filter(expires_at__lt=Now()).delete()[0]
