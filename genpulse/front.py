"""The front door: `/` for browsers and programs, Swagger UI without any foreign host, the error codes."""

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from drf_spectacular.views import SpectacularSwaggerView

from genpulse import __version__, errors
from genpulse.console import views as console
from genpulse.errors import Problem
from genpulse.http.plain import read_only

swagger = read_only(
    SpectacularSwaggerView.as_view(
        url="/openapi.json", authentication_classes=[], permission_classes=[], throttle_classes=[]
    )
)


@read_only
def root(request: HttpRequest) -> HttpResponse:
    """`GET /`: the console for browsers, where to go on for programs."""
    if "text/html" in request.headers.get("Accept", ""):
        return console.home(request)
    return JsonResponse(
        {"app": "GenPulse", "version": __version__, "docs": "/docs", "health": "/health"}
    )


@read_only
def error_codes(request: HttpRequest) -> HttpResponse:
    """`GET /docs/errors`: an anchor for each code."""
    rows = {kind.code: kind for kind in kinds(Problem)}
    codes = sorted(rows.values(), key=lambda kind: (kind.status, kind.code))
    return render(request, "docs/errors.html", {"problems": [kind() for kind in codes]})


def kinds(root: type[Problem]) -> Iterator[type[Problem]]:
    """`root` and every refusal below it that `genpulse.errors` names."""
    if root.__module__ == errors.__name__:
        yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)
