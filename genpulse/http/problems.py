"""Refusals become answers here, and nowhere else: one problem, rendered by the door that was asked.

Doors other than the native one register their name and envelope for a path prefix:
`problems.register("/openai", "openai", render)`. The longest prefix wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from redis.exceptions import RedisError
from rest_framework import exceptions as drf

from genpulse import errors
from genpulse.config import config
from genpulse.errors import Problem

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """What a door says: status, body, and headers of its own."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


Envelope = Callable[[Problem, str], Rendered]  # (problem, request id)
_doors: dict[str, tuple[str, Envelope]] = {}


def register(prefix: str, door: str, envelope: Envelope) -> None:
    """The path `prefix` and all below it belong to `door` and use its `envelope`."""
    _doors[prefix.rstrip("/")] = (door, envelope)


def native(problem: Problem, request_id: str) -> Rendered:
    """RFC 9457, the envelope of `/api/v1` and of every path that belongs to no door."""
    body = {
        "type": f"/docs/errors#{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        "errors": [asdict(error) for error in problem.errors],
        **problem.extra,
    }
    return Rendered(status=problem.status, body=body, content_type="application/problem+json")


def door_of(path: str) -> tuple[str, Envelope]:
    """Name and envelope; paths that no door has registered are the native one's."""
    fitting = [prefix for prefix in _doors if path == prefix or path.startswith(f"{prefix}/")]
    return _doors[max(fitting, key=len)] if fitting else ("native", native)


def answer(problem: Problem, request: HttpRequest) -> JsonResponse:
    """The answer of the door that `request` came through; a view with two tongues names its `envelope` there."""
    envelope: Envelope = getattr(request, "envelope", None) or door_of(request.path_info)[1]
    rendered = envelope(problem, getattr(request, "id", ""))
    response = JsonResponse(
        rendered.body, status=rendered.status, content_type=rendered.content_type, safe=False
    )
    if rendered.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if "retry_after" in problem.extra:
        response["Retry-After"] = str(problem.extra["retry_after"])
    for name, value in rendered.headers.items():
        response[name] = value
    return response


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> JsonResponse:
    """DRF's hook: whatever a view raises becomes an answer."""
    request = context["request"]._request
    response = answer(problem_of(exc), request)
    if response.status_code == 405:
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def problem_of(exc: BaseException) -> Problem:
    """The problem an exception stands for; what nobody foresaw is logged and says nothing."""
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, (OperationalError, InterfaceError, RedisError)):
        log.warning("http.unavailable", error=type(exc.__cause__ or exc).__name__)
        return errors.Unavailable(retry_after=1)
    known = _known(exc)
    if known is None:
        log.error("http.failed", exc_info=exc)
        return Problem("An unexpected error. The request id finds it in the log.")
    return known


def _known(exc: BaseException) -> Problem | None:
    for kinds, make in FOREIGN:
        if isinstance(exc, kinds):
            return make(exc)
    return None


FOREIGN: list[tuple[Any, Callable[[Any], Problem]]] = [
    ((Http404, drf.NotFound), lambda _: errors.NotFound()),
    (drf.MethodNotAllowed, lambda _: errors.MethodNotAllowed()),
    (drf.UnsupportedMediaType, lambda exc: errors.UnsupportedMediaType(str(exc.detail))),
    (drf.ParseError, lambda _: errors.MalformedBody()),
    ((drf.NotAuthenticated, drf.AuthenticationFailed), lambda _: errors.InvalidCredentials()),
    ((drf.PermissionDenied, DjangoPermissionDenied), lambda _: errors.PermissionDenied()),
    (RequestDataTooBig, lambda _: errors.BodyTooLarge(limit=config.max_body_bytes)),
    (SuspiciousOperation, lambda _: errors.MalformedHeader("The request cannot be read.")),
]


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    """handler404: unknown paths, in the envelope of the door they lie below."""
    return answer(errors.UnknownPath("No such path."), request)


def bad_request(request: HttpRequest, exception: Exception) -> JsonResponse:
    """handler400: a Host that is not ours, a header that cannot be read."""
    return answer(problem_of(exception), request)


def server_error(request: HttpRequest) -> JsonResponse:
    """handler500: Django has logged the exception already."""
    return answer(Problem("An unexpected error. The request id finds it in the log."), request)
