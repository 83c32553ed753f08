"""How every page and fragment of the console leaves: as HTML under a policy that runs no foreign code."""

from functools import cache
from typing import Any
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from genpulse.errors import Problem
from media import services as media

HOME = "/console/"


@cache
def policy() -> str:
    """Content-Security-Policy: our own files, previews as data, and results from where they are stored."""
    parts = urlsplit(media.sign_key("any", "image/png", "any").url)
    stored = f"{parts.scheme}://{parts.netloc}"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            f"img-src 'self' data: {stored}",
            f"media-src 'self' {stored}",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def guarded(response: HttpResponse) -> HttpResponse:
    """Never kept by anybody, and under `policy()`."""
    response["Content-Security-Policy"] = policy()
    response["Cache-Control"] = "no-store"
    return response


def page(
    request: HttpRequest, name: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """The template `console/<name>.html` as an answer."""
    return guarded(render(request, f"console/{name}.html", context, status=status))


def told(request: HttpRequest, problem: Problem) -> HttpResponse:
    """A refusal as the page shows it; one without a valid session leads to the sign-in page."""
    response = page(request, "problem", {"problem": problem}, problem.status)
    if problem.status == 401:
        response["HX-Redirect"] = HOME
        response["WWW-Authenticate"] = "Bearer"
    return response
