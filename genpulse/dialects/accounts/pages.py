"""Django admin's form."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from genpulse.http import ratelimit


def admin_login(request: HttpRequest, **context: Any) -> HttpResponse:
    """Django's own form, with no more attempts from one address than any other log-in."""
    if request.method == "POST":
        ratelimit.check_login(request.META.get("REMOTE_ADDR", ""))
    return admin.site.login(request, context)
