"""How an asset looks from outside: the asset reference of tasks and events, and its signed URL."""

from typing import Any
from urllib.parse import quote

from genpulse.errors import FieldCode, ValidationFailed
from genpulse.http.parsing import render_time
from media import sniff
from media.models import Asset
from media.signing import TTL, SignedUrl, sign_path
from media.storages import storage

Reference = dict[str, Any]
FIELDS = (
    "kind",
    "content_type",
    "width",
    "height",
    "duration_seconds",
    "size",
    "sha256",
    "filename",
)


def persistable(asset: Asset) -> Reference:
    """An asset reference to keep in a row: it holds the key instead of a URL."""
    return {
        "id": str(asset.id),
        "key": asset.key,
        **{name: getattr(asset, name) for name in FIELDS},
    }


def with_url(kept: Reference) -> Reference:
    """A persistable reference as clients see it, signed now. Only for what `persistable` made:
    signing a key out of a vendor's or user's JSON would open other people's files."""
    signed = sign_key(kept["key"], kept["content_type"], kept["filename"])
    return {
        "id": kept["id"],
        "kind": kept["kind"],
        "content_type": kept["content_type"],
        "url": signed.url,
        "url_expires_at": render_time(signed.expires_at),
        **{name: kept[name] for name in FIELDS[2:]},
    }


def reference(asset: Asset) -> Reference:
    """`{id, kind, content_type, url, url_expires_at, width, height, duration_seconds, size, sha256, filename}`."""
    return with_url(persistable(asset))


def sign(asset: Asset, ttl: int = TTL, download: bool = False) -> SignedUrl:
    """A URL that serves the bytes for `ttl` seconds (60-86400) to whoever holds it."""
    if not 60 <= ttl <= 86400:
        code: FieldCode = "too_small" if ttl < 60 else "too_large"
        raise ValidationFailed.of("ttl", code, "from 60 to 86400 seconds")
    return sign_key(asset.key, asset.content_type, asset.filename, ttl, download)


def sign_key(
    key: str, content_type: str, filename: str, ttl: int = TTL, download: bool = False
) -> SignedUrl:
    """The storage vendor's own signed URL where there is one, else ours."""
    ours = sign_path("read", key, f"/assets/{key}", ttl, download)
    shown = disposition(content_type, filename, download)
    theirs = storage().public_url(key, ttl, content_type, shown)
    return SignedUrl(theirs, ours.expires_at) if theirs else ours


def sign_thumbnail(key: str) -> SignedUrl:
    return sign_key(key, "image/webp", key.rpartition("/")[2])


def disposition(content_type: str, filename: str, download: bool = False) -> str:
    """RFC 6266 with the name of RFC 5987; inline only for what a browser shows without running it."""
    mode = "inline" if content_type in sniff.INLINE and not download else "attachment"
    return f"{mode}; filename*=UTF-8''{quote(filename, safe='')}"
