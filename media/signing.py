"""Signed URLs: `/assets/<key>?exp=<unix seconds>&sig=<HMAC>`, made at read and never stored."""

import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from django.utils.crypto import constant_time_compare, salted_hmac

from genpulse.config import config
from genpulse.errors import PermissionDenied

TTL = 3600


@dataclass(frozen=True, slots=True)
class SignedUrl:
    url: str
    expires_at: datetime


def signature(purpose: str, value: str, until: int, download: bool = False) -> str:
    """HMAC-SHA256 under a key derived from SECRET_KEY and `purpose`."""
    text = f"{value}\n{until}\n{'download' if download else ''}"
    digest = salted_hmac(f"genpulse.media.{purpose}", text, algorithm="sha256").digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign_path(purpose: str, value: str, path: str, ttl: int, download: bool = False) -> SignedUrl:
    """`path` below the public base URL with `exp` and `sig` that speak for `value`."""
    until = int(time.time()) + ttl
    extra = "&download=1" if download else ""
    query = f"exp={until}{extra}&sig={signature(purpose, value, until, download)}"
    base = (config.storage_base_url or config.base_url).rstrip("/")
    return SignedUrl(f"{base}{quote(path)}?{query}", datetime.fromtimestamp(until, UTC))


def verify(purpose: str, value: str, query: dict[str, str]) -> bool:
    """True if `query` allows `value` now; the result is whether a download was asked for.

    Raises PermissionDenied for a signature that is missing, forged or out of time.
    """
    exp, sig, download = query.get("exp", ""), query.get("sig", ""), query.get("download") == "1"
    if not (exp.isascii() and exp.isdigit() and len(exp) <= 12):
        raise PermissionDenied("The signature of this URL is missing.")
    if not constant_time_compare(sig, signature(purpose, value, int(exp), download)):
        raise PermissionDenied("The signature of this URL is wrong.")
    if int(exp) <= time.time():
        raise PermissionDenied("This URL has expired.")
    return download
