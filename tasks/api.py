"""The native API of tasks: submit, read, list, and the verbs of one task."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from pydantic import Field, JsonValue
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.http.parsing import Body, parse
from genpulse.http.views import NativeView
from genpulse.ids import parse_id
from media import services as media
from tasks import drafts, render, services, snapshots, streams, verbs, waiting
from tasks.drafts import Actor
from tasks.filters import TaskFilter
from tasks.models import TERMINAL, Batch, Task, TaskContent
from tasks.moves import GiveUp, Move, Resend, Settle, error
from tasks.render import render_tasks
from tasks.requests import CloneBody, TaskBody, merge_patch
from tasks.snapshots import Snapshot
from tasks.waiting import WaitQuery


class TaskDoor(NativeView):
    """What the views of tasks share."""

    scopes: ClassVar[dict[str, str]] = {"GET": "tasks:read", "POST": "tasks", "DELETE": "tasks"}
    source: ClassVar[str] = "native"

    def actor(self) -> Actor:
        """The submitter, for the account acted for; inside a write's transaction that account exists."""
        account = self.account
        return Actor(
            account_id=account.id,
            account=account.name,
            source=self.source,
            key=self.credential.key,
            admin=self.credential.has("admin"),
        )

    def for_owner(self, owned: Task | Batch) -> Actor:
        """A retry belongs to the owner of what is retried, whoever asks for it."""
        return Actor(
            account_id=owned.account_id,
            account=owned.account.name,
            source=self.source,
            key=self.credential.key,
            admin=self.credential.has("admin"),
        )

    def tasks(self) -> QuerySet[Task]:
        return self.visible(Task.objects.filter(hidden_at=None))

    def task(self, id_: str) -> Task:
        """Raises NotFound for what is unknown, hidden or another owner's."""
        key = parse_id(id_)
        task = self.tasks().filter(pk=key).first() if key else None
        if task is None:
            raise NotFound
        return task

    def shown(self, task_id: UUID) -> dict[str, Any]:
        """The task as it is now in the database: the answer to a write always shows that write."""
        return self.rendered(render.whole(task_id))

    def rendered(self, found: render.Whole) -> dict[str, Any]:
        return render.render_task(*found, admin=self.credential.has("admin"))

    def held(
        self,
        response: Response,
        until: Callable[[], Awaitable[object]],
        again: Callable[[], Response],
    ) -> Response:
        """Let the answer wait for `until()`; it is then what `again()` says."""
        waiting.hold(
            response,
            until,
            lambda: self.finalize_response(self.request, again(), *self.args, **self.kwargs),
        )
        return response

    def submitted(
        self,
        answer: Answer,
        patience: int | None,
        end: Callable[[UUID, float], Awaitable[object]],
        shown: Callable[[UUID], dict[str, Any]],
    ) -> Response:
        """The answer to a submit; a client that prefers to wait gets the state at the end."""
        response, made = self.reply(answer), answer.object_id
        if patience is None or made is None:
            return response
        headers = {**answer.headers, "Preference-Applied": f"wait={patience}"}
        return self.held(
            response,
            lambda: end(made, patience),
            lambda: self.reply(replace(answer, body=shown(made), headers=headers)),
        )

    def created(
        self, task_id: UUID, status: int = 201, found: render.Whole | None = None
    ) -> Answer:
        headers = {"Location": f"/api/v1/tasks/{task_id}", "X-GenPulse-Task-Id": str(task_id)}
        body = self.rendered(found or render.whole(task_id))
        return Answer(status=status, body=body, headers=headers, object_id=task_id)

    def store(self, body: TaskBody, **changes: Any) -> Answer:
        """Check `body` outside and write it inside the transaction of its Idempotency-Key."""
        made = drafts.draft(self.actor(), body)
        for name, value in changes.items():
            setattr(made, name, value)

        def create() -> Answer:
            placed = services.place(self.actor(), [made], ask=render.ask)
            return replace(self.created(placed.ids[0], found=placed.asked()), last=placed.pay)

        answer: Answer | None = None
        try:
            answer = self.once(create, self.shown)
        finally:
            if answer is None or answer.replayed:
                media.discard(made.files)
        return answer


