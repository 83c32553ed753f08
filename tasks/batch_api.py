"""The native API of batches and quotes."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.ids import parse_id
from media import services as media
from tasks import batches, services, verbs, waiting
from tasks.api import TaskDoor
from tasks.filters import BatchFilter
from tasks.models import TERMINAL, Batch, Task
from tasks.render import render_batch
from tasks.requests import BatchBody, TaskBody
from tasks.services import BatchSpec
from tasks.waiting import WaitQuery


class BatchDoor(TaskDoor):
    def batch(self, id_: str) -> Batch:
        key = parse_id(id_)
        visible = self.visible(Batch.objects.filter(hidden_at=None).select_related("account"))
        batch = visible.filter(pk=key).first() if key else None
        if batch is None:
            raise NotFound
        return batch

    @staticmethod
    def shown_batch(batch_id: UUID) -> dict[str, Any]:
        return render_batch(Batch.objects.select_related("account").get(pk=batch_id))


class Batches(BatchDoor):
    """POST: submit. GET: list."""

    def get(self, request: Request) -> Response:
        wanted = self.query(BatchFilter)
        found = wanted.apply(self.listed(Batch.objects.filter(hidden_at=None)))
        rows = found.select_related("account")
        return Response(paginate(rows, request.query_params.dict(), render_batch))

    def post(self, request: Request) -> Response:
        patience = waiting.preferred(request)
        own, bodies = batches.children(self.body)
        made = services.check_all(self.actor(), bodies)
        files = [file for draft in made for file in draft.files]

        def create() -> Answer:
            spec = spec_of(own, self.body, bodies[0][1])
            placed = services.place(self.actor(), made, spec)
            ids = placed.ids
            batch_id = Task.objects.values_list("batch_id", flat=True).get(pk=ids[0])
            assert batch_id is not None  # noqa: S101 - write made it
            return Answer(
                status=201,
                body=self.shown_batch(batch_id),
                headers={
                    "Location": f"/api/v1/batches/{batch_id}",
                    "X-GenPulse-Batch-Id": str(batch_id),
                    "X-GenPulse-Task-Id": str(ids[0]),
                },
                object_id=batch_id,
                last=placed.pay,
            )

        answer: Answer | None = None
        try:
            answer = self.once(create, self.shown_batch)
        finally:
            if answer is None or answer.replayed:
                media.discard(files)
        return self.submitted(answer, patience, waiting.batch_end, self.shown_batch)


def spec_of(own: BatchBody, data: Mapping[str, Any], first: TaskBody) -> BatchSpec:
    """The batch's own row: metadata, tags and webhook are the common ones."""
    common = first if own.items is None else None
    return BatchSpec(
        mode=own.mode,
        title=own.title,
        metadata=common.metadata if common else data.get("metadata", {}),
        tags=tuple(common.tags if common else data.get("tags", ())),
        webhook=data.get("webhook"),
        conversation_id=data.get("conversation_id"),
    )


class OneBatch(BatchDoor):
    def get(self, request: Request, id_: str) -> Response:
        patience = self.query(WaitQuery).wait
        batch = self.batch(id_)
        response = Response(render_batch(batch))
        if patience is None or batch.open == 0:
            return response
        end = partial(waiting.batch_end, batch.id, patience)
        return self.held(response, end, lambda: Response(render_batch(self.batch(id_))))


class CancelBatch(BatchDoor):
    def post(self, request: Request, id_: str) -> Response:
        batch = self.batch(id_)
        open_ = Task.objects.filter(batch=batch).exclude(status__in=TERMINAL)
        Batch.objects.filter(pk=batch.id).update(cancel_requested=True)
        verbs.cancel(list(open_.values_list("pk", flat=True)), by=self.credential.user.name)
        return Response(self.shown_batch(batch.id))


class RetryFailed(BatchDoor):
    def post(self, request: Request, id_: str) -> Response:
        batch = self.batch(id_)

        def again() -> Answer:
            verbs.retry_failed(self.for_owner(batch), batch)
            return Answer(status=200, body=self.shown_batch(batch.id), object_id=batch.id)

        return self.reply(self.once(again, self.shown_batch))


class Quote(TaskDoor):
    """What a task or a batch would cost, and where it would run; nothing is stored."""

    scopes: ClassVar[dict[str, str]] = {"POST": "tasks"}

    def post(self, request: Request) -> Response:
        is_batch = bool(self.body.keys() & {"models", "matrix", "items"})
        bodies = batches.children(self.body)[1] if is_batch else [("", self.parse(TaskBody))]
        return Response(services.quote(self.actor(), bodies))
