"""A door for the tests of the machinery below all doors: notes that somebody owns."""

import time
from typing import Annotated
from uuid import UUID

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import include, path
from pydantic import StringConstraints
from rest_framework.response import Response

from genpulse.auth.models import User
from genpulse.errors import InsufficientCredits, NotFound
from genpulse.events.models import Event
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.http.parsing import Body
from genpulse.http.views import NativeView
from genpulse.ids import new_id
from genpulse.urls import handler400, handler404, handler500  # noqa: F401


class Note(Body):
    text: Annotated[str, StringConstraints(min_length=1)]
    idempotency_key: str | None = None


class Notes(NativeView):
    """An event stands for the note: it has an owner, an id that grows, and lies low."""

    scopes = {"GET": "tasks:read", "POST": "tasks"}

    def get(self, request):
        rows = self.listed(Event.objects.filter(type="note"))
        return Response(paginate(rows, request.query_params, lambda row: row.data["text"]))

    def post(self, request):
        body = self.parse(Note)
        return self.reply(self.once(lambda: self.create(body), self.render))

    def create(self, body):
        note = new_id()
        time.sleep(0.05 if body.text == "slow" else 0)
        event = Event.objects.create(
            account=self.account,
            type="note",
            task_id=note,
            data={"text": body.text},
            at="2026-11-21T10:00:00Z",
        )
        if body.text == "poor":
            raise InsufficientCredits(required="1", available="0")
        if body.text == "secret":
            raise RuntimeError("the password is 12345")
        if body.text == "away":
            raise OperationalError("connection to server at 10.0.0.7 failed")
        answer = {**self.render(note), "big": "x" * (70_000 if body.text == "big" else 0)}
        return Answer(
            status=201, body=answer, object_id=note, headers={"Location": f"/n/{event.id}"}
        )

    @staticmethod
    def render(note: UUID):
        row = Event.objects.filter(task_id=note, type="note").first()
        if row is None:
            raise NotFound
        said = row.data["text"]
        return {
            "zebra": said,
            "id": str(note),
            "output": {"text": said.upper()},
            "items": [{"url": f"signed-{new_id()}", "n": 1}],
            "purged": said == "gone",
        }


class OneNote(NativeView):
    scopes = {"GET": "tasks:read"}

    def get(self, request, note):
        row = self.visible(Event.objects.filter(type="note")).filter(pk=note).first()
        if row is None:
            raise NotFound
        return Response(row.data)


class Who(NativeView):
    """Reads and writes without an object."""

    def get(self, request):
        return Response({"user": self.user.name, "exists": self.account.pk is not None})

    def post(self, request):
        return Response({"user": self.user.name, "known": User.objects.count()})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def lines():
        yield b"data: " + b"x" * 5000 + b"\n\n"

    return StreamingHttpResponse(lines(), content_type="text/event-stream")


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<p>" + "x" * 5000, headers={"ETag": '"1"'})


def broken(request: HttpRequest) -> HttpResponse:
    raise OperationalError("connection to server at 10.0.0.7 failed")


urlpatterns = [
    path("api/v1/notes", Notes.as_view()),
    path("api/v1/notes/<int:note>", OneNote.as_view()),
    path("api/v1/who", Who.as_view()),
    path("stream", stream),
    path("page", page),
    path("broken", broken),
    path("", include("genpulse.urls")),
]
