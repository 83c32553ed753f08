"""The native API of webhooks: endpoints, their secrets, and what was delivered."""

from typing import Annotated, Any, ClassVar, Literal

from django.db import transaction
from django.db.models import QuerySet
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import vault
from genpulse.errors import FieldError, NotFound, Problem, Purged, ScopeMissing
from genpulse.http.pagination import paginate
from genpulse.http.parsing import Body, Id, render_time
from genpulse.http.views import NativeView
from genpulse.ids import new_id, parse_id
from media import services as media
from tasks import deliveries, webhook_secrets, webhooks
from tasks.event_names import OPERATORS, AnyEvent
from tasks.models import Delivery, WebhookEndpoint
from tasks.webhook_secrets import new_secret

EventNames = Annotated[list[AnyEvent], Field(min_length=1, max_length=50)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
Description = Annotated[str, Field(max_length=200)]


class NewEndpoint(Body):
    """`POST /api/v1/webhook-endpoints`."""

    url: Url
    events: EventNames = ["*"]
    description: Description = ""
    enabled: bool = True


class ChangedEndpoint(Body):
    """`PATCH`: what it names."""

    url: Url | None = None
    events: EventNames | None = None
    description: Description | None = None
    enabled: bool | None = None


class Rotation(Body):
    overlap_hours: int = Field(24, ge=0, le=168)


class DeliveryQuery(BaseModel):
    model_config = ConfigDict(extra="ignore")

    task_id: Id | None = None
    status: Literal["pending", "delivered", "failed"] | None = None


def render_endpoint(row: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "object": "webhook_endpoint",
        "url": row.url,
        "events": row.events,
        "description": row.description,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "created_at": render_time(row.created_at),
        "last_success_at": render_time(row.last_success_at),
        "last_failure_at": render_time(row.last_failure_at),
    }


def render_delivery(row: Delivery) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "object": "webhook_delivery",
        "endpoint_id": row.endpoint_id and str(row.endpoint_id),
        "url": row.url,
        "event_id": row.event_id,
        "event_type": row.event_type,
        "task_id": row.task_id and str(row.task_id),
        "batch_id": row.batch_id and str(row.batch_id),
        "status": row.status,
        "attempts": max(row.attempts, len(row.tries)),  # a redelivery counts from 0 again
        "response_status": row.response_status,
        "response_ms": row.response_ms,
        "error": row.error or None,
        "next_attempt_at": render_time(row.next_attempt_at),
        "created_at": render_time(row.created_at),
        "delivered_at": render_time(row.delivered_at),
    }


class WebhookDoor(NativeView):
    scopes: ClassVar[dict[str, str]] = dict.fromkeys(["GET", "POST", "PATCH", "DELETE"], "webhooks")

    def endpoint(self, id_: str) -> WebhookEndpoint:
        key = parse_id(id_)
        row = self.visible(WebhookEndpoint.objects.all()).filter(pk=key).first() if key else None
        if row is None:
            raise NotFound
        return row

    def delivery(self, id_: str) -> Delivery:
        key = parse_id(id_)
        row = self.visible(Delivery.objects.all()).filter(pk=key).first() if key else None
        if row is None:
            raise NotFound
        return row

    def check(self, url: str | None, events: list[str] | None) -> None:
        """Raises UrlNotAllowed on `url`, ScopeMissing for events of operators."""
        groups = {name.split(".")[0] for name in events or ()}
        if groups & OPERATORS.keys() and not self.credential.has("admin"):
            raise ScopeMissing("Events of operators need scope admin.", scope="admin")
        if url is not None:
            check_target(url)

    def page(self, rows: QuerySet[Delivery]) -> Response:
        wanted = self.query(DeliveryQuery).model_dump(exclude_none=True)
        params = self.request.query_params.dict()
        return Response(paginate(rows.filter(**wanted), params, render_delivery))


def check_target(url: str) -> None:
    try:
        media.check_url(url, purpose="callback")
    except Problem as problem:
        item = FieldError("url", "choice", problem.detail)
        raise type(problem)(problem.detail, errors=[item]) from None


