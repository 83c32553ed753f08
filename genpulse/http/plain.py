"""Views that need neither credential nor body: health, documents, the front door."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse

from genpulse.errors import MethodNotAllowed
from genpulse.http import problems

READS = ("GET", "HEAD", "OPTIONS")
View = Callable[..., Any]


def read_only(view: View) -> View:
    """GET and HEAD go to `view`, sync or async; OPTIONS says so; the rest is 405."""

    @wraps(view)
    def sync_view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _without_view(request) or view(request, *args, **kwargs)

    @wraps(view)
    async def async_view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return _without_view(request) or await view(request, *args, **kwargs)

    return async_view if iscoroutinefunction(view) else sync_view


def _without_view(request: HttpRequest) -> HttpResponse | None:
    if request.method in {"GET", "HEAD"}:
        return None
    options = request.method == "OPTIONS"
    response = HttpResponse(status=204) if options else problems.answer(MethodNotAllowed(), request)
    response["Allow"] = ", ".join(READS)
    return response
