"""What a process refuses to start with: what cannot work anywhere, and what is unsafe in production."""

import base64
import binascii
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from genpulse.config import Config

STORAGE_TYPES = ("local", "s3", "oss")
PLACEHOLDERS = ("change-me", "changeme", "change_me", "super-secret", "super_secret")
SECRET_LENGTH = 32  # characters


class ConfigError(Exception):
    """The environment is unusable; `reasons` has one line for each thing to fix."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("\n".join(reasons))


def refusals(config: "Config") -> list[str]:
    """One line for each reason not to start, without any secret in it."""
    reasons = [*_unsupported(config), *_bad_encryption_keys(config)]
    if config.production:
        reasons += [*_weak_secrets(config), *_missing_servers(config), *_open_doors(config)]
    return reasons


def _unsupported(config: "Config") -> Iterator[str]:
    scheme = urlsplit(config.database_url).scheme
    if config.database_url and scheme not in {"postgresql", "postgres"}:
        yield f"DATABASE_URL: {scheme or 'this'} is not supported; GenPulse needs PostgreSQL 14 or newer"
    if config.mongo_url and not config.database_url:
        yield "MONGO_URL: MongoDB is not supported; set DATABASE_URL to a PostgreSQL database"
    for name, url in (("REDIS_URL", config.redis_url), ("REDIS_LIVE_URL", config.redis_live_url)):
        if url and urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
            yield f"{name}: want redis://host:port/db, rediss:// or unix://"
    if config.storage_type not in STORAGE_TYPES:
        yield f"STORAGE_TYPE: {config.storage_type!r} is none of {', '.join(STORAGE_TYPES)}"
    if config.broker_serializer != "json":
        yield "CELERY_TASK_SERIALIZER: messages are JSON; other serializers can run foreign code"


def _bad_encryption_keys(config: "Config") -> Iterator[str]:
    for part in filter(None, config.encryption_keys.split(",")):
        name, _, key = part.strip().partition(":")
        try:
            usable = bool(name) and len(base64.b64decode(key, validate=True)) == 32
        except binascii.Error:
            usable = False
        if not usable:
            yield "ENCRYPTION_KEYS: want id:base64 of 32 bytes, separated by commas, the first one encrypts"
            return


def _weak_secrets(config: "Config") -> Iterator[str]:
    for name in ("secret_key", "encryption_keys"):
        if not getattr(config, name):
            yield f"{name.upper()}: missing; production generates no secrets"
    optional = ("admin_api_token", "service_api_token", "metrics_token", "oss_callback_secret")
    for name in ("secret_key", "encryption_keys", "upload_token_secret", *optional):
        value = getattr(config, name)
        if value and len(value) < SECRET_LENGTH:
            yield f"{name.upper()}: shorter than {SECRET_LENGTH} characters"
        elif any(word in value.lower() for word in PLACEHOLDERS):
            yield f"{name.upper()}: a placeholder, not a secret"


def _missing_servers(config: "Config") -> Iterator[str]:
    if not config.database_url:
        yield "DATABASE_URL: missing; production uses no embedded PostgreSQL"
    if not config.redis_url:
        yield "REDIS_URL: missing; production uses no embedded Valkey"


def _open_doors(config: "Config") -> Iterator[str]:
    if config.debug:
        yield "DEBUG: must be off"
    if "*" in config.cors_allowed_origins:
        yield "CORS_ALLOWED_ORIGINS: * would let every web site act for your users; name the origins"
    if not config.allowed_hosts or "*" in config.allowed_hosts:
        yield "ALLOWED_HOSTS: name the host names GenPulse is served under"
    if "*" in (config.comfy_allowed_hosts or ()):
        yield "COMFY_ALLOWED_HOSTS: * would let users reach every host of your network; name the servers"
    if config.dev_anonymous_user:
        yield "DEV_ANONYMOUS_USER: for development only"
    if config.oss_allow_long_lived:
        yield "OSS_ALLOW_LONG_LIVED: long-lived keys must not leave the server; use OSS_ROLE_ARN"
