"""Work of several tenants, written by the service layer: for what is measured behind the doors."""

from typing import Any
from uuid import UUID

from benchmarks.cast import RICH

CHUNK = 100


def actors(count: int) -> list[Any]:
    """Tenants with credits."""
    from genpulse.auth import services as auth
    from tasks.drafts import Actor
    from wallet import services as wallet

    made = []
    for number in range(count):
        user = auth.get_or_create_user(f"tenant-{number}")
        wallet.deposit(user.account_id, RICH, reason="bench")
        made.append(Actor(account_id=user.account_id, account=user.name))
    return made


def submit(who: list[Any], count: int, body: dict[str, Any]) -> list[UUID]:
    """`count` tasks, a hundred for each tenant in turn."""
    from django.db import transaction

    from tasks import drafts, services
    from tasks.requests import TaskBody

    parsed, ids = TaskBody(**body), []
    for start in range(0, count, CHUNK):
        actor = who[(start // CHUNK) % len(who)]
        made = [drafts.draft(actor, parsed) for _ in range(min(CHUNK, count - start))]
        with transaction.atomic():
            ids += services.write(actor, made)
    return ids
