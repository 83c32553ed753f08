"""API keys as text: `gp_live_` + 8 look-up + 43 secret + 6 checksum characters, all base62.

The checksum (CRC-32) lets secret scanners and this module refuse a typo without a query. 43 base62
characters hold 256 bits, so a keyed hash is enough: there is nothing to guess (djangorestframework-api-key
left password hashers for the same reason).
"""

import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass
from functools import cache

from django.conf import settings

PREFIX = "gp_live_"
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
PATTERN = re.compile(r"gp_live_([0-9A-Za-z]{8})([0-9A-Za-z]{43})([0-9A-Za-z]{6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A fresh key: `text` goes to its owner, the rest into the row."""

    text: str
    lookup: str
    digest: bytes

    @classmethod
    def generate(cls) -> "NewKey":
        body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(51))
        text = body + checksum(body)
        return cls(text, text[8:16], digest(text))


def lookup_of(text: str) -> str | None:
    """The look-up part of a well-formed key, else None."""
    match = PATTERN.fullmatch(text)
    if match is None or checksum(text[:-6]) != match[3]:
        return None
    return match[1]


def digest(text: str) -> bytes:
    """HMAC-SHA256 of the whole key under the pepper."""
    return hmac.digest(pepper(), text.encode(), "sha256")


def matches(text: str, stored: "bytes | memoryview[int]") -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(digest(text), bytes(stored))


@cache
def pepper() -> bytes:
    return hmac.digest(settings.SECRET_KEY.encode(), b"genpulse.api-key", "sha256")


def checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, rest = divmod(number, 62)
        digits = ALPHABET[rest] + digits
    return digits
