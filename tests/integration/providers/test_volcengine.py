"""Volcengine against an Ark that refuses what Ark refuses."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from genpulse.config import config
from providers.adapters.volcengine import Volcengine
from providers.base import (
    Call,
    Completed,
    ErrorKind,
    ProviderError,
)
from providers.testing import ProviderContract, make_call
from tests.emulators.base import (
    Fault,
    answered,
    cut_answer,
    delayed,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.volcengine import Ark, ark
from tests.integration.providers.volcengine_calls import (
    CHAT,
    CHAT_PATH,
    IMAGE,
    IMAGES_PATH,
    JOBS_PATH,
    KITE,
    PATHS,
    VIDEO,
    accepted,
    asked,
    failure,
    look,
    refusal,
)

__all__ = ["ark"]


class Contract(ProviderContract):
    provider = Volcengine()
    path: ClassVar[str]
    model: ClassVar[str]

    @pytest.fixture(autouse=True)
    def vendor(self, ark: Ark) -> None:
        self.ark = ark

    def make(self, **more: Any) -> Call:
        return asked(self.ark, self.model, **more)

    def creates(self) -> int:
        return self.ark.count("POST", self.path)

    def meets(self, *faults: Fault) -> None:
        self.ark.next("POST", self.path, *faults)


REFUSALS: dict[ErrorKind, Callable[[Any], None]] = {
    "overloaded": lambda self: self.meets(refusal(429, "ServerOverloaded")),
    "rate_limited": lambda self: self.meets(refusal(429, "RateLimitExceeded.EndpointRPMExceeded")),
    "quota_exhausted": lambda self: self.meets(refusal(403, "AccountOverdueError")),
    "bad_credentials": lambda self: self.meets(refusal(401, "AuthenticationError")),
    "not_available": lambda self: self.meets(refusal(404, "ModelNotOpen")),
    "bad_input": lambda self: self.meets(refusal(400, "InvalidParameter.size")),
    "content_refused": lambda self: self.meets(refusal(400, "InputTextSensitiveContentDetected")),
}


class TestChat(Contract):
    path, model, paid = CHAT_PATH, CHAT, False
    faults: ClassVar = REFUSALS | {"transient": lambda self: self.meets(drop_answer())}


class TestImages(Contract):
    path, model = IMAGES_PATH, IMAGE
    faults: ClassVar = REFUSALS | {
        "transient": lambda self: self.meets(refusal(500, "InternalServiceError")),
        "unknown_outcome": lambda self: self.meets(drop_answer()),
    }


class TestVideos(Contract):
    path, model = JOBS_PATH, VIDEO
    faults: ClassVar = REFUSALS | {
        "transient": lambda self: self.ark.states.append(({"code": "InternalServiceError"},)),
        "lost": lambda self: self.ark.states.append(("cancelled",)),
        "unknown_outcome": lambda self: self.meets(drop_answer()),
    }


REFUSED_BY_ARK: list[tuple[int, str, ErrorKind]] = [
    (400, "MissingParameter", "bad_input"),
    (400, "InvalidParameter", "bad_input"),
    (400, "InvalidParameter.duration", "bad_input"),
    (400, "InvalidImageURL.BadFormat", "bad_input"),
    (400, "OversizeImage", "bad_input"),
    (400, "InvalidEndpoint.ClosedEndpoint", "not_available"),
    (400, "SensitiveContentDetected", "content_refused"),
    (400, "SensitiveContentDetected.SevereViolation", "content_refused"),
    (400, "InputTextSensitiveContentDetected.PolicyViolation", "content_refused"),
    (400, "InputImageSensitiveContentDetected.PrivacyInformation", "content_refused"),
    (400, "InputVideoSensitiveContentDetected", "content_refused"),
    (400, "InputAudioSensitiveContentDetected", "content_refused"),
    (400, "OutputImageSensitiveContentDetected", "content_refused"),
    (400, "InputTextRiskDetection", "content_refused"),
    (400, "OutputImageRiskDetection", "content_refused"),
    (400, "ContentSecurityDetectionError", "transient"),
    (401, "AuthenticationError", "bad_credentials"),
    (403, "AccountOverdueError", "quota_exhausted"),
    (403, "ServiceOverdue", "quota_exhausted"),
    (403, "AccessDenied", "not_available"),
    (403, "ServiceNotOpen", "not_available"),
    (403, "OperationDenied.ServiceAbuse", "not_available"),
    (404, "ModelNotOpen", "not_available"),
    (404, "InvalidEndpointOrModel.ModelIDAccessDisabled", "not_available"),
    (404, "UnsupportedModel", "not_available"),
    (404, "NotFound.Endpoint", "not_available"),
    (429, "RateLimitExceeded.FoundationModelRPMExceeded", "rate_limited"),
    (429, "ModelAccountIpmRateLimitExceeded", "rate_limited"),
    (429, "APIAccountRpmRateLimitExceeded", "rate_limited"),
    (429, "ServerOverloaded", "overloaded"),
    (429, "RequestBurstTooFast", "overloaded"),
    (429, "QuotaExceeded", "quota_exhausted"),
    (429, "SetLimitExceeded", "quota_exhausted"),
    (429, "InflightBatchsizeExceeded", "quota_exhausted"),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSED_BY_ARK)
def test_the_code_says_what_a_refusal_means(
    ark: Ark, status: int, code: str, kind: ErrorKind
) -> None:
    for model, path in PATHS.items():
        ark.next("POST", path, refusal(status, code))
        problem = failure(asked(ark, model))
        assert (problem.kind, problem.retries) == (kind, None)
        assert code in str(problem.raw)
        assert bool(problem.refusal) == (kind == "content_refused")
        assert ark.count("POST", path) == 1


@pytest.mark.parametrize(
    ("model", "fault", "kind", "code", "retries"),
    [
        # An image cannot be looked up, a video can: so a 500 of Ark itself means different things.
        (CHAT, refusal(500, "InternalServiceError"), "transient", "transient", None),
        (IMAGE, refusal(500, "InternalError"), "transient", "transient", 1),
        (VIDEO, refusal(500, "InternalServiceError"), "unknown_outcome", "unknown_outcome", None),
        # Ark says itself that it has not begun.
        (VIDEO, refusal(503, "ServerOverloaded"), "overloaded", "overloaded", None),
        # A gateway speaks for itself only.
        (CHAT, answered(502, "<html>bad gateway</html>"), "transient", "transient", None),
        (IMAGE, answered(502, "<html>bad gateway</html>"), "unknown_outcome", None, None),
        (VIDEO, answered(504), "unknown_outcome", None, None),
        (CHAT, drop_answer(), "transient", "transient", None),
        (IMAGE, drop_request(), "unknown_outcome", None, None),
        (VIDEO, drop_answer(), "unknown_outcome", None, None),
        (VIDEO, cut_answer(), "unknown_outcome", None, None),
        (CHAT, garbage(), "transient", "bad_response", None),
        (IMAGE, garbage(), "unknown_outcome", None, None),
        (CHAT, answered(200, "{"), "transient", "bad_response", None),
        (VIDEO, answered(200, "not JSON"), "unknown_outcome", None, None),
        (VIDEO, answered(200, {"task": "without an id"}), "unknown_outcome", None, None),
        (IMAGE, answered(200, {"data": "no list"}), "unknown_outcome", None, None),
        (IMAGE, answered(200, {"error": {"code": "ServerOverloaded"}}), "overloaded", None, None),
        (IMAGE, answered(200, {"data": []}), "transient", "no_output", 1),
        (IMAGE, answered(200, b'{"data": [], "usage": NaN}'), "unknown_outcome", None, None),
        # Our links are fetched by Ark: a fresh one may do.
        (VIDEO, refusal(400, "InvalidParameter", "failed to download it"), "transient", None, 1),
    ],
)
def test_what_an_unclear_answer_means(
    ark: Ark, model: str, fault: Fault, kind: ErrorKind, code: str | None, retries: int | None
) -> None:
    ark.next("POST", PATHS[model], fault)
    problem = failure(asked(ark, model))
    assert (problem.kind, problem.code, problem.retries) == (kind, code or kind, retries)
    assert ark.count("POST", PATHS[model]) == 1


@pytest.mark.parametrize(
    ("model", "kind", "code"),
    [(CHAT, "transient", "upstream_timeout"), (IMAGE, "unknown_outcome", "unknown_outcome")],
)
def test_the_time_of_a_synchronous_call_is_that_of_the_task(
    ark: Ark, model: str, kind: ErrorKind, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "ai_timeout", 0.01)
    ark.next("POST", PATHS[model], delayed(0.3), silence())
    assert isinstance(Volcengine().submit(asked(ark, model)), Completed)
    problem = failure(asked(ark, model, timeout=0.3))
    assert (problem.kind, problem.code) == (kind, code)


def test_creating_and_polling_a_video_take_ai_timeout_at_most(
    ark: Ark, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = accepted(ark)
    monkeypatch.setattr(config, "ai_timeout", 0.2)
    ark.next("POST", JOBS_PATH, silence())
    ark.next("GET", f"{JOBS_PATH}/{waiting.external_id}", silence())
    assert failure(asked(ark, VIDEO)).kind == "unknown_outcome"
    with pytest.raises(ProviderError) as caught:
        look(waiting)
    assert caught.value.code == "upstream_timeout"


def test_nothing_is_sent_where_nobody_listens() -> None:
    for model in (CHAT, IMAGE, VIDEO):
        problem = failure(make_call(Volcengine(), model, KITE))
        assert problem.kind == "transient", "known not to be accepted: it may go anywhere"
