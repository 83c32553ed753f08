"""How the OpenAI dialect says no: refusals of a request, and tasks that ended without a result.

Status and `type`, `param`, `code` make the official libraries raise their own exceptions; `x-should-retry: false`
stops their retries where another request would only do the work twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from genpulse.errors import (
    FieldCode,
    IdempotencyKeyReused,
    NotFound,
    Problem,
    Unavailable,
    UnknownModel,
    ValidationFailed,
)
from genpulse.http import problems
from genpulse.http.problems import Rendered
from tasks.models import Status

INVALID, SERVER, QUOTA = "invalid_request_error", "server_error", "insufficient_quota"
STOP: Mapping[str, str] = {"X-Should-Retry": "false"}
CODES: Mapping[FieldCode, str] = {
    "required": "missing_required_parameter",
    "choice": "unsupported_value",
    "unknown": "unsupported_value",
}
NO_MONEY = frozenset({"insufficient_credits", "budget_exceeded"})


class UnknownUrl(NotFound):
    """No such path."""

    code = "unknown_url"


class ModelNotFound(NotFound):
    """No such model."""

    code = "model_not_found"


class NoExecutor(Unavailable):
    """No executor is there to do this."""

    code = "no_executor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An answer without a result."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, Any]:
        shown = {name: getattr(self, name) for name in ("message", "type", "param", "code")}
        return {"error": shown}


def envelope(problem: Problem, request_id: str) -> Rendered:
    """The answer to a request that was refused."""
    said = of_problem(problem)
    return Rendered(status=said.status, body=said.body, headers=said.headers)


def of_problem(problem: Problem) -> Failure:
    if isinstance(problem, ValidationFailed):
        return _of_fields(problem)
    status, kind, code = problem.status, INVALID, problem.code
    headers: Mapping[str, str] = {}
    if code in NO_MONEY:
        status, kind, code, headers = 429, QUOTA, QUOTA, STOP
    elif status == 400:
        code = "invalid_value"
    elif status == 401:
        code = "invalid_api_key"
    elif status == 403:
        code = "permission_denied"
    elif status == 429:
        kind, code = "requests", "rate_limit_exceeded"
    elif status >= 500:
        kind = SERVER
        code = "unavailable" if code == "family_draining" else code
        headers = STOP if isinstance(problem, NoExecutor) else {}
    return Failure(status=status, type=kind, code=code, message=problem.detail, headers=headers)


def _of_fields(problem: ValidationFailed) -> Failure:
    """The first field that is wrong; the message counts the others."""
    first = problem.errors[0] if problem.errors else None
    status, code = 400, "invalid_value"
    if isinstance(problem, UnknownModel):
        status, code = 404, ModelNotFound.code
    elif isinstance(problem, IdempotencyKeyReused):
        status, code = 422, problem.code
    elif first is not None and type(problem) is ValidationFailed:
        code = CODES.get(first.code, code)
    param = first.field if first else None
    return Failure(status=status, type=INVALID, code=code, message=problem.detail, param=param)


def of_task(task: Mapping[str, Any]) -> Failure | None:
    """Why a task object has no result to show; None for one that has succeeded."""
    status = Status(task["status"])
    if status == Status.SUCCEEDED:
        if not task["purged"]:
            return None
        return Failure(status=410, type=INVALID, code="purged", message="The content was removed.")
    if not task["terminal"]:
        message = f"The task is not finished; read it at /api/v1/tasks/{task['id']}."
        return Failure(status=504, type=SERVER, code="timeout", message=message, headers=STOP)
    return of_end(status, task["error"], drawn=str(task["task_type"]).endswith("-to-image"))


def of_end(status: Status, error: Mapping[str, Any] | None, *, drawn: bool = False) -> Failure:
    """A task that ended without success; `error` is its error object, `drawn` says it was to be an image."""
    error = error or {}
    message = error.get("message") or f"The task was {status}."
    if status == Status.CANCELED:
        return Failure(status=400, type=INVALID, code="canceled", message=message)
    if status == Status.EXPIRED:
        return Failure(status=504, type=SERVER, code="expired", message=message, headers=STOP)
    if error.get("kind") == "content_refused":
        kind = "image_generation_user_error" if drawn else INVALID
        return Failure(status=400, type=kind, code="content_policy_violation", message=message)
    if error.get("kind") == "bad_input":
        return Failure(status=400, type=INVALID, code="invalid_value", message=message)
    code = error.get("code") or "task_failed"
    return Failure(status=502, type=SERVER, code=code, message=message, headers=STOP)


def unknown_url(request: HttpRequest, rest: str = "") -> HttpResponseBase:
    """Every path below the dialect's own that is none."""
    return problems.answer(UnknownUrl(f"Unknown request URL: {request.path_info}."), request)


unknown_url.csrf_exempt = True  # type: ignore[attr-defined]
