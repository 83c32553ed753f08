"""How doors other than the native one say no. Register one with `genpulse.http.problems.register`."""

from collections.abc import Callable
from typing import Any

from genpulse.auth.tokens import InvalidTokenPayload
from genpulse.errors import FieldError, Problem, ValidationFailed
from genpulse.http.problems import Envelope, Rendered

TYPES = {"required": "missing", "unknown": "extra_forbidden", "type": "type_error"}
PLATFORM_CODES = {
    "authentication_required": "AUTHORIZATION_REQUIRED",
    "invalid_credentials": "INVALID_TOKEN",
    "account_disabled": "USER_INACTIVE",
}


def detail(code_of: Callable[[Problem], str]) -> Envelope:
    """`{"detail", "code", "request_id"}`; validation lists `{"loc", "msg", "type"}` in `detail`."""

    def render(problem: Problem, request_id: str) -> Rendered:
        listed = type(problem) is ValidationFailed and problem.errors
        said: Any = [_located(error) for error in problem.errors] if listed else problem.detail
        body = {"detail": said, "code": code_of(problem), "request_id": request_id}
        return Rendered(status=problem.status, body=body)

    return render


def _located(error: FieldError) -> dict[str, Any]:
    path = [int(part) if part.isdigit() else part for part in error.field.split(".")]
    return {
        "loc": ["body", *path],
        "msg": error.message,
        "type": TYPES.get(error.code, error.code),
    }


def platform_code(problem: Problem) -> str:
    """The UPPER_CASE word of the platform dialect."""
    if isinstance(problem, InvalidTokenPayload):
        return "INVALID_TOKEN_PAYLOAD"
    if problem.code == "scope_missing" and problem.extra.get("scope") == "admin":
        return "ADMIN_ONLY"
    return PLATFORM_CODES.get(problem.code, problem.code.upper())


plain = detail(lambda problem: problem.code)  # generation and chat dialect
platform = detail(platform_code)
platform_login = detail(  # here a wrong password is not a wrong token
    lambda problem: problem.code.upper() if problem.status == 401 else platform_code(problem)
)
