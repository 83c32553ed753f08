"""What every request and answer gets, at every door; and Django's own middleware only where it is used.

`DoorMiddleware` runs the same two functions in sync and async stacks, without a change of thread.
"""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.text import compress_string
from whitenoise.middleware import WhiteNoiseMiddleware

from genpulse import meters
from genpulse.errors import BodyTooLarge, MalformedHeader
from genpulse.http import problems
from genpulse.http.asgi import TOO_LARGE
from genpulse.ids import new_id

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
PAGES = ("/admin", "/console", "/login-link")
COMPRESSIBLE = re.compile(
    r"(text/|application/(problem\+)?json|application/(java|ecma)script|image/svg)"
)
GZIP_FROM = 1024
Next = Callable[[HttpRequest], Any]


class DoorMiddleware:
    """Request id, slash, host; then nosniff, no-store, gzip. Exceptions of views become answers."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._later(request)
        return leave(request, enter(request) or self.get_response(request))

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        response = enter(request) or await self.get_response(request)
        return leave(request, response)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return problems.answer(problems.problem_of(exception), request)


def enter(request: HttpRequest) -> HttpResponse | None:
    """Prepare the request; an answer when it must not go further."""
    request.started = time.monotonic()  # type: ignore[attr-defined]
    request.id = request_id_of(request.META.get("HTTP_X_REQUEST_ID", ""))  # type: ignore[attr-defined]
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request.id)  # type: ignore[attr-defined]
    _one_spelling(request)
    try:
        request.get_host()
    except DisallowedHost:
        return problems.answer(MalformedHeader("This host name is not served here."), request)
    return None


def request_id_of(given: str) -> str:
    """The client's own when it is one, else a new one."""
    return given if REQUEST_ID.fullmatch(given) else str(new_id())


def _one_spelling(request: HttpRequest) -> None:
    """Paths are registered without a trailing slash; Django admin's have one."""
    path = request.path_info
    wanted = f"{path.rstrip('/')}/" if _below(path, "/admin") else path.rstrip("/") or "/"
    if wanted != path:
        request.path_info = wanted
        request.path = request.path.removesuffix(path) + wanted


def leave(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Finish the headers, and compress what is worth it."""
    response.headers["X-Request-ID"] = request.id  # type: ignore[attr-defined]
    _count(request, response)
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    kind = response.headers.get("Content-Type", "")
    if "json" in kind:
        response.headers.setdefault("Cache-Control", "no-store")
    elif kind.startswith("text/html"):
        response.headers.setdefault("X-Frame-Options", "DENY")
        response.headers.setdefault("Referrer-Policy", "same-origin")
    if isinstance(response, HttpResponse) and response.status_code not in {204, 304}:
        _compress(request, response)
        response.headers["Content-Length"] = str(len(response.content))
    return response


def _count(request: HttpRequest, response: HttpResponseBase) -> None:
    """The route as it is registered, so that ids do not become labels."""
    match = request.resolver_match
    route = match.route if match else "unknown"
    door, _ = problems.door_of(request.path_info)
    method = request.method or ""
    meters.http_requests.labels(door, route, method, str(response.status_code)).inc()
    taken = time.monotonic() - request.started  # type: ignore[attr-defined]
    meters.http_seconds.labels(door, route, method).observe(taken)


class BodyLimitMiddleware:
    """Answers for bodies that `genpulse.http.asgi` has cut; below CORS, so that browsers can read it."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        limit = getattr(request, "scope", {}).get(TOO_LARGE)
        if limit is None:
            return self.get_response(request)
        problem = BodyTooLarge(f"At most {limit} bytes are taken here.", limit=limit)
        response = problems.answer(problem, request)
        return _soon(response) if iscoroutinefunction(self) else response


async def _soon(response: HttpResponse) -> HttpResponse:
    return response


def _compress(request: HttpRequest, response: HttpResponse) -> None:
    """Streams are left alone: an event held back in a compressor would come late."""
    if len(response.content) <= GZIP_FROM or response.has_header("Content-Encoding"):
        return
    if not COMPRESSIBLE.match(response.headers.get("Content-Type", "")):
        return
    patch_vary_headers(response, ("Accept-Encoding",))
    if "gzip" not in request.META.get("HTTP_ACCEPT_ENCODING", ""):
        return
    response.content = compress_string(response.content, max_random_bytes=100)
    response.headers["Content-Encoding"] = "gzip"
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):
        response.headers["ETag"] = f"W/{tag}"


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


class OnPages:
    """Django's session machinery costs a thread change per hook: only requests that can use it pay."""

    get_response: Next

    def __call__(self, request: HttpRequest) -> Any:
        has_cookie = settings.SESSION_COOKIE_NAME in request.COOKIES
        if has_cookie or any(_below(request.path_info, page) for page in PAGES):
            return super().__call__(request)  # type: ignore[misc]
        return self.get_response(request)


class SessionMiddleware(OnPages, sessions.SessionMiddleware):
    """Sessions for console, admin and requests with their cookie."""


class AuthenticationMiddleware(OnPages, auth.AuthenticationMiddleware):
    """`request.user` for the same."""


class MessageMiddleware(OnPages, messages.MessageMiddleware):
    """Admin's messages."""


class StaticMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Static files, without taking every other request out of the event loop."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Next) -> None:
        super().__init__(get_response, settings)
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        file = self.files.get(request.path_info)
        if file is None:
            return self.get_response(request)
        if iscoroutinefunction(self):
            return sync_to_async(self.load, thread_sensitive=False)(file, request)
        return self.serve(file, request)

    def load(self, file: Any, request: HttpRequest) -> HttpResponse:
        """The file as a whole: ASGI would read a file response chunk by chunk in threads, with a warning."""
        streamed = self.serve(file, request)
        whole = HttpResponse(b"".join(streamed), status=streamed.status_code)
        whole.headers = streamed.headers
        streamed.close()
        return whole
