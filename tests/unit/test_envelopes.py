"""The same refusal in the words of other doors."""

import pytest

from genpulse import errors
from genpulse.auth.tokens import InvalidTokenPayload
from genpulse.dialects import envelopes
from genpulse.errors import FieldError, Problem, ValidationFailed


@pytest.mark.parametrize(
    ("problem", "status", "code"),
    [
        (errors.AuthenticationRequired(), 401, "AUTHORIZATION_REQUIRED"),
        (errors.InvalidCredentials(), 401, "INVALID_TOKEN"),
        (InvalidTokenPayload(), 401, "INVALID_TOKEN_PAYLOAD"),
        (errors.TokenExpired(), 401, "TOKEN_EXPIRED"),
        (errors.ScopeMissing(scope="admin"), 403, "ADMIN_ONLY"),
        (errors.ScopeMissing(scope="tasks"), 403, "SCOPE_MISSING"),
        (errors.UserMismatch(), 403, "USER_MISMATCH"),
        (errors.AccountDisabled(), 403, "USER_INACTIVE"),
        (errors.NotFound(), 404, "NOT_FOUND"),
        (errors.ValidationFailed(), 422, "VALIDATION_FAILED"),
        (errors.RateLimited(retry_after=1), 429, "RATE_LIMITED"),
        (Problem(), 500, "INTERNAL_ERROR"),
    ],
)
def test_words_of_the_platform_dialect(problem, status, code):
    said = envelopes.platform(problem, "r1")
    assert said.status == status
    assert said.body == {"detail": problem.detail, "code": code, "request_id": "r1"}


def test_validation_lists_its_fields():
    problem = ValidationFailed(
        errors=[
            FieldError("items.3.prompt", "required", "Field required"),
            FieldError("n", "too_large", "must be at most 4"),
        ]
    )
    assert envelopes.plain(problem, "r1").body == {
        "detail": [
            {"loc": ["body", "items", 3, "prompt"], "msg": "Field required", "type": "missing"},
            {"loc": ["body", "n"], "msg": "must be at most 4", "type": "too_large"},
        ],
        "code": "validation_failed",
        "request_id": "r1",
    }


def test_other_rules_of_status_422_are_a_sentence():
    problem = errors.IdempotencyKeyReused()
    assert envelopes.plain(problem, "r1").body["detail"] == problem.title
