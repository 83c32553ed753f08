"""Every door, in the order they are tried. Paths are registered without a trailing slash and accept one."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("admin/", admin.site.urls),
    path("", include("media.urls")),
]

handler400 = "genpulse.http.problems.bad_request"
handler404 = "genpulse.http.problems.not_found"
handler500 = "genpulse.http.problems.server_error"
