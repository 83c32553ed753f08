"""`/api/v1/wallet`: balance, transactions, holds and statements; deposits and adjustments of operators."""

import re
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.auth import services as users
from genpulse.auth.models import Account
from genpulse.http.idempotency import Answer
from genpulse.http.pagination import paginate
from genpulse.http.parsing import AwareTime, Body, Id, MoneyMicro, render_time, wrong
from genpulse.http.views import NativeView
from genpulse.money import to_credits
from wallet import services, statements
from wallet.models import Hold, JournalKind

COLUMNS = (
    "id",
    "type",
    "amount",
    "available_before",
    "available_after",
    "held_after",
    "charged",
    "task_id",
    "batch_id",
    "hold_id",
    "reason",
    "reference",
    "actor",
    "at",
)


def _month(text: str) -> str:
    if not re.fullmatch(r"2\d{3}-(0[1-9]|1[0-2])", text, re.ASCII):
        raise wrong("format", "want a month such as 2026-11")
    return text


class TransactionQuery(BaseModel):
    """Filters of the list, `since` <= at < `until`."""

    type: Literal["deposit", "adjustment", "hold", "charge", "release"] | None = None
    task_id: Id | None = None
    since: AwareTime | None = None
    until: AwareTime | None = None


class StatementQuery(BaseModel):
    month: Annotated[str, AfterValidator(_month)] | None = None
    format: Literal["json", "csv"] = "json"


class HoldQuery(BaseModel):
    status: Literal["open", "confirmed", "released"] | None = None


Reason = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=128)]


def _not_zero(amount: int) -> int:
    if amount == 0:
        raise wrong("choice", "must not be 0")
    return amount


class DepositBody(Body):
    user: str
    amount: Annotated[MoneyMicro, Field(gt=0)]
    reason: Reason
    reference: Reference | None = None


class AdjustmentBody(Body):
    user: str
    amount: Annotated[MoneyMicro, AfterValidator(_not_zero)]
    reason: Reason


def parameters(query: type[BaseModel]) -> list[OpenApiParameter]:
    return [OpenApiParameter(name) for name in [*query.model_fields, "user"]]


def render_wallet(account: Account) -> dict[str, str]:
    """The balance of an account, which need not be stored yet."""
    has = services.balance(account.id)
    return {
        "user": account.name,
        "currency": "credits",
        "available": to_credits(has.available),
        "held": to_credits(has.held),
        "total": to_credits(has.available + has.held),
        "deposited": to_credits(has.deposited),
        "charged": to_credits(has.charged),
    }


def render_hold(hold: Hold) -> dict[str, Any]:
    return {
        "id": str(hold.id),
        "status": hold.status,
        "amount": to_credits(hold.amount),
        "charged": to_credits(hold.charged),
        "task_id": hold.task_id and str(hold.task_id),
        "reference": hold.reference,
        "created_at": render_time(hold.created_at),
        "resolved_at": render_time(hold.resolved_at),
    }


class WalletView(NativeView):
    """A wallet is always one user's: `?user=`, else the user acted for."""

    scopes: ClassVar[dict[str, str]] = {"GET": "wallet:read"}

    @property
    def owner(self) -> Account:
        """Raises UserMismatch. An unknown user has an empty wallet."""
        name = self.request.query_params.get("user") or self._name
        return users.named_user(self.credential, name).account


class WalletBalance(WalletView):
    @extend_schema(operation_id="get_wallet", parameters=[OpenApiParameter("user")])
    def get(self, request: Request) -> Response:
        return Response(render_wallet(self.owner))


class Transactions(WalletView):
    @extend_schema(operation_id="list_transactions", parameters=parameters(TransactionQuery))
    def get(self, request: Request) -> Response:
        query = self.query(TransactionQuery)
        wanted = {
            "journal__kind": query.type,
            "journal__task_id": query.task_id,
            "created_at__gte": query.since,
            "created_at__lt": query.until,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        entries = statements.transactions(self.owner.id).filter(**given)
        return Response(paginate(entries, request.query_params, statements.render, "account_seq"))


class Holds(WalletView):
    @extend_schema(operation_id="list_holds", parameters=parameters(HoldQuery))
    def get(self, request: Request) -> Response:
        status = self.query(HoldQuery).status
        holds = Hold.objects.filter(account=self.owner.id)
        if status:
            holds = holds.filter(status=status)
        return Response(paginate(holds, request.query_params, render_hold))


class StatementOfMonth(WalletView):
    @extend_schema(operation_id="get_statement", parameters=parameters(StatementQuery))
    def get(self, request: Request) -> HttpResponseBase:
        query, owner = self.query(StatementQuery), self.owner
        month = query.month or f"{timezone.now():%Y-%m}"
        found = statements.statement(owner.id, int(month[:4]), int(month[5:]))
        items = [statements.render(entry) for entry in found.entries]
        if query.format == "csv":
            return HttpResponse(
                statements.as_csv(items, COLUMNS),
                content_type="text/csv; charset=utf-8",
                headers={
                    "Content-Disposition": f'attachment; filename="statement-{month}.csv"',
                    "Cache-Control": "no-store",
                },
            )
        return Response(
            {
                "user": owner.name,
                "month": month,
                "opening": to_credits(found.opening),
                "closing": to_credits(found.closing),
                "deposited": to_credits(found.total(JournalKind.DEPOSIT)),
                "adjusted": to_credits(found.total(JournalKind.ADJUSTMENT)),
                "charged": to_credits(-found.total(JournalKind.CHARGE)),
                "items": items,
            }
        )


class FundingView(NativeView):
    """Operators move credits in and out; an unknown user is created with the first movement."""

    scopes: ClassVar[dict[str, str]] = {"POST": "admin"}

    def account_of(self, name: str) -> UUID:
        """Raises ValidationFailed for a name no user can have."""
        return users.get_or_create_user(name).account_id

    @property
    def actor(self) -> str:
        return self.credential.user.name


class Deposits(FundingView):
    @extend_schema(operation_id="create_deposit", request=DepositBody)
    def post(self, request: Request) -> Response:
        return self.reply(self.once(self._deposit))

    def _deposit(self) -> Answer:
        body = self.parse(DepositBody)
        entry, created = services.deposit(
            self.account_of(body.user),
            body.amount,
            reason=body.reason,
            reference=body.reference or "",
            actor=self.actor,
        )
        return Answer(status=201 if created else 200, body=statements.render(entry))


class Adjustments(FundingView):
    @extend_schema(operation_id="create_adjustment", request=AdjustmentBody)
    def post(self, request: Request) -> Response:
        return self.reply(self.once(self._adjust))

    def _adjust(self) -> Answer:
        body = self.parse(AdjustmentBody)
        account = self.account_of(body.user)
        entry = services.adjust(account, body.amount, reason=body.reason, actor=self.actor)
        return Answer(status=201, body=statements.render(entry))
