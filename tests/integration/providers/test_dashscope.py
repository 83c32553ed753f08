"""DashScope against an emulator that refuses what DashScope refuses."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from providers.adapters.dashscope import DashScope
from providers.base import (
    Call,
    ErrorKind,
    ProviderError,
)
from providers.testing import ProviderContract
from tests.emulators.base import (
    Fault,
    answered,
    cut_answer,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.dashscope import Bailian, dashscope, refused
from tests.integration.providers.dashscope_calls import (
    CHAT,
    CHAT_PATH,
    DIALOGUE,
    DIALOGUE_PATH,
    DRAW,
    DRAW_PATH,
    FILM,
    FILM_PATH,
    INSPECTED,
    PATHS,
    TASKS,
    TTS,
    accepted,
    asked,
    failure,
    look,
    refusal,
)

__all__ = ["dashscope"]


class Contract(ProviderContract):
    provider = DashScope()
    path: ClassVar[str]
    model: ClassVar[str]

    @pytest.fixture(autouse=True)
    def vendor(self, dashscope: Bailian) -> None:
        self.dashscope = dashscope

    def make(self, **more: Any) -> Call:
        return asked(self.dashscope, self.model, **more)

    def creates(self) -> int:
        return self.dashscope.count("POST", self.path)

    def meets(self, *faults: Fault) -> None:
        self.dashscope.next("POST", self.path, *faults)


REFUSALS: dict[ErrorKind, Callable[[Any], None]] = {
    "overloaded": lambda self: self.meets(refusal(503, "ModelUnavailable")),
    "rate_limited": lambda self: self.meets(refusal(429, "Throttling.RateQuota")),
    "quota_exhausted": lambda self: self.meets(refusal(400, "Arrearage")),
    "bad_credentials": lambda self: self.meets(refusal(401, "InvalidApiKey")),
    "not_available": lambda self: self.meets(refusal(403, "AccessDenied.Unpurchased")),
    "bad_input": lambda self: self.meets(refusal(400, "InvalidParameter")),
    "content_refused": lambda self: self.meets(refusal(400, "DataInspectionFailed")),
}


JOB_FAULTS: dict[ErrorKind, Callable[[Any], None]] = REFUSALS | {
    "transient": lambda self: self.dashscope.states.append(({"code": "InternalError.Algo"},)),
    "lost": lambda self: self.dashscope.states.append(("CANCELED",)),
    "unknown_outcome": lambda self: self.meets(drop_answer()),
}


ONE_EXCHANGE: dict[ErrorKind, Callable[[Any], None]] = REFUSALS | {
    "transient": lambda self: self.meets(refusal(500, "InternalError")),
    "unknown_outcome": lambda self: self.meets(drop_answer()),
}


class TestDrawing(Contract):
    path, model = DRAW_PATH, DRAW
    faults: ClassVar = JOB_FAULTS


class TestFilming(Contract):
    path, model = FILM_PATH, FILM
    faults: ClassVar = JOB_FAULTS


class TestDrawingAtOnce(Contract):
    path, model = DIALOGUE_PATH, DIALOGUE
    faults: ClassVar = ONE_EXCHANGE


class TestSpeaking(Contract):
    path, model = DIALOGUE_PATH, TTS
    faults: ClassVar = ONE_EXCHANGE


class TestChatting(Contract):
    path, model, paid = CHAT_PATH, CHAT, False
    faults: ClassVar = REFUSALS | {"transient": lambda self: self.meets(drop_answer())}


@pytest.mark.parametrize(
    ("status", "code", "message", "kind", "retries"),
    [
        (400, "InvalidParameter", "", "bad_input", None),
        (400, "InvalidParameter", "Range of input length should be [1, 6000]", "bad_input", None),
        (400, "invalid_parameter_error", "", "bad_input", None),
        (400, "BadRequest.EmptyInput", "", "bad_input", None),
        (400, "UnsupportedOperation", "", "bad_input", None),
        # Our links are fetched by the vendor: a fresh one may do.
        (400, "InvalidURL", "", "transient", 1),
        (400, "InvalidParameter.DataInspection", "Unable to download the media", "transient", 1),
        (400, "BadRequest", "Download the media resource timed out", "transient", 1),
        (400, "Arrearage", "Access denied, overdue payment", "quota_exhausted", None),
        (400, "DataInspectionFailed", "no", "content_refused", None),
        (400, "data_inspection_failed", "no", "content_refused", None),
        (400, "IPInfringementSuspect", "no", "content_refused", None),
        (400, "FaqRuleBlocked", "no", "content_refused", None),
        (401, "InvalidApiKey", "", "bad_credentials", None),
        (401, "invalid_api_key", "", "bad_credentials", None),
        (403, "AccessDenied", "", "not_available", None),
        (403, "Model.AccessDenied", "", "not_available", None),
        (403, "Workspace.AccessDenied", "", "not_available", None),
        (403, "AllocationQuota.FreeTierOnly", "", "quota_exhausted", None),
        (404, "ModelNotFound", "", "not_available", None),
        (404, "model_not_found", "", "not_available", None),
        (404, "WorkSpaceNotFound", "", "not_available", None),
        (408, "RequestTimeOut", "", "transient", None),
        (429, "Throttling", "", "rate_limited", None),
        (429, "Throttling.RateQuota", "", "rate_limited", None),
        (429, "Throttling.BurstRate", "", "rate_limited", None),
        (429, "LimitRequests", "", "rate_limited", None),
        (429, "limit_requests", "", "rate_limited", None),
        # The same code says two things.
        (429, "Throttling.AllocationQuota", "too many tokens a minute", "rate_limited", None),
        (429, "Throttling.AllocationQuota", "Free quota exhausted", "quota_exhausted", None),
        (429, "insufficient_quota", "please increase your quota", "quota_exhausted", None),
        (503, "ModelUnavailable", "", "overloaded", None),
        (503, "ServiceUnavailable", "", "overloaded", None),
    ],
)
def test_the_code_says_what_a_refusal_means(
    dashscope: Bailian, status: int, code: str, message: str, kind: ErrorKind, retries: int | None
) -> None:
    compatible = {"error": {"code": code, "message": message or code, "param": None}}
    for model, fault in (
        (DRAW, refusal(status, code, message)),
        (DIALOGUE, refusal(status, code, message)),
        (CHAT, answered(status, compatible)),
    ):
        dashscope.next("POST", PATHS[model], fault)
        problem = failure(asked(dashscope, model))
        assert (problem.kind, problem.retries) == (kind, retries)
        assert code in str(problem.raw)
        assert bool(problem.refusal) == (kind == "content_refused")
        assert dashscope.count("POST", PATHS[model]) == 1


@pytest.mark.parametrize(
    ("model", "fault", "kind", "code", "retries"),
    [
        # A job can be looked up, one exchange cannot: so a 500 of the vendor itself means different things.
        (CHAT, refusal(500, "InternalError"), "transient", None, None),
        (DIALOGUE, refusal(500, "InternalError.Algo"), "transient", None, 1),
        (TTS, refusal(500, "ModelServiceFailed"), "transient", None, 1),
        (DRAW, refusal(500, "InternalError.Timeout"), "unknown_outcome", None, None),
        (FILM, refusal(500, "SystemError"), "unknown_outcome", None, None),
        # A gateway speaks for itself only.
        (CHAT, answered(502, "<html>bad gateway</html>"), "transient", None, None),
        (TTS, answered(504), "unknown_outcome", None, None),
        (FILM, answered(502), "unknown_outcome", None, None),
        (CHAT, drop_answer(), "transient", None, None),
        (TTS, drop_answer(), "unknown_outcome", None, None),
        (DRAW, drop_request(), "unknown_outcome", None, None),
        (FILM, cut_answer(), "unknown_outcome", None, None),
        (DIALOGUE, garbage(), "unknown_outcome", None, None),
        (CHAT, answered(200, "{"), "transient", "bad_response", None),
        (FILM, answered(200, "not JSON"), "unknown_outcome", None, None),
        (
            DRAW,
            answered(200, {"output": {"task_status": "PENDING"}}),
            "unknown_outcome",
            None,
            None,
        ),
        (DIALOGUE, answered(200, {"request_id": "r"}), "unknown_outcome", None, None),
        (DIALOGUE, answered(200, {"output": {"choices": []}}), "transient", "no_output", 1),
        (
            DIALOGUE,
            answered(200, b'{"output": {}, "usage": {"image_count": NaN}}'),
            None,
            None,
            None,
        ),
        # The SDK does not raise on errors either: they can come as a success.
        (DIALOGUE, answered(200, INSPECTED), "content_refused", None, None),
    ],
)
def test_what_an_unclear_answer_means(
    dashscope: Bailian,
    model: str,
    fault: Fault,
    kind: ErrorKind | None,
    code: str | None,
    retries: int | None,
) -> None:
    kind = kind or "unknown_outcome"
    dashscope.next("POST", PATHS[model], fault)
    problem = failure(asked(dashscope, model))
    assert (problem.kind, problem.code, problem.retries) == (kind, code or kind, retries)
    assert dashscope.count("POST", PATHS[model]) == 1


def test_a_wait_that_is_named_is_passed_on(dashscope: Bailian) -> None:
    body = refused(429, "Throttling").body
    dashscope.next("POST", DRAW_PATH, answered(429, body, retry_after="7"))
    assert failure(asked(dashscope, DRAW)).retry_after == 7


@pytest.mark.parametrize("model", [TTS, DIALOGUE])
def test_one_exchange_takes_the_time_of_the_task(dashscope: Bailian, model: str) -> None:
    dashscope.next("POST", PATHS[model], silence())
    assert failure(asked(dashscope, model, timeout=0.2)).kind == "unknown_outcome"


def test_an_exchange_about_a_job_has_a_limit(
    dashscope: Bailian, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = accepted(dashscope)
    monkeypatch.setattr("providers.adapters.dashscope.SECONDS", 0.1)
    dashscope.next("POST", DRAW_PATH, silence())
    dashscope.next("GET", TASKS + str(waiting.external_id), silence())
    assert failure(asked(dashscope, DRAW)).kind == "unknown_outcome"
    with pytest.raises(ProviderError) as caught:
        look(waiting)
    assert caught.value.code == "upstream_timeout"
