"""What an attempt says about its executor, and the move that records it. Runs where the database may be asked."""

import random
from collections.abc import Callable

from admin_integrations import fleet, health
from providers import registry
from providers.base import ProviderError
from tasks import routes
from tasks.moves import AttemptFailed, Move
from tasks.policy import FAILS_OVER, Fault
from tasks.work import Work

REPEATABLE = frozenset({"resend", "key"})


def fault_of(error: ProviderError, work: Work, *, delta_sent: bool, sent: bool) -> Fault:
    """`sent`: a paid request may have left, so that the vendor may bill this attempt.

    Where a submit may be repeated (same idempotency key, or free of charge) an unknown outcome is just transient.
    """
    repeatable = registry.get(work.provider).retry_submit in REPEATABLE
    kind = "transient" if error.kind == "unknown_outcome" and repeatable else error.kind
    return Fault(
        kind=kind,
        message=error.refusal or error.message,
        code=error.code,
        provider=work.provider,
        retry_after=error.retry_after,
        retries=error.retries,
        health=error.blames_executor,
        delta_sent=delta_sent,
        possible_cost=sent and kind in {"unknown_outcome", "lost"},
    )


def move_for(work: Work, fault: Fault) -> Callable[[], Move]:
    """Note what it says about the executor, find where the task would go, and leave the rest to the policy."""

    def make() -> Move:
        cooled = fault.health and health.failed(
            work.executor_id,
            work.executor,
            work.credential_id,
            work.model or "",
            fault.kind,
            fault.retry_after,
        )
        if cooled:
            fleet.forget()
        route, model = _failover(work, fault, cooled=cooled)
        return AttemptFailed(
            task_id=work.task_id,
            attempt=work.attempt,
            fault=fault,
            cooled=cooled,
            failover_route=route,
            failover_model=model,
            jitter=random.uniform(-1, 1),  # noqa: S311 - spreads retries, guards nothing
        )

    return make


def well(work: Work, move: Callable[[], Move]) -> Callable[[], Move]:
    """The executor took or did its work: what it was cooled for is over."""

    def make() -> Move:
        if health.doubted(work.executor_id, work.model or ""):
            health.succeeded(work.executor_id, work.executor, work.credential_id, work.model or "")
            fleet.forget()
        return move()

    return make


def _failover(work: Work, fault: Fault, *, cooled: bool) -> tuple[int | None, str | None]:
    if fault.kind not in FAILS_OVER:
        return None, None
    here = routes.views({work.route_id})[work.route_id]
    hopeless = fault.kind not in {"transient", "overloaded", "lost"} and not cooled
    there = routes.after_failure(
        here, work.executor_id, fleet.current(), hopeless=hopeless, models=work.models
    )
    return (routes.find_or_make(there).id, there.model or None) if there else (None, None)
