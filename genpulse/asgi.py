"""The one ASGI service: HTTP by Django, WebSockets by Channels."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genpulse.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - apps must be loaded first
from django.db import connections  # noqa: E402
from django.urls import re_path  # noqa: E402

from genpulse.dialects.platform.stream import NotifySocket  # noqa: E402
from genpulse.http.asgi import Handler  # noqa: E402
from genpulse.http.handshakes import answered  # noqa: E402
from tasks.connection import NoSocket  # noqa: E402
from tasks.consumers import EventSocket  # noqa: E402

# Views give their connection back after each call; without a pool the next call would log in to PostgreSQL anew.
connections.settings["default"]["OPTIONS"]["pool"] = {"min_size": 2, "max_size": 16, "timeout": 10}
application = ProtocolTypeRouter(
    {
        "http": Handler(),
        "websocket": answered(
            URLRouter(
                [
                    re_path(r"^ws/events/?$", EventSocket.as_asgi()),
                    re_path(r"^api/notify/v1/stream/?$", NotifySocket.as_asgi()),
                    re_path(r"", NoSocket.as_asgi()),
                ]
            )
        ),
    }
)
