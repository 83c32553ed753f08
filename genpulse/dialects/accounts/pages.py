"""Ways into a session that are pages: the one-time link, and Django admin's form."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import login as start_session
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.views.decorators.cache import never_cache

from genpulse.auth import login
from genpulse.http import ratelimit
from genpulse.http.plain import read_only

BACKEND = "django.contrib.auth.backends.ModelBackend"


@read_only
@never_cache
def login_link(request: HttpRequest, value: str) -> HttpResponse:
    """Spends the link, starts a session and leads to console or admin."""
    user, page = login.by_link(value)
    start_session(request, user, backend=BACKEND)
    return HttpResponseRedirect(page)


def admin_login(request: HttpRequest, **context: Any) -> HttpResponse:
    """Django's own form, with no more attempts from one address than any other log-in."""
    if request.method == "POST":
        ratelimit.check_login(request.META.get("REMOTE_ADDR", ""))
    return admin.site.login(request, context)
