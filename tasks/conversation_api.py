"""The native API of conversations."""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.http.parsing import Body, render_time
from genpulse.http.views import NativeView
from genpulse.ids import new_id
from tasks import conversations
from tasks.conversations import Turn
from tasks.models import Conversation
from tasks.render import text
from tasks.requests import Metadata


class ConversationBody(Body):
    """All of it may be left out."""

    id: str | None = Field(None, min_length=1, max_length=128)
    title: str | None = Field(None, max_length=200)
    metadata: Metadata = {}
    idempotency_key: str | None = None


class TurnQuery(BaseModel):
    """`cursor` is the index of the last turn that was seen."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(20, ge=1, le=100)
    cursor: int = Field(-1, ge=-1)


class ConversationDoor(NativeView):
    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read", "POST": "tasks", "DELETE": "tasks"}

    def conversation(self, name: str) -> Conversation:
        """Raises NotFound for what is unknown or another owner's."""
        visible = self.visible(Conversation.objects.all())
        found = conversations.find(visible, name, self.account.id)
        if found is None:
            raise NotFound
        return found


class Conversations(ConversationDoor):
    """POST: create. GET: list."""

    bodies = {"POST": ConversationBody}
    statuses = {"POST": 201}

    def get(self, request: Request) -> Response:
        rows = self.listed(Conversation.objects.all())
        return Response(paginate(rows, request.query_params.dict(), render))

    def post(self, request: Request) -> Response:
        body = self.parse(ConversationBody)
        return self.reply(self.once(lambda: self.create(body), self.shown))

    def create(self, body: ConversationBody) -> Answer:
        """The existing one, unchanged, where the id is taken."""
        row, new = Conversation.objects.get_or_create(
            account=self.account,
            name=body.id or str(new_id()),
            defaults={"title": body.title, "metadata": body.metadata},
        )
        row.refresh_from_db()
        return Answer(status=201 if new else 200, body=render(row), object_id=row.id)

    @staticmethod
    def shown(id_: UUID) -> dict[str, Any]:
        row = Conversation.objects.filter(pk=id_).first()
        return render(row) if row else {}


class OneConversation(ConversationDoor):
    """GET: read. DELETE: forget it; its tasks stay."""

    statuses = {"DELETE": 204}

    def get(self, request: Request, name: str) -> Response:
        return Response(render(self.conversation(name)))

    def delete(self, request: Request, name: str) -> Response:
        self.conversation(name).delete()
        return Response(status=204)


class Turns(ConversationDoor):
    """The turns of a conversation, oldest first."""

    queries = {"GET": TurnQuery}

    def get(self, request: Request, name: str) -> Response:
        asked = self.query(TurnQuery)
        places = conversations.places(self.conversation(name))
        later = [place for place in places if place[0] > asked.cursor]
        page, more = later[: asked.limit], len(later) > asked.limit
        return Response(
            {
                "items": [render_turn(turn) for turn in conversations.turns(page)],
                "next_cursor": str(page[-1][0]) if more else None,
                "has_more": more,
            }
        )


def render(row: Conversation) -> dict[str, Any]:
    return {
        "id": row.name,
        "object": "conversation",
        "title": row.title,
        "metadata": row.metadata,
        "turns": row.turns,
        "created_at": render_time(row.created_at),
        "updated_at": render_time(row.updated_at),
    }


def render_turn(turn: Turn) -> dict[str, Any]:
    """A user turn belongs to all tasks that were asked, so it names a task only when there is one."""
    answer = turn.role == "assistant"
    return {
        "index": turn.index,
        "role": turn.role,
        "content": turn.content,
        "model": turn.task.model if answer else None,
        "task_id": str(turn.task.id) if answer or turn.task.batch_id is None else None,
        "batch_id": text(turn.task.batch_id),
        "status": turn.task.status if answer else None,
        "assets": turn.assets,
        "created_at": render_time(turn.task.created_at),
    }
