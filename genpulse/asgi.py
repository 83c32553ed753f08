"""The one ASGI service: HTTP by Django, WebSockets by Channels."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genpulse.settings")
django.setup(set_prefix=False)

from genpulse.http.asgi import Handler  # noqa: E402 - apps must be loaded first

application = Handler()
