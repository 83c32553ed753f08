"""The one gate of all views: is a credential needed, and does it have the scope of the method?"""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from genpulse.auth.credentials import credential_of
from genpulse.errors import AuthenticationRequired, ScopeMissing


class HasScope(BasePermission):
    """Reads `public` and `scopes` (method -> scope) of the view; HEAD counts as GET."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if getattr(view, "public", False) or request.method == "OPTIONS":
            return True
        credential = credential_of(request)
        if credential is None:
            raise AuthenticationRequired
        method = "GET" if request.method == "HEAD" else request.method
        scope = getattr(view, "scopes", {}).get(method)
        if scope and not credential.has(scope):
            raise ScopeMissing(f"This needs a credential with scope {scope}.", scope=scope)
        return True
