"""Who plays in the tests of the doors: Alice owns, Bob is somebody else, Root runs the place, and a
service acts for its customers."""

import json
from dataclasses import dataclass, field
from typing import Any

from django.test import Client

from genpulse.auth import recent, services
from genpulse.auth.credentials import DEFAULT_SCOPES
from genpulse.auth.models import ApiKey, User


@dataclass(eq=False)
class Caller:
    """Speaks JSON with one credential."""

    headers: dict[str, str] = field(default_factory=dict)
    user: User = field(default_factory=User)  # unsaved for nobody
    key: ApiKey = field(default_factory=ApiKey)
    client: Client = field(default_factory=lambda: Client(raise_request_exception=False))

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        recent.forget()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = "application/octet-stream" if body is None else "application/json"
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body)
        return self.client.generic(method, path, raw, kind, headers={**self.headers, **named})

    def get(self, path: str, **headers: str) -> Any:
        return self("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("POST", path, body, **headers)

    def patch(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self("DELETE", path, **headers)


def caller(name: str, *scopes: str, **options: Any) -> Caller:
    """A caller with a key of user `name`, who is created when missing."""
    user = services.get_or_create_user(name)
    key, text = services.create_key(user, name="test", scopes=scopes or DEFAULT_SCOPES, **options)
    return Caller({"Authorization": f"Bearer {text}"}, user, key)


def nobody() -> Caller:
    return Caller()
