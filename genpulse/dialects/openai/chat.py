"""`POST /chat/completions`: one model, a finished answer or its pieces."""

from collections.abc import Mapping
from typing import Annotated, Any

from django.http.response import HttpResponseBase
from pydantic import BeforeValidator, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.doors import Shown
from genpulse.dialects.openai import chat_stream
from genpulse.dialects.openai.chunks import Voice, completion_id, finish_reason
from genpulse.dialects.openai.doors import Asked, OpenAIDoor, only, responds_async, task_of, tokens
from genpulse.dialects.openai.forms import asset_of
from genpulse.dialects.openai.leaving import Leaves
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import Flag, wrong
from tasks.models import Task

OPTIONS = (
    "temperature",
    "top_p",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
    "reasoning_effort",
)
MESSAGE = ("role", "content", "refusal")
EXTRAS = ("tool_calls", "reasoning_content")


def _message(value: Any) -> Any:
    if not isinstance(value, dict):
        raise wrong("type", "every message is an object")
    content = value.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise wrong("type", "content must be a text or a list of parts")
    if not isinstance(content, list):
        return value
    return {**value, "content": [_part(part) for part in content]}


def _part(part: Any) -> Any:
    """Files that were uploaded before become inputs like those that come along."""
    if not isinstance(part, dict):
        raise wrong("type", "every part is an object with a type")
    file = part.get("file")
    if not isinstance(file, dict) or not isinstance(file.get("file_id"), str):
        return part
    others = {name: value for name, value in file.items() if name != "file_id"}
    return {**part, "file": {**others, "file_data": asset_of(file["file_id"])}}


Message = Annotated[dict[str, Any], BeforeValidator(_message)]


class ChatIn(Asked):
    """POST /openai/v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    stream: Flag | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    conversation_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    temperature: Any = None  # these are checked by what the model takes
    top_p: Any = None
    stop: Any = None
    seed: Any = None
    tools: Any = None
    tool_choice: Any = None
    response_format: Any = None
    reasoning_effort: Any = None
    prompt: Any = None  # means nothing here

    def input(self) -> dict[str, Any]:
        limit = (
            self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        )
        options = {name: getattr(self, name) for name in OPTIONS}
        return {"messages": self.messages, "max_tokens": limit, **options}


class ChatAnswers(OpenAIDoor):
    """For doors where `messages` are answered."""

    def completion(self) -> HttpResponseBase:
        asked = self.parse(ChatIn)
        only(asked.n, 1, "n")
        options = {"stream": bool(asked.stream), "conversation_id": asked.conversation_id}
        answer = self.make(self.wish(asked, "chat", asked.input(), **options))
        if responds_async(self.request):
            return self.finished(answer, answered)
        if asked.stream:
            return self.streamed(answer, wants_usage(asked))
        response = self.finished(answer, answered)
        response.leaves = self.leaves(answer)  # type: ignore[attr-defined]
        return response

    def streamed(self, answer: Answer, usage: bool) -> HttpResponseBase:
        """A replay gets the answer of the first request's task from its start."""
        task = Task.objects.get(pk=task_of(answer))
        voice = Voice(
            task_id=str(task.id),
            model=task.model or "",
            created=int(task.created_at.timestamp()),
            usage=usage,
        )
        leaves = self.leaves(answer)
        response = chat_stream.respond(task.id, task.account_id, voice, leaves)
        response.leaves = leaves  # type: ignore[attr-defined]
        return self.labelled(response, answer)

    def leaves(self, answer: Answer) -> Leaves | None:
        """With an Idempotency-Key the client may come back for the answer."""
        if "Idempotency-Key" in self.request.headers:
            return None
        return Leaves(task_of(answer), self.account.id, self.credential.user.name)


class Completions(ChatAnswers):
    """Chat with one model."""

    bodies = {"POST": ChatIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Ask a model; with `stream` the answer comes in pieces."""
        return self.completion()


def wants_usage(asked: ChatIn) -> bool:
    return (asked.stream_options or {}).get("include_usage") is True


def answered(found: Shown) -> Response:
    return Response(completion(found))


def completion(found: Shown) -> dict[str, Any]:
    """The finished answer."""
    task = found.object
    output = task["output"] or {}
    said: Mapping[str, Any] = output.get("message") or {}
    message = {"role": "assistant", "content": output.get("text"), "refusal": None}
    message |= {name: said[name] for name in MESSAGE if name in said}
    message |= {name: said[name] for name in EXTRAS if said.get(name)}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": finish_reason(said),
    }
    return {
        "id": completion_id(task["id"]),
        "object": "chat.completion",
        "created": int(found.row.created_at.timestamp()),
        "model": task["model"],
        "system_fingerprint": None,
        "choices": [choice],
        "usage": tokens(task["usage"]),
    }
