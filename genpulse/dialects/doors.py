"""What the dialects of tasks share: they translate names into task bodies, and task objects back into their words."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet

from genpulse.errors import FieldError, ValidationFailed
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import parse
from media import services as media
from tasks import services
from tasks.api import TaskDoor
from tasks.drafts import Draft
from tasks.models import Status, Task
from tasks.render import Extras, extras, render_task
from tasks.requests import TaskBody
from tasks.services import BatchSpec

IMAGE_TYPES = ("text-to-image", "image-to-image")
VIDEO_TYPES = ("text-to-video", "image-to-video", "video-to-video")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A task that a dialect asks for: native fields, and what it wants to remember for its own answers."""

    fields: Mapping[str, Any]
    remembered: Mapping[str, Any] = field(default_factory=dict)
    callback: Mapping[str, Any] | None = None  # `url` and `style`: whose body the receiver gets
    conversation_id: str | None = None


class DialectDoor(TaskDoor):
    takes_session = False
    input_at: ClassVar[str] = ""  # where this door's body has the fields of `input`
    missing: ClassVar[str] = "Task not found"

    def submit(
        self,
        wishes: Sequence[Wish],
        said: Callable[[list[UUID]], dict[str, Any]],
        *,
        status: int = 200,
        batch: BatchSpec | None = None,
    ) -> Answer:
        """Store all wishes or none, once for an Idempotency-Key; `said` makes the body from their ids."""
        made = self.drafts(wishes, batch)

        def create() -> Answer:
            placed = services.place(self.actor(), made, batch)
            ids = placed.ids
            headers = {"X-GenPulse-Task-Id": str(ids[0])}
            if batch:
                of = Task.objects.values_list("batch_id", flat=True).get(pk=ids[0])
                headers["X-GenPulse-Batch-Id"] = str(of)
            return Answer(
                status=status, body=said(ids), headers=headers, object_id=ids[0], last=placed.pay
            )

        answer: Answer | None = None
        try:
            answer = self.once(create)
        finally:
            if answer is None or answer.replayed:
                media.discard([file for draft in made for file in draft.files])
        return answer

    def drafts(self, wishes: Sequence[Wish], batch: BatchSpec | None) -> list[Draft]:
        with self.own_names():
            bodies = [("", self.body_of(wish)) for wish in wishes]
            made = services.check_all(self.actor(), bodies)
        for draft, wish in zip(made, wishes, strict=True):
            draft.batch_index = draft.batch_index if batch else None
            draft.body = draft.body.model_copy(update={"conversation_id": wish.conversation_id})
            draft.extra_options["dialect"] = dict(wish.remembered)
            if wish.callback:
                draft.extra_options["webhook"] = {"events": None, **wish.callback}
        return made

    @staticmethod
    def body_of(wish: Wish) -> TaskBody:
        fields = {name: value for name, value in wish.fields.items() if value is not None}
        if wish.callback:
            fields["webhook"] = {"url": wish.callback["url"]}
        return parse(TaskBody, fields)

    def own_names(self) -> AbstractContextManager[None]:
        """Refusals raised inside name the fields as this door's body does."""
        return renaming(self.renamed)

    def renamed(self, name: str) -> str:
        if name == "webhook.url":
            return "callback_url"
        inside = name.startswith("input.")
        return f"{self.input_at}{name.removeprefix('input.')}" if inside else name

    def one(self, id_: str) -> "Shown":
        """A task by its id, as this credential may see it. Raises NotFound."""
        return shown([self.task(id_)])[0]

    def again(self, task_id: UUID) -> "Shown":
        """As it is now in the database: the answer to a write always shows that write."""
        return shown([Task.objects.get(pk=task_id)])[0]


@contextmanager
def renaming(renamed: Callable[[str], str]) -> Iterator[None]:
    """Refusals raised inside name their fields by `renamed`."""
    try:
        yield
    except ValidationFailed as problem:
        items = [FieldError(renamed(e.field), e.code, e.message) for e in problem.errors]
        said = problem.detail
        for old, new in zip(problem.errors, items, strict=True):
            said = said.replace(f"{old.field}:", f"{new.field}:")
        raise type(problem)(said, errors=items, **problem.extra) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A task, its bodies, and the task object that every dialect renders from."""

    row: Task
    more: Extras
    object: dict[str, Any]

    @property
    def remembered(self) -> dict[str, Any]:
        found: dict[str, Any] = self.more.options.get("dialect") or {}
        return found


def shown(tasks: Sequence[Task]) -> list[Shown]:
    """One query more, however many."""
    more = extras([task.id for task in tasks])
    return [
        Shown(row=task, more=more[task.id], object=render_task(task, more[task.id]))
        for task in tasks
    ]


def error_text(task: Mapping[str, Any]) -> str | None:
    """Why a task object has no result, in the words that all dialects use."""
    error = task["error"]
    if task["status"] == Status.CANCELED:
        return "canceled"
    if task["status"] == Status.EXPIRED:
        return f"expired: {error['message'] if error else 'out of time'}"
    return error["message"] if error else None


def updated_at(task: Mapping[str, Any]) -> str:
    """When a task object last changed its status, as far as its times tell."""
    times: list[str | None] = [
        task[name] for name in ("created_at", "admitted_at", "started_at", "finished_at")
    ]
    return max(time for time in times if time)


def urls_of(task: Mapping[str, Any], kind: str | None = None) -> list[str]:
    """The signed addresses of its results, of one kind when named."""
    assets = (task["output"] or {}).get("assets", [])
    return [asset["url"] for asset in assets if kind in {None, asset["kind"]}]


def words_for(table: Mapping[Status, str], word: str) -> list[Status]:
    """The core statuses that a door's word stands for. Raises ValidationFailed."""
    found = [status for status, name in table.items() if name == word]
    if not found:
        raise ValidationFailed.of(
            "status", "choice", f"want one of {', '.join(set(table.values()))}"
        )
    return found


def newest(tasks: QuerySet[Task], limit: int, offset: int) -> list[Task]:
    return list(tasks.order_by("-id")[offset : offset + limit])
