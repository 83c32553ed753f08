"""The chat dialect's conversations."""

from typing import Literal

from pydantic import BaseModel, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects import chat_words as words
from genpulse.dialects.chat import ChatDoor, ListIn
from genpulse.errors import NotFound
from genpulse.http.parsing import render_time
from tasks import conversations
from tasks.models import Conversation


class HistoryIn(BaseModel):
    """`format=list`: the bare list."""

    limit: int = Field(200, ge=1, le=500)
    format: Literal["object", "list"] = "object"


class ConversationDoor(ChatDoor):
    def conversation(self, name: str) -> Conversation:
        """Raises NotFound for what is unknown or another owner's."""
        visible = self.visible(Conversation.objects.all())
        found = conversations.find(visible, name, self.account.id)
        if found is None:
            raise NotFound("Conversation not found")
        return found


class Conversations(ConversationDoor):
    """The conversations, the last one used first."""

    queries = {"GET": ListIn}

    def get(self, request: Request) -> Response:
        asked = self.query(ListIn)
        rows = self.listed(Conversation.objects.all())
        page = rows.order_by("-updated_at", "-id")[asked.offset : asked.offset + asked.limit]
        items = [
            {
                "conversation_id": row.name,
                "title": row.title,
                "modified": render_time(row.updated_at),
            }
            for row in page
        ]
        return Response({"conversations": items, "total": rows.count()})


class History(ConversationDoor):
    """What was said, oldest first; of a long conversation the newest."""

    queries = {"GET": HistoryIn}

    def get(self, request: Request, name: str) -> Response:
        asked = self.query(HistoryIn)
        conversation = self.conversation(name)
        places = conversations.places(conversation)[-asked.limit :]
        messages = [words.message(turn) for turn in conversations.turns(places)]
        if asked.format == "list":
            return Response(messages)
        return Response(
            {
                "conversation_id": conversation.name,
                "title": conversation.title,
                "messages": messages,
                "count": len(messages),
            }
        )


class OneConversation(ConversationDoor):
    """Forget it; its tasks stay."""

    def delete(self, request: Request, name: str) -> Response:
        self.conversation(name).delete()
        return Response({"success": True})