class Tasks(TaskDoor):
    """POST: submit. GET: list."""

    def get(self, request: Request) -> Response:
        wanted = self.query(TaskFilter)
        tasks = wanted.apply(self.listed(Task.objects.filter(hidden_at=None)))
        page = paginate(tasks, request.query_params.dict(), lambda task: task)
        page["items"] = render_tasks(page["items"], admin=self.credential.has("admin"))
        return Response(page)

    def post(self, request: Request) -> HttpResponseBase:
        patience = waiting.preferred(request)
        answer = self.store(self.parse(TaskBody))
        if streams.wanted(request):
            return self.streamed(answer)
        return self.submitted(answer, patience, waiting.task_end, self.shown)

    def streamed(self, answer: Answer) -> HttpResponseBase:
        """The new task's events from the first; a replay gets those of the first request's task."""
        task = Task.objects.get(pk=answer.body["id"])
        source = streams.TaskSource(task.id, task.account_id, 0, streamed=task.stream)
        response = streams.respond(source, admin=self.credential.has("admin"))
        for name, value in self.reply(answer).headers.items():
            response.headers.setdefault(name, value)
        return response


class OneTask(TaskDoor):
    def get(self, request: Request, id_: str) -> Response:
        patience = self.query(WaitQuery).wait
        recent = None if patience else self.recent(id_)
        if recent is not None:
            return self.tagged(recent)
        task = self.task(id_)
        response = self.tagged(Snapshot.take(task))
        if patience is None or task.status in TERMINAL:
            return response
        end = partial(waiting.task_end, task.id, patience)
        return self.held(response, end, lambda: self.tagged(Snapshot.take(self.task(id_))))

    def recent(self, id_: str) -> Snapshot | None:
        """The task as it was a moment ago, where it is plain that this credential may see it."""
        key = parse_id(id_)
        kept = snapshots.recent(key) if key else None
        return kept if kept and self.sees(kept.account_id, kept.plain["user"]) else None

    def tagged(self, taken: Snapshot) -> Response:
        """The task, or 304 for a client that knows it."""
        known = self.request.headers.get("If-None-Match", "")
        body, tag = taken.answer(known, admin=self.credential.has("admin"))
        return Response(body, 304 if body is None else 200, headers={"ETag": tag})

    def delete(self, request: Request, id_: str) -> Response:
        verbs.hide(self.task(id_), by=self.credential.user.name)
        return Response(status=204)


class CancelTask(TaskDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        verbs.cancel([task.id], by=self.credential.user.name)
        return Response(self.shown(task.id))


class PromoteTask(TaskDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        verbs.promote(task, by=self.credential.user.name)
        return Response(self.shown(task.id))


class RetryTask(TaskDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.task(id_)

        def again() -> Answer:
            made, new = verbs.retry(self.for_owner(task), task)
            return self.created(made, 201 if new else 200)

        return self.reply(self.once(again, self.shown))


class CloneTask(TaskDoor):
    def post(self, request: Request, id_: str) -> Response:
        task = self.task(id_)
        patch = self.parse(CloneBody).model_dump(exclude_unset=True)
        content = TaskContent.objects.get(pk=task.id)
        asked = verbs.asked(task, content)
        merged = {**asked, **patch, "input": merge_patch(asked["input"], patch.get("input", {}))}
        merged.pop("idempotency_key", None)
        body = parse(TaskBody, {name: value for name, value in merged.items() if value is not None})
        return self.reply(self.store(body, cloned_from=task.id))


class SettledOutput(Body):
    """The parts of a task's output that an operator can give; any other object becomes its `data`."""

    text: str | None = None
    message: dict[str, JsonValue] | None = None
    data: JsonValue = None


class ResolveBody(Body):
    outcome: str = Field(pattern="^(succeeded|failed|resend)$")
    reason: str = Field(min_length=1, max_length=200)
    output: SettledOutput | dict[str, JsonValue] | None = Field(None, union_mode="left_to_right")


class ResolveTask(TaskDoor):
    """An operator ends the uncertainty about a task."""

    scopes: ClassVar[dict[str, str]] = {"POST": "admin"}

    def post(self, request: Request, id_: str) -> Response:
        task, body = self.task(id_), self.parse(ResolveBody)
        verbs.resolve(task, resolution(task, body))
        return Response(self.shown(task.id))


def resolution(task: Task, body: ResolveBody) -> Move:
    if body.outcome == "resend":
        return Resend(task_id=task.id, attempt=task.attempt, possible_cost=True)
    if body.outcome == "failed":
        shown = error("unknown_outcome", "outcome_unknown", body.reason)
        return GiveUp(task_id=task.id, attempt=task.attempt, shown=shown, possible_cost=True)
    given = body.output
    shape = given if isinstance(given, SettledOutput) else SettledOutput(data=given)
    output = {**shape.model_dump(), "assets": []}
    return Settle(task_id=task.id, success=True, output=output, charge=task.quoted)
