"""OpenAPI 3.1 of every door, read off the views: `bodies`, `queries` and `scopes` of a DoorView."""

import re
from functools import cache
from typing import Any, cast

from django.http import HttpRequest, HttpResponse, JsonResponse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from genpulse.http.plain import read_only

PLAIN_PATHS = {
    "/": "The console page for browsers, a short JSON object for programs.",
    "/health": "What works; 200 while the process lives.",
    "/healthz": "Liveness only.",
    "/ready": "200 when requests can be served, else 503.",
    "/metrics": "Prometheus text.",
    "/docs/errors": "Every error code.",
}


class DoorSchema(AutoSchema):
    """One operation of a view that parses with pydantic and answers plain objects."""

    def get_tags(self) -> list[str]:
        parts = self.path.strip("/").split("/")
        return [parts[2] if parts[:2] == ["api", "v1"] and len(parts) > 2 else parts[0]]

    def get_summary(self) -> str | None:
        return self._first_line(getattr(self.view, self.method.lower()).__doc__) or None

    def get_description(self) -> str:  # type: ignore[override]  # DRF's stub knows two arguments
        scope = self._of_method("scopes")
        needs = f"\n\nNeeds scope `{scope}`." if scope else ""
        return self._first_line(type(self.view).__doc__) + needs

    def get_request_serializer(self) -> Any:
        return self._of_method("bodies")

    def get_response_serializers(self) -> Any:
        return {self._of_method("statuses") or 200: OpenApiTypes.OBJECT}

    def get_override_parameters(self) -> list[Any]:
        model = self._of_method("queries")
        fields = model.model_fields if model else {}
        return [
            OpenApiParameter(field.alias or name, str, required=field.is_required())
            for name, field in fields.items()
        ]

    def get_auth(self) -> list[dict[str, Any]]:
        return [] if getattr(self.view, "public", False) else super().get_auth()

    def get_operation_id(self) -> str:
        words = re.sub(r"[^0-9A-Za-z]+", "_", self.path).strip("_")
        return f"{self.method.lower()}_{words}"

    def _of_method(self, name: str) -> Any:
        return getattr(self.view, name, {}).get(self.method)

    @staticmethod
    def _first_line(text: str | None) -> str:
        return (text or "").strip().split("\n\n")[0].replace("\n", " ")


class CredentialScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """API key or access token as Bearer, or the key alone as X-API-Key."""

    target_class = "genpulse.auth.authentication.CredentialAuthentication"
    name = ["bearer", "apiKey"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]


@cache
def document() -> dict[str, Any]:
    """The whole document; the paths of a running process do not change."""
    schema: dict[str, Any] = cast(Any, SchemaGenerator)().get_schema(public=True)
    for path, text in PLAIN_PATHS.items():
        operation = {"summary": text, "security": [], "responses": {"200": {"description": "OK"}}}
        schema["paths"].setdefault(path, {"get": operation})
    return schema


@read_only
def openapi(request: HttpRequest) -> HttpResponse:
    """`GET /openapi.json`."""
    return JsonResponse(document(), headers={"Cache-Control": "public, max-age=60"})
