"""`/api/tasks/v1/*`: work by action, at a fixed price, under the caller's own task ids."""

import hashlib
import json
from typing import Annotated, Any, ClassVar

from django.db import transaction
from django.db.models import Q, QuerySet
from pydantic import Field, JsonValue
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.doors import renaming, words_for
from genpulse.dialects.platform.common import (
    Id,
    Owned,
    PlatformBody,
    PlatformDoor,
    Points,
    page_of,
    points,
)
from genpulse.errors import HoldConflict, NotFound, Problem, ScopeMissing, ValidationFailed
from genpulse.events.bells import ring_admit
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import render_time
from genpulse.ids import parse_id
from genpulse.money import MICRO
from media import services as media
from tasks import actions, services, verbs
from tasks.drafts import Actor, Draft
from tasks.lifecycle import apply
from tasks.models import Status, Task
from tasks.moves import Settle, error
from tasks.render import Extras, extras, render_task
from tasks.requests import PriorityLevel
from wallet import services as wallet

WORDS = {
    Status.QUEUED: "pending",
    Status.BLOCKED: "blocked",
    Status.ADMITTED: "queued",
    Status.RUNNING: "running",
    Status.AWAITING: "running",
    Status.VERIFYING: "running",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "cancelled",
    Status.EXPIRED: "failed",
}


class TaskConflict(Problem):
    """This taskId was used with another body."""

    status, code = 409, "task_conflict"


