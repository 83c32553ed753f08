"""What the views of the OpenAI dialect share: a body becomes one task, and the answer waits for its end."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar
from uuid import UUID

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import fleet
from genpulse.config import config
from genpulse.dialects.doors import DialectDoor, Shown, Wish
from genpulse.dialects.openai.failures import Failure, NoExecutor, of_task
from genpulse.dialects.openai.forms import FormControls, FormObject
from genpulse.errors import ValidationFailed
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import wrong
from providers.params import OpenParams
from tasks import catalogue, waiting
from tasks.drafts import Draft
from tasks.services import BatchSpec

Render = Callable[[Shown], HttpResponseBase]
FIELDS = {
    "task_type": "model",
    "provider": "model",
}  # native names that this dialect has another for


def _priority(value: Any) -> Any:
    """A form knows texts only."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _spoken(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise wrong("empty", "must not be blank")
    return value


ModelId = Annotated[str, Field(min_length=1, max_length=200)]
Words = Annotated[str, Field(min_length=1, max_length=100_000), BeforeValidator(_spoken)]


class Asked(BaseModel):
    """What all creating calls take; further fields go to the provider where the model knows them."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: ModelId
    user: str | None = None
    priority: Annotated[str | int | None, BeforeValidator(_priority)] = None
    metadata: FormObject = None
    sandbox: FormControls = None

    @property
    def notes(self) -> dict[str, Any]:
        """The task's metadata; `user` is noted there and means nothing else."""
        return {**({"user": self.user} if self.user else {}), **(self.metadata or {})}


class OpenAIDoor(DialectDoor):
    """`names`: what this door calls the native input names, for its refusals."""

    source: ClassVar[str] = "openai"
    names: ClassVar[Mapping[str, str]] = {}
    providers: frozenset[str] = frozenset()

    def renamed(self, name: str) -> str:
        if not name.startswith("input."):
            return FIELDS.get(name) or super().renamed(name)
        first, dot, rest = name.removeprefix("input.").partition(".")
        return f"{self.names.get(first, first)}{dot}{rest}"

    def wish(self, asked: Asked, task_type: str, given: Mapping[str, Any], **more: Any) -> Wish:
        """`given`: native input; `more`: what a Wish has besides its fields."""
        known = {name: value for name, value in given.items() if value is not None}
        extras = fitting(asked.model, asked.model_extra or {})
        controls = {} if asked.sandbox is None else {"sandbox": asked.sandbox}
        fields = {
            "model": asked.model,
            "task_type": task_type,
            "input": {**extras, **known, **controls},
            "priority": asked.priority,
            "metadata": asked.notes,
            "stream": more.pop("stream", False),
        }
        return Wish(fields=fields, **more)

    def make(self, wish: Wish) -> Answer:
        """Store the task, once for an Idempotency-Key. Raises NoExecutor and what submit raises."""
        return self.submit([wish], self.said)

    def said(self, ids: list[UUID]) -> dict[str, Any]:
        """Raised here, inside the transaction, a refusal leaves no task."""
        active = {one.type for one in fleet.current().executors if one.status == "active"}
        if self.providers.isdisjoint(active):
            name = min(self.providers)
            raise NoExecutor(f"There is no active executor of provider {name}.")
        return {"id": str(ids[0])}

    def drafts(self, wishes: Any, batch: BatchSpec | None) -> list[Draft]:
        made = super().drafts(wishes, batch)
        self.providers = frozenset(target.provider for one in made for target in one.targets)
        return made

    def finished(self, answer: Answer, render: Render) -> HttpResponseBase:
        """The result when the task has ended; with `Prefer: respond-async` its task object at once."""
        made = task_of(answer)
        if responds_async(self.request):
            headers = {**answer.headers, "Location": f"/api/v1/tasks/{made}"}
            return self.reply(replace(answer, status=202, body=self.shown(made), headers=headers))
        end = partial(waiting.task_end, made, config.sync_wait_max)
        return self.held(Response(), end, lambda: self.outcome(answer, render))

    def outcome(self, answer: Answer, render: Render) -> Any:
        """What became of the task, as it is now in the database."""
        found = self.again(task_of(answer))
        failure = of_task(found.object)
        return self.labelled(render(found) if failure is None else refused(failure), answer)

    def labelled(self, response: HttpResponseBase, answer: Answer) -> HttpResponseBase:
        """With the headers that every answer to a create carries."""
        for name, value in self.reply(answer).headers.items():
            response.headers.setdefault(name, value)
        return response


def task_of(answer: Answer) -> UUID:
    assert answer.object_id is not None  # noqa: S101 - `make` always names it
    return answer.object_id


def refused(failure: Failure) -> Response:
    return Response(failure.body, failure.status, headers=dict(failure.headers))


def responds_async(request: Request) -> bool:
    wishes = request.headers.get("Prefer", "").lower().split(",")
    return any(wish.partition(";")[0].strip() == "respond-async" for wish in wishes)


def fitting(model: str, extras: Mapping[str, Any]) -> dict[str, Any]:
    """Fields this dialect does not name go to the provider; a model with a closed list of inputs gets those on it."""
    known = {name: value for name, value in extras.items() if value is not None}
    entry = catalogue.find(model) if known else None
    if entry is None:
        return known
    params = (entry.declared.params if entry.declared else None) or OpenParams
    if params.model_config.get("extra") == "allow":
        return known
    return {name: value for name, value in known.items() if name in params.model_fields}


def only(value: Any, allowed: Any, field: str) -> None:
    """Raises ValidationFailed for a value that the contract has, and this service not."""
    if value not in {None, allowed}:
        raise ValidationFailed.of(field, "choice", f"only {allowed!r} is supported")


def plain(text: str) -> HttpResponse:
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


def tokens(usage: Mapping[str, Any] | None) -> dict[str, int]:
    """`usage` of chat; always there, with zeros where the provider said nothing."""
    given = usage or {}
    asked, answered = (int(given.get(f"{name}_tokens") or 0) for name in ("prompt", "completion"))
    total = int(given.get("total_tokens") or asked + answered)
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": total}
