"""Every door, in the order they are tried. Paths are registered without a trailing slash and accept one."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from genpulse import front, health, metrics
from genpulse.http import openapi, problems

admin.autodiscover()
problems.register("/admin", "admin", problems.native)
urlpatterns: list[URLPattern | URLResolver] = [
    path("", front.root),
    path("health", health.health),
    path("healthz", health.healthz),
    path("ready", health.ready),
    path("metrics", metrics.metrics),
    path("docs", front.swagger),
    path("docs/errors", front.error_codes),
    path("openapi.json", openapi.openapi),
    path("", include("genpulse.console.urls")),
    path("", include("genpulse.dialects.accounts.urls")),
    path("", include("genpulse.dialects.platform_admin.urls")),
    path("", include("genpulse.dialects.urls")),
    path("", include("genpulse.dialects.platform.urls")),
    path("", include("media.urls")),
    path("", include("tasks.urls")),
    path("", include("tasks.webhook_urls")),
    path("", include("wallet.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "genpulse.http.problems.bad_request"
handler404 = "genpulse.http.problems.not_found"
handler500 = "genpulse.http.problems.server_error"