class SubmitBody(Owned):
    task_id: Id
    action: Id
    channel: str | None = None
    workflow_params: dict[str, JsonValue] = {}
    points: Points
    priority: PriorityLevel | None = None
    title: Annotated[str, Field(max_length=200)] | None = None
    sandbox: dict[str, JsonValue] | None = None

    def digest(self) -> str:
        aside = {"user_id"} if self.sandbox else {"user_id", "sandbox"}
        text = json.dumps(self.model_dump(exclude=aside), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def fields(self) -> dict[str, Any]:
        """Of a native task; the images of `imageList` are inputs."""
        given = dict(self.workflow_params)
        listed = given.pop("imageList", given.pop("image_list", None))
        if listed:
            given["images"] = images(listed)
        if self.sandbox is not None:
            given["sandbox"] = self.sandbox
        named = {"input": given}
        return named if self.priority is None else {**named, "priority": NAMES[self.priority]}


NAMES = {0: "critical", 1: "default", 2: "low"}


def images(listed: Any) -> list[JsonValue]:
    """URLs, or objects with one."""
    if not isinstance(listed, list):
        raise ValidationFailed.of("workflowParams.imageList", "type", "want a list of URLs")
    return [one["url"] if isinstance(one, dict) and "url" in one else one for one in listed]


class ListQuery(Owned):
    action: str | None = None
    status: str | None = None
    page: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    size: Annotated[int, Field(ge=1, le=50)] = 20


class TaskDoor(PlatformDoor):
    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read", "POST": "tasks"}

    def own(self) -> QuerySet[Task]:
        return Task.objects.filter(external_id__isnull=False, source="platform", hidden_at=None)

    def one(self, id_: str) -> Task:
        """By the caller's id, or ours; the newest of that id. Raises NotFound."""
        self.asked(Owned)
        key = parse_id(id_)
        rows = self.visible(self.own())
        found = rows.filter(external_id=id_).order_by("-id").first()
        task = found or (rows.filter(pk=key).first() if key else None)
        if task is None:
            raise NotFound
        return task


def word(task: Task) -> str:
    """A task without a binding is blocked from the first moment."""
    status = Status(task.status)
    return "blocked" if status == Status.QUEUED and not task.provider else WORDS[status]


class Submit(TaskDoor):
    """Freeze the points, or adopt the hold that was frozen for this taskId, and queue the work."""

    bodies = {"POST": SubmitBody}

    def post(self, request: Request) -> Response:
        body = self.read(SubmitBody)
        made = None if self.earlier(body) else self.draft(body)
        answer: Answer | None = None
        try:
            answer = self.once(lambda: self.accepted(body, made))
        finally:
            if made and (answer is None or answer.replayed):
                media.discard(made.files)
        return self.reply(answer)

    def earlier(self, body: SubmitBody) -> Task | None:
        rows = self.own().filter(account_id=self.account.id, external_id=body.task_id)
        return rows.order_by("-id").first()

    def known(self, body: SubmitBody) -> Task | None:
        """The task of an earlier submit. Raises TaskConflict when that had another body."""
        task = self.earlier(body)
        if task and extras([task.id])[task.id].options["dialect"]["digest"] != body.digest():
            raise TaskConflict
        return task

    def actor(self) -> Actor:
        account, credential = self.account, self.credential
        return Actor(
            account_id=account.id,
            account=account.name,
            source="platform",
            key=credential.key,
            admin=credential.has("admin"),
        )

    def draft(self, body: SubmitBody) -> Draft:
        with renaming(own_name):
            made = actions.draft(self.actor(), body.action, body.fields(), body.points * MICRO)
        made.external_id, made.adopts = body.task_id, True
        made.extra_options["dialect"] = {
            "digest": body.digest(),
            "action": body.action,
            "title": body.title,
        }
        return made

    def accepted(self, body: SubmitBody, made: Draft | None) -> Answer:
        task = self.write(made) if made else None
        if task is None:
            task = self.known(body)
            media.discard(made.files if made else [])
        if task is None:
            raise HoldConflict
        return Answer(
            status=200,
            body={"taskId": body.task_id, "status": "pending"},
            headers={"X-GenPulse-Task-Id": str(task.id)},
            object_id=task.id,
        )

    def write(self, made: Draft) -> Task | None:
        """None: the hold of this taskId is not to be had; perhaps a twin was first."""
        actor = self.actor()
        try:
            with transaction.atomic():
                return Task.objects.get(pk=services.write(actor, [made])[0])
        except HoldConflict:
            return None


def own_name(name: str) -> str:
    """A field of the task's input by its name in a submit."""
    if name.startswith("input.images"):
        return name.replace("input.images", "workflowParams.imageList", 1)
    return f"workflowParams.{name.removeprefix('input.')}" if name.startswith("input.") else name


def render(task: Task, more: Extras) -> dict[str, Any]:
    shown = render_task(task, more)
    urls = [asset["url"] for asset in (shown["output"] or {}).get("assets", [])]
    kept = more.options.get("dialect") or {}
    external = (more.output or {}).get("data") or {}
    if isinstance(external, dict) and external.get("resultUrl"):
        urls = [external["resultUrl"], *urls]
    return {
        "taskId": task.external_id,
        "status": word(task),
        "progress": shown["progress"],
        "resultUrl": urls[0] if urls else None,
        "results": urls,
        "errorMessage": error_message(task, shown),
        "points": points(task.quoted),
        "action": kept.get("action"),
        "createdAt": render_time(task.created_at),
        "startedAt": render_time(task.started_at),
        "finishedAt": render_time(task.finished_at),
    }


def error_message(task: Task, shown: dict[str, Any]) -> str | None:
    if word(task) == "blocked":
        return actions.NO_BINDING if not task.provider else str(shown["phase"])
    if task.status == Status.CANCELED:
        return "canceled"
    if task.status == Status.EXPIRED:
        return f"expired: {shown['error']['message']}"
    return shown["error"]["message"] if shown["error"] else None


class OneTask(TaskDoor):
    queries = {"GET": Owned}

    def get(self, request: Request, id_: str) -> Response:
        task = self.one(id_)
        return Response(render(task, extras([task.id])[task.id]))


class Tasks(TaskDoor):
    """Newest first; `page` counts from 0."""

    queries = {"GET": ListQuery}

    def get(self, request: Request) -> Response:
        query = self.asked(ListQuery)
        rows = self.listed(self.own())
        if query.action:
            rows = rows.filter(taskcontent__options__dialect__action=query.action)
        if query.status:
            rows = rows.filter(status_is(query.status))
        shown = page_of(rows.order_by("-id"), query.page, query.size)
        more = extras([task.id for task in shown])
        items = [render(task, more[task.id]) for task in shown]
        return Response(
            {"items": items, "total": rows.count(), "page": query.page, "size": query.size}
        )


def status_is(word_: str) -> Q:
    """The rows that show this word. Raises ValidationFailed."""
    found = words_for(WORDS, word_)
    unbound = Q(status=Status.QUEUED, provider="")
    if word_ == "blocked":
        return Q(status__in=found) | unbound
    return Q(status__in=found) & ~unbound


class CompleteBody(PlatformBody):
    result_url: Annotated[str, Field(max_length=8192)] | None = None
    error_message: Annotated[str, Field(max_length=500)] | None = None


class CompleteQuery(Owned):
    success: bool = True


class Complete(TaskDoor):
    """The caller did the work: whatever of ours still runs is fenced off. An ended task stays as it is."""

    bodies = {"POST": CompleteBody}
    queries = {"POST": CompleteQuery}

    def post(self, request: Request, id_: str) -> Response:
        if not self.credential.names_others:
            raise ScopeMissing("This needs a credential with scope act_as or admin.", scope="admin")
        query, body = self.query(CompleteQuery), self.parse(CompleteBody)
        task = self.one(id_)
        apply([settlement(task, body, query.success)])
        task.refresh_from_db()
        if task.status == Status.SUCCEEDED:
            return Response({"status": word(task), "deducted": points(task.charged)})
        balance = wallet.balance(task.account_id).available
        return Response({"status": word(task), "balance": points(balance)})


def settlement(task: Task, body: CompleteBody, success: bool) -> Settle:
    data = {"resultUrl": body.result_url} if body.result_url else None
    output: dict[str, Any] = {"text": None, "message": None, "data": data, "assets": []}
    message = body.error_message or "The platform reported a failure."
    shown = error("transient", "externally_failed", message)
    return Settle(task_id=task.id, success=success, output=output, charge=task.quoted, shown=shown)


class Cancel(TaskDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.one(id_)
        verbs.cancel([task.id], by=self.credential.user.name)
        task.refresh_from_db()
        return Response({"taskId": task.external_id, "status": word(task)})


class DispatchQuery(PlatformBody):
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class Dispatch(TaskDoor):
    """Ring the orchestrator. Never needed."""

    scopes: ClassVar[dict[str, str]] = {"POST": "admin"}
    queries = {"POST": DispatchQuery}

    def post(self, request: Request) -> Response:
        limit = self.query(DispatchQuery).limit
        ready = self.own().filter(status=Status.QUEUED, ready=True)[:limit].count()
        ring_admit()
        return Response({"dispatched": ready})
