"""Django settings, derived from `genpulse.config`. Nothing here reads the environment itself."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from genpulse.config import config

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = config.debug
SECRET_KEY = config.secret_key or "only-commands-that-need-no-secret-run-with-this"
ALLOWED_HOSTS = config.allowed_hosts or ["*"]
ROOT_URLCONF = "genpulse.urls"
ASGI_APPLICATION = "genpulse.asgi.application"
AUTH_USER_MODEL = "accounts.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING_CONFIG = None  # genpulse.logging.configure() owns the log
LANGUAGE_CODE = "en-us"
APPEND_SLASH = False  # both spellings of a path are served; nobody is redirected because of a slash
DATA_UPLOAD_MAX_MEMORY_SIZE = config.max_body_bytes

INSTALLED_APPS = [
    "django.contrib.admin.apps.SimpleAdminConfig",  # `genpulse.urls` finds the admin pages: only web has any
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "corsheaders",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "channels",
    "genpulse.auth",
    "genpulse.events",
    "genpulse.http",
    "genpulse.console",
    "django_htmx",
    "providers",
    "wallet",
    "media",
    "admin_integrations",
    "tasks",
]

MIDDLEWARE = [
    "genpulse.http.middleware.DoorMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "genpulse.http.middleware.BodyLimitMiddleware",
    "genpulse.http.middleware.StaticMiddleware",
    "genpulse.http.middleware.SessionMiddleware",
    "genpulse.http.middleware.AuthenticationMiddleware",
    "genpulse.http.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def database(url: str) -> dict[str, Any]:
    """A DATABASE_URL as Django wants it; a unix socket is `?host=/path`."""
    parts = urlsplit(url)
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if pair)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.pop("host", parts.hostname or "")),
        "PORT": query.pop("port", str(parts.port or "")),
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        # Short and capped, so that the event watermark moves and no lock is held for long.
        "OPTIONS": {
            "prepare_threshold": 3,
            "connect_timeout": "5",
            **query,
            "options": "-c statement_timeout=10s -c lock_timeout=3s"
            # Whoever freezes in a transaction loses its rows when its leases run out.
            f" -c idle_in_transaction_session_timeout={round(config.lease_seconds * 1000)}ms",
        },
    }


DATABASES = {"default": database(config.database_url)}

STORAGES = {
    "default": {"BACKEND": f"media.storages.{config.storage_type}.Storage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

SESSION_COOKIE_NAME = "gp_session"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = config.production
CSRF_COOKIE_SECURE = config.production
CSRF_HEADER_NAME = "HTTP_X_CSRFTOKEN"
SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"
SECURE_CONTENT_TYPE_NOSNIFF = True

ORIGINS = config.cors_allowed_origins or (
    [] if config.production else ["http://localhost:*", "http://127.0.0.1:*"]
)
CORS_ALLOWED_ORIGINS = [origin for origin in ORIGINS if "*" not in origin]
CORS_ALLOWED_ORIGIN_REGEXES = [
    "^" + re.escape(origin).replace(r":\*", r":\d+").replace(r"\*", r"[\w.:/-]+") + "$"
    for origin in ORIGINS
    if "*" in origin
]
# Ours too: behind a proxy that speaks TLS the request itself looks like plain HTTP.
CSRF_TRUSTED_ORIGINS = [*CORS_ALLOWED_ORIGINS, urlsplit(config.base_url)._replace(path="").geturl()]
CORS_ALLOW_CREDENTIALS = True
CORS_ALLOW_HEADERS = [
    "authorization",
    "content-type",
    "idempotency-key",
    "prefer",
    "last-event-id",
    "x-api-key",
    "x-csrftoken",
    "x-genpulse-user",
    "x-request-id",
]
CORS_EXPOSE_HEADERS = [
    "X-Request-ID",
    "X-GenPulse-Task-Id",
    "X-GenPulse-Batch-Id",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["genpulse.auth.authentication.CredentialAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["genpulse.auth.permissions.HasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["genpulse.http.ratelimit.KeyThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["genpulse.http.strict_json.StrictJSONParser"],
    "EXCEPTION_HANDLER": "genpulse.http.problems.exception_handler",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "genpulse.http.negotiation.FirstRenderer",
    "DEFAULT_SCHEMA_CLASS": "genpulse.http.openapi.DoorSchema",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "GenPulse",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.1",
    "DESCRIPTION": "Errors of the native API are problem documents; see /docs/errors.",
    "SERVE_INCLUDE_SCHEMA": False,
    "DISABLE_ERRORS_AND_WARNINGS": True,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}
