"""Every door, in the order they are tried. Paths are registered without a trailing slash and accept one."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
