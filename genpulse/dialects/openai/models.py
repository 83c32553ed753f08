"""`GET /models`."""

from datetime import datetime
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.openai.failures import ModelNotFound
from genpulse.http.views import NativeView
from tasks import catalogue, insight
from tasks.catalogue import Entry


class ModelDoor(NativeView):
    takes_session = False
    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read"}


class Models(ModelDoor):
    """What can be asked for by name and would start soon."""

    def get(self, request: Request) -> Response:
        """List the available models."""
        picture = insight.current()
        usable = [
            entry
            for entry in catalogue.entries()
            if catalogue.unavailable(entry.route, picture) is None
        ]
        born = catalogue.births()
        return Response({"object": "list", "data": [shown(one, born(one)) for one in usable]})


class OneModel(ModelDoor):
    """Any model of the catalogue."""

    def get(self, request: Request, name: str) -> Response:
        """Look a model up."""
        entry = catalogue.find(name)
        if entry is None:
            raise ModelNotFound(f"The model {name!r} does not exist.")
        return Response(shown(entry, catalogue.births()(entry)))


def shown(entry: Entry, born: datetime | None) -> dict[str, Any]:
    """Nobody knows when a vendor made a model: `created` says since when it is here, 0 when it is not yet."""
    return {
        "id": entry.name,
        "object": "model",
        "created": int(born.timestamp()) if born else 0,
        "owned_by": entry.target.provider,
    }