class Endpoints(WebhookDoor):
    """GET: list. POST: a new receiver; its secret is shown now and never again."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": NewEndpoint}
    statuses: ClassVar[dict[str, int]] = {"POST": 201}

    def get(self, request: Request) -> Response:
        rows = self.listed(WebhookEndpoint.objects.all())
        return Response(paginate(rows, request.query_params.dict(), render_endpoint))

    def post(self, request: Request) -> Response:
        body = self.parse(NewEndpoint)
        self.check(body.url, body.events)
        id_, secret = new_id(), new_secret()
        with transaction.atomic():
            row = WebhookEndpoint.objects.create(
                id=id_,
                account=self.account,
                host=deliveries.host_of(body.url),
                ciphertext=vault.encrypt(secret, owner=id_),
                **body.model_dump(),
            )
        row.refresh_from_db()
        headers = {"Location": f"/api/v1/webhook-endpoints/{row.id}"}
        return Response({**render_endpoint(row), "secret": secret}, status=201, headers=headers)


class OneEndpoint(WebhookDoor):
    """One receiver; PATCH changes what the body names, and switching it on forgives its failures."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"PATCH": ChangedEndpoint}

    def get(self, request: Request, id_: str) -> Response:
        return Response(render_endpoint(self.endpoint(id_)))

    def patch(self, request: Request, id_: str) -> Response:
        row, body = self.endpoint(id_), self.parse(ChangedEndpoint)
        self.check(body.url, body.events)
        for name, value in body.model_dump(exclude_unset=True, exclude_none=True).items():
            setattr(row, name, value)
        row.host = deliveries.host_of(row.url)
        if body.enabled:
            row.disabled_reason, row.failing_since = None, None
        with transaction.atomic():
            row.save()
            if not row.enabled:
                webhooks.abandon(row.id)
        return Response(render_endpoint(row))

    def delete(self, request: Request, id_: str) -> Response:
        row = self.endpoint(id_)
        with transaction.atomic():
            webhooks.abandon(row.id)
            row.delete()
        return Response(status=204)


class RotateSecret(WebhookDoor):
    """A new secret; for the overlap both sign."""

    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": Rotation}

    def post(self, request: Request, id_: str) -> Response:
        return rotated(self.endpoint(id_), self.parse(Rotation))


def rotated(row: Any, body: Rotation) -> Response:
    with transaction.atomic():
        locked = type(row).objects.select_for_update().get(pk=row.pk)
        secret, until = webhook_secrets.rotate(locked, body.overlap_hours)
    return Response({"secret": secret, "previous_valid_until": render_time(until)})


class TestEndpoint(WebhookDoor):
    """Send `webhook.test` now."""

    statuses: ClassVar[dict[str, int]] = {"POST": 202}

    def post(self, request: Request, id_: str) -> Response:
        row = self.endpoint(id_)
        made = Delivery.objects.create(
            account_id=row.account_id,
            endpoint_id=row.id,
            url=row.url,
            host=row.host,
            event_id=f"test_{new_id().hex}",
            event_type="webhook.test",
            body={"endpoint_id": str(row.id)},
        )
        made.refresh_from_db()
        return Response(render_delivery(made), status=202)


class EndpointDeliveries(WebhookDoor):
    def get(self, request: Request, id_: str) -> Response:
        return self.page(Delivery.objects.filter(endpoint_id=self.endpoint(id_).id))


class Deliveries(WebhookDoor):
    def get(self, request: Request) -> Response:
        return self.page(self.listed(Delivery.objects.all()))


class OneDelivery(WebhookDoor):
    """A delivery with its body and every try."""

    def get(self, request: Request, id_: str) -> Response:
        row = self.delivery(id_)
        body = webhooks.envelope(row) if row.body is not None else None
        return Response({**render_delivery(row), "request_body": body, "tries": row.tries})


class Redeliver(WebhookDoor):
    """Send it again, under the same id."""

    statuses: ClassVar[dict[str, int]] = {"POST": 202}

    def post(self, request: Request, id_: str) -> Response:
        row = self.delivery(id_)
        if row.body is None:
            raise Purged("The content of this delivery was removed.")
        webhooks.again(row.id)
        row.refresh_from_db()
        return Response(render_delivery(row), status=202)


class DefaultSecret(WebhookDoor):
    """What the webhooks named in tasks and batches are signed with."""

    def get(self, request: Request) -> Response:
        with transaction.atomic():
            row = webhook_secrets.of_account(self.account.id)
        until = row.previous_valid_until
        return Response(
            {
                "secret": webhook_secrets.valid(row)[0],
                "previous_valid_until": render_time(until),
            }
        )


class RotateDefaultSecret(WebhookDoor):
    bodies: ClassVar[dict[str, type[BaseModel]]] = {"POST": Rotation}

    def post(self, request: Request) -> Response:
        body = self.parse(Rotation)
        with transaction.atomic():
            row = webhook_secrets.of_account(self.account.id)
        return rotated(row, body)
