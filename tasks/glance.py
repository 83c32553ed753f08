"""What a client that polls gets without leaving the event loop: the task as somebody saw it a moment ago.

No thread, no connection, no query. Whatever is not plain at a glance (a credential or a task that nobody has looked
up just before, a result, another method, a query, a refusal) is left to the view.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.core.exceptions import SynchronousOnlyOperation
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from redis.exceptions import RedisError
from rest_framework.renderers import JSONRenderer

from genpulse.auth import authentication
from genpulse.auth.credentials import Credential
from genpulse.errors import Problem
from genpulse.events import bells
from genpulse.http.ratelimit import TAKE, Verdict, bucket_of, key_of
from genpulse.ids import parse_id
from tasks import snapshots
from tasks.hub import hub
from tasks.snapshots import Snapshot

View = Callable[..., Awaitable[HttpResponseBase]]


def at_a_glance(view: View) -> Callable[..., Any]:
    """The view of one task, which is asked only for what cannot be seen at a glance."""

    @wraps(view)
    async def outer(request: HttpRequest, id_: str) -> HttpResponseBase:
        task, credential = parse_id(id_), _known(request)
        taken = await _recent(request, task, credential) if task and credential else None
        if taken is None or credential is None:
            return await view(request, id_=id_)
        return _answer(request, taken, admin=credential.has("admin"))

    return outer


def _known(request: HttpRequest) -> Credential | None:
    """Whose request it is, when that is sure to be no special one and was looked up just before."""
    if not isinstance(request, ASGIRequest) or request.method != "GET" or snapshots.away():
        return None
    if request.META.get("QUERY_STRING") or "HTTP_X_GENPULSE_USER" in request.META:
        return None
    try:
        found = authentication.from_headers(request.headers, request.META.get("REMOTE_ADDR", ""))
    except (Problem, SynchronousOnlyOperation):  # Django lets nobody query in an event loop
        return None
    return found if found and found.has("tasks:read") else None


async def _recent(request: HttpRequest, task: UUID, credential: Credential) -> Snapshot | None:
    """What is kept of the task, if the credential may see it and its rate allows."""
    asked: Any = request
    bucket, limit = bucket_of(credential, "GET")
    try:
        async with hub().redis.pipeline(transaction=False) as pipe:
            pipe.get(bells.newest(str(task)))
            if limit:
                pipe.eval(TAKE, 1, key_of(bucket), str(limit))
            kept, *said = await pipe.execute()
    except (RedisError, OSError) as error:
        snapshots.missed(error)
        return None
    asked.rate = Verdict.of(limit, said[0]) if said else None
    if asked.rate and not asked.rate.allowed:
        return None
    taken = snapshots.read(kept)
    if (
        taken is None or taken.plain["output"]
    ):  # signing URLs may ask a storage's library, which blocks
        return None
    return taken if credential.sees(taken.account_id) else None


def _answer(request: HttpRequest, taken: Snapshot, *, admin: bool) -> HttpResponse:
    asked: Any = request
    body, tag = taken.answer(request.headers.get("If-None-Match", ""), admin=admin)
    headers = {"ETag": tag, **(asked.rate.headers if asked.rate else {})}
    if body is None:
        return HttpResponse(status=304, headers=headers)
    return HttpResponse(JSONRenderer().render(body), "application/json", headers=headers)
