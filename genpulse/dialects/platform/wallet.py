"""`/api/wallet/v1/*`: two-phase charging for services that do the work themselves."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.platform.common import Id, Owned, PlatformBody, PlatformDoor, Points, points
from genpulse.errors import NotFound
from genpulse.http.idempotency import Answer
from genpulse.http.parsing import render_time
from genpulse.money import MICRO
from wallet import services, statements
from wallet.models import Entry, Hold, JournalKind

WORDS = {
    JournalKind.DEPOSIT: "deposit",
    JournalKind.ADJUSTMENT: "adjustment",
    JournalKind.HOLD: "freeze",
    JournalKind.CHARGE: "confirm",
    JournalKind.RELEASE: "release",
}


class FreezeBody(Owned):
    task_id: Id
    action: Id
    points: Points
    channel: str | None = None


class HoldBody(PlatformBody):
    hold_id: Annotated[str, Field(max_length=64)]


class PageQuery(Owned):
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Field(ge=1, le=100)] = 20


class WalletDoor(PlatformDoor):
    scopes: ClassVar[dict[str, str]] = {"GET": "wallet:read", "POST": "wallet"}

    def owner_of_holds(self) -> UUID | None:
        """Whose holds may be resolved; None: anybody's, for credentials that may name anybody."""
        return None if self.credential.names_others else self.credential.user.account_id


class Freeze(WalletDoor):
    """Freeze points for a task of the caller's own; the same task again answers the same hold."""

    bodies = {"POST": FreezeBody}

    def post(self, request: Request) -> Response:
        body = self.read(FreezeBody)
        return self.reply(self.once(lambda: self.freeze(body)))

    def freeze(self, body: FreezeBody) -> Answer:
        held = services.freeze(self.account.id, body.task_id, body.points * MICRO)
        said = {"holdId": f"hold_{held.hold_id.hex}", "balance": points(held.available)}
        return Answer(status=200, body=said, object_id=held.hold_id)


def hold_id(text: str) -> UUID:
    """Raises NotFound for what no freeze ever answered."""
    try:
        return UUID(hex=text.removeprefix("hold_"))
    except ValueError:
        raise NotFound from None


class Confirm(WalletDoor):
    bodies = {"POST": HoldBody}

    def post(self, request: Request) -> Response:
        wanted = hold_id(self.parse(HoldBody).hold_id)
        settled = services.confirm(wanted, self.owner_of_holds())
        return Response({"success": True, "deducted": points(settled.charged)})


class Release(WalletDoor):
    bodies = {"POST": HoldBody}

    def post(self, request: Request) -> Response:
        wanted = hold_id(self.parse(HoldBody).hold_id)
        settled = services.release(wanted, self.owner_of_holds())
        user = Hold.objects.select_related("account").get(pk=wanted).account.name
        return Response(
            {
                "success": True,
                "released": points(settled.released),
                "userId": user,
                "balance": points(settled.available),
            }
        )


class Transactions(WalletDoor):
    """Newest first; the sum of all points is the balance."""

    queries = {"GET": PageQuery}

    def get(self, request: Request) -> Response:
        query = self.asked(PageQuery)
        rows = statements.transactions(self.account.id)
        start = (query.page - 1) * query.page_size
        shown = list(rows.order_by("-account_seq")[start : start + query.page_size])
        names = references([entry.journal.hold_id for entry in shown])
        items = [render(entry, names) for entry in shown]
        return Response({"total": rows.count(), "items": items})


def references(holds: list[UUID | None]) -> dict[UUID, str]:
    """The client's own task ids of these holds."""
    found = Hold.objects.filter(pk__in=[one for one in holds if one])
    return dict(found.values_list("pk", "reference"))


def render(entry: Entry, names: dict[UUID, str]) -> dict[str, Any]:
    journal = entry.journal
    own = names.get(journal.hold_id or UUID(int=0)) or journal.reference
    return {
        "id": str(journal.id),
        "changeType": WORDS[JournalKind(journal.kind)],
        "points": points(entry.available_change),
        "beforeBalance": points((entry.available_after or 0) - entry.available_change),
        "afterBalance": points(entry.available_after or 0),
        "taskId": own or (journal.task_id and str(journal.task_id)),
        "description": journal.reason,
        "createdAt": render_time(entry.created_at),
    }


class Statistics(WalletDoor):
    queries = {"GET": Owned}

    def get(self, request: Request) -> Response:
        self.asked(Owned)
        has = services.balance(self.account.id)
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        granted = statements.deposited_since(self.account.id, midnight)
        return Response(
            {
                "totalPoints": points(has.available + has.held),
                "tempPoints": 0,
                "frozenPoints": points(has.held),
                "grantedToday": points(granted),
            }
        )
