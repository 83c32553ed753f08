"""`GET /models`."""

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
        return Response({"object": "list", "data": [shown(entry) for entry in usable]})


class OneModel(ModelDoor):
    """Any model of the catalogue."""

    def get(self, request: Request, name: str) -> Response:
        """Look a model up."""
        entry = catalogue.find(name)
        if entry is None:
            raise ModelNotFound(f"The model {name!r} does not exist.")
        return Response(shown(entry))


def shown(entry: Entry) -> dict[str, Any]:
    """Nobody knows when a vendor made a model: `created` is 0."""
    return {
        "id": entry.name,
        "object": "model",
        "created": 0,
        "owned_by": entry.target.provider,
    }
