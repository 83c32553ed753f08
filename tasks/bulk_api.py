"""`/tasks/cancel` and `/tasks/retry`: the verbs of one task, for many."""

from typing import Any

from django.db.models import QuerySet
from pydantic import Field, JsonValue
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services as people
from genpulse.errors import Problem, ValidationFailed
from genpulse.http.parsing import Body, Id, parse
from tasks import drafts, verbs
from tasks.api import TaskDoor
from tasks.filters import TaskFilter
from tasks.models import Task


class BulkBody(Body):
    """Exactly one of both."""

    ids: list[Id] | None = Field(None, min_length=1, max_length=verbs.MAX_PER_VERB)
    filter: dict[str, JsonValue] | None = None


class Bulk(TaskDoor):
    """A verb for many tasks: each by the rules of the single verb, one that cannot is counted."""

    def chosen(self) -> tuple[list[Task], int, bool]:
        """The tasks, how many ids were not found, and whether more match."""
        body = self.parse(BulkBody)
        if (body.ids is None) == (body.filter is None):
            code, message = (
                ("exclusive", "ids or filter") if body.ids else ("required", "ids or filter")
            )
            raise ValidationFailed.of("filter" if body.ids else "ids", code, message)  # type: ignore[arg-type]
        if body.ids is not None:
            found = list(self.tasks().filter(pk__in=body.ids).order_by("pk"))
            return found, len(set(body.ids)) - len(found), False
        wanted = parse(StrictTaskFilter, as_text(body.filter or {}), prefix="filter")
        if not wanted.model_fields_set:
            raise ValidationFailed.of("filter", "empty", "name at least one condition")
        with drafts.below("filter"):
            tasks = wanted.apply(self.own(wanted.user)).order_by("pk")
        found = list(tasks[: verbs.MAX_PER_VERB + 1])
        return found[: verbs.MAX_PER_VERB], 0, len(found) > verbs.MAX_PER_VERB

    def own(self, user: str | None) -> QuerySet[Task]:
        """What the list would show: the tasks of one owner, of all only to an admin who names nobody."""
        tasks = Task.objects.filter(hidden_at=None)
        if user is None:
            return self.listed(tasks)
        return tasks.filter(account=people.named_user(self.credential, user).account)


class StrictTaskFilter(TaskFilter):
    model_config = {**TaskFilter.model_config, "extra": "forbid"}

    user: str | None = Field(None, min_length=1, max_length=128)


def as_text(values: dict[str, Any]) -> dict[str, Any]:
    """A filter in a JSON body has the words of the query string."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else value
        for name, value in values.items()
    }


class CancelTasks(Bulk):
    def post(self, request: Request) -> Response:
        tasks, missing, more = self.chosen()
        done = verbs.cancel([task.id for task in tasks], by=self.credential.user.name)
        canceled = sum(one.ok and bool(one.task and one.task.finished_at) for one in done)
        requested = sum(one.ok for one in done) - canceled
        return Response(
            {
                "matched": len(tasks),
                "canceled": canceled,
                "requested": requested,
                "unchanged": len(tasks) - canceled - requested,
                "not_found": missing,
                "has_more": more,
            }
        )


class RetryTasks(Bulk):
    def post(self, request: Request) -> Response:
        tasks, missing, more = self.chosen()
        counts = {"retried": 0, "existing": 0, "skipped": 0}
        for task in tasks:
            counts[self._retry(task)] += 1
        return Response({"matched": len(tasks), **counts, "not_found": missing, "has_more": more})

    def _retry(self, task: Task) -> str:
        try:
            _, new = verbs.retry(self.for_owner(task), task)
        except Problem:  # no credits, not retryable, purged: counted, never an error
            return "skipped"
        return "retried" if new else "existing"
