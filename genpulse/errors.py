"""Every refusal GenPulse can utter, one class per rule.

    Problem
    ├── MalformedBody, MalformedHeader                      400
    ├── AuthenticationRequired, InvalidCredentials, TokenExpired   401
    ├── InsufficientCredits                                 402
    ├── PermissionDenied                                    403
    │   └── ScopeMissing, UserMismatch, AccountDisabled, CsrfFailed,
    │       IpNotAllowed, ModelNotAllowed, BudgetExceeded
    ├── NotFound                                            404
    ├── MethodNotAllowed                                    405
    ├── IdempotencyInProgress                               409
    ├── HoldConflict                                        409, platform dialect only
    │   └── HoldAlreadyResolved
    ├── Purged, CursorExpired                               410
    ├── BodyTooLarge                                        413
    ├── UnsupportedMediaType                                415
    ├── ValidationFailed                                    422
    │   └── UnknownModel, UnknownProvider, ... (a rule of its own, same status)
    ├── RateLimited, TooManyWaiting                         429
    └── Unavailable, FamilyDraining                         503

Services raise them, `genpulse.http.problems` renders them in the envelope of the door that was asked.
The docstring of a class is its title; `code` is the stable word of the contract. No message may hold
a secret, a stack trace, an internal host or a vendor's body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

FieldCode = Literal[
    "required",
    "unknown",
    "type",
    "empty",
    "too_short",
    "too_long",
    "too_small",
    "too_large",
    "choice",
    "format",
    "exclusive",
    "unique",
    "unknown_model",
]


@dataclass(frozen=True)
class FieldError:
    """One field that is wrong: dotted path with indexes (`items.3.input.prompt`), rule, and the fix."""

    field: str
    code: FieldCode
    message: str


class Problem(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"

    def __init__(
        self, detail: str = "", *, errors: Sequence[FieldError] = (), **extra: Any
    ) -> None:
        """`extra` becomes further members of the problem document (`required`, `retry_after`, ...)."""
        self.detail = detail or self.title
        self.errors = tuple(errors)
        self.extra = extra
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        return (self.__doc__ or "").strip().splitlines()[0].rstrip(".")


class MalformedBody(Problem):
    """The body is not a readable JSON object."""

    status, code = 400, "malformed_body"


class MalformedHeader(Problem):
    """A header cannot be read."""

    status, code = 400, "malformed_header"


class AuthenticationRequired(Problem):
    """This path needs a credential."""

    status, code = 401, "authentication_required"


class InvalidCredentials(Problem):
    """The credential is unknown, malformed or revoked."""

    status, code = 401, "invalid_credentials"


class TokenExpired(Problem):
    """The credential has expired."""

    status, code = 401, "token_expired"


class InsufficientCredits(Problem):
    """Not enough credits."""

    status, code = 402, "insufficient_credits"


class PermissionDenied(Problem):
    """This credential may not do that."""

    status, code = 403, "permission_denied"


class ScopeMissing(PermissionDenied):
    """The credential lacks a scope."""

    code = "scope_missing"


class UserMismatch(PermissionDenied):
    """The credential may not act for that user."""

    code = "user_mismatch"


class AccountDisabled(PermissionDenied):
    """The user is disabled."""

    code = "account_disabled"


class CsrfFailed(PermissionDenied):
    """The CSRF token is missing or wrong."""

    code = "csrf_failed"


class IpNotAllowed(PermissionDenied):
    """The key may not be used from this address."""

    code = "ip_not_allowed"


class ModelNotAllowed(PermissionDenied):
    """The key may not use this model."""

    code = "model_not_allowed"


class BudgetExceeded(PermissionDenied):
    """The budget of the key or user is used up."""

    code = "budget_exceeded"


class NotFound(Problem):
    """No such object."""

    status, code = 404, "not_found"


class UnknownPath(NotFound):
    """No such path."""


class MethodNotAllowed(Problem):
    """The path does not support this method."""

    status, code = 405, "method_not_allowed"


class IdempotencyInProgress(Problem):
    """The first request with this Idempotency-Key is still being written."""

    status, code = 409, "idempotency_in_progress"


class HoldConflict(Problem):
    """The hold has another amount, another owner or an end."""

    status, code = 409, "hold_conflict"


class HoldAlreadyResolved(HoldConflict):
    """The hold was confirmed or released before."""

    code = "hold_already_resolved"


class Purged(Problem):
    """The content was removed."""

    status, code = 410, "purged"


class CursorExpired(Problem):
    """The cursor lies before the kept events; read the object and go on from its seq."""

    status, code = 410, "cursor_expired"


class BodyTooLarge(Problem):
    """The body is too large."""

    status, code = 413, "body_too_large"


class UnsupportedMediaType(Problem):
    """The content type is not supported here."""

    status, code = 415, "unsupported_media_type"


class ValidationFailed(Problem):
    """One or more fields are wrong."""

    status, code = 422, "validation_failed"

    @classmethod
    def of(cls, field: str, code: FieldCode, message: str) -> "ValidationFailed":
        """The common case: exactly one field is wrong."""
        return cls(f"{field}: {message}", errors=[FieldError(field, code, message)])


class UnknownModel(ValidationFailed):
    """No family serves this model."""

    code = "unknown_model"


class UnknownProvider(ValidationFailed):
    """No such provider."""

    code = "unknown_provider"


class UnknownWorkflow(ValidationFailed):
    """No such workflow."""

    code = "unknown_workflow"


class UnknownAbility(ValidationFailed):
    """No such ability."""

    code = "unknown_ability"


class UnknownExecutor(ValidationFailed):
    """No such executor."""

    code = "unknown_executor"


class IdempotencyKeyReused(ValidationFailed):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_key_reused"


class MaxPriceExceeded(ValidationFailed):
    """The quote is above max_price."""

    code = "max_price_exceeded"


class PriceMissing(ValidationFailed):
    """No price rule matches and unpriced work is refused."""

    code = "price_missing"


class NotFeasible(ValidationFailed):
    """The estimate of the end is later than complete_by."""

    code = "not_feasible"


class NotRetryable(ValidationFailed):
    """Only failed, canceled and expired tasks can be retried."""

    code = "not_retryable"


class NotWaiting(ValidationFailed):
    """The task is not in the state this verb needs."""

    code = "not_waiting"


class NothingToRetry(ValidationFailed):
    """The batch has no failed task."""

    code = "nothing_to_retry"


class UrlNotAllowed(ValidationFailed):
    """The address is not allowed by the outbound guard."""

    code = "url_not_allowed"


class WorkflowFormatUi(ValidationFailed):
    """This is a web-UI workflow; export it with "Save (API Format)"."""

    code = "workflow_format_ui"


class AssetNotFound(ValidationFailed):
    """An input asset is unknown."""

    code = "asset_not_found"


class UploadMismatch(ValidationFailed):
    """The uploaded bytes differ from what was announced."""

    code = "upload_mismatch"


class MediaRejected(ValidationFailed):
    """This media is not accepted."""

    code = "media_rejected"


class RateLimited(Problem):
    """Too many requests."""

    status, code = 429, "rate_limited"


class TooManyWaiting(Problem):
    """Too many tasks are waiting for this user."""

    status, code = 429, "too_many_waiting"


class Unavailable(Problem):
    """The service cannot answer right now."""

    status, code = 503, "unavailable"


class FamilyDraining(Problem):
    """This queue refuses new work."""

    status, code = 503, "family_draining"
