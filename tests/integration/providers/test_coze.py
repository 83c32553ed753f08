"""Coze against an emulator, hosted and self-hosted."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from providers.adapters.coze import Coze
from providers.base import Call, ErrorKind, Health, ProviderError
from providers.testing import ProviderContract, executor_at, make_call
from tests.emulators.base import (
    Fault,
    answered,
    cut_answer,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.coze import KEY, CozeServer, coze, envelope
from tests.integration.providers.coze_calls import (
    FLOW,
    GIVEN,
    RUN,
    STREAM,
    accepted,
    asked,
    failure,
    look,
    said,
)

__all__ = ["coze"]


class Contract(ProviderContract):
    provider = Coze()
    path: ClassVar[str] = RUN
    how: ClassVar[dict[str, Any]] = {}
    given: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def vendor(self, coze: CozeServer) -> None:
        self.coze = coze

    def make(self, **more: Any) -> Call:
        return asked(self.coze, self.given, **(self.how | more))

    def creates(self) -> int:
        return self.coze.count("POST", self.path)

    def meets(self, *faults: Fault) -> None:
        self.coze.next("POST", self.path, *faults)

    faults: ClassVar[dict[ErrorKind, Callable[[Any], None]]] = {
        "transient": lambda self: self.meets(said(5000)),
        "overloaded": lambda self: self.meets(said(720702222)),
        "rate_limited": lambda self: self.meets(said(4013)),
        "quota_exhausted": lambda self: self.meets(said(4028)),
        "bad_credentials": lambda self: self.meets(
            answered(401, envelope(4100, "authentication is invalid"))
        ),
        "not_available": lambda self: self.meets(said(6031)),
        "bad_input": lambda self: self.meets(said(4000)),
        "content_refused": lambda self: self.meets(said(702093001, "内容包含敏感信息")),
        "unknown_outcome": lambda self: self.meets(drop_answer()),
    }


class TestSynchronous(Contract):
    pass


class TestBackground(Contract):
    given: ClassVar = {"is_async": True}
    faults: ClassVar = Contract.faults | {"lost": lambda self: self.coze.states.append(("Cancel",))}


class TestStreaming(Contract):
    path, how = STREAM, {"stream": True}


MEANINGS: list[tuple[int, str, ErrorKind, int | None, float | None]] = [
    (4000, "", "bad_input", None, None),
    (720702001, "", "bad_input", None, None),
    (720702002, "", "bad_input", None, None),
    (305000002, "", "bad_input", None, None),
    (4013, "", "rate_limited", None, 60),
    (4015, "", "not_available", None, None),
    (4016, "", "overloaded", None, None),
    (4027, "", "quota_exhausted", None, None),
    (4028, "", "quota_exhausted", None, None),
    (4031, "", "quota_exhausted", None, None),
    (4100, "", "bad_credentials", None, None),
    (700012006, "access token invalid", "bad_credentials", None, None),
    (4101, "", "not_available", None, None),
    (4200, "", "not_available", None, None),
    (5000, "", "transient", None, None),
    (6031, "", "not_available", None, None),
    (720702011, "", "not_available", None, None),
    (6039, "", "not_available", None, None),
    (720702078, "", "not_available", None, None),
    (777777778, "not registered to api channel", "not_available", None, None),
    (720701013, "currently experiencing server issues", "transient", None, 60),
    (720702222, "", "overloaded", None, None),
    (702093019, "plugin failed", "transient", 1, None),
    (702093019, "the content did not pass 审核", "content_refused", None, None),
    (712200001, "violates our content policy", "content_refused", None, None),
    (987654321, "something new", "transient", 1, None),
]


@pytest.mark.parametrize(("code", "msg", "kind", "retries", "wait"), MEANINGS)
def test_the_code_says_what_a_refusal_means(
    coze: CozeServer,
    code: int,
    msg: str,
    kind: ErrorKind,
    retries: int | None,
    wait: float | None,
) -> None:
    for path in (RUN, STREAM):
        coze.next("POST", path, said(code, msg))
        problem = failure(asked(coze, stream=path == STREAM))
        assert (problem.kind, problem.code) == (kind, "coze_request_failed")
        assert (problem.retries, problem.retry_after) == (retries, wait)
        assert bool(problem.refusal) == (kind == "content_refused")
        assert coze.count("POST", path) == 1
    failed = {"error_code": code, "error_message": msg}
    for self_hosted in (False, True):
        coze.self_hosted = self_hosted
        [update] = look(accepted(coze, failed, config={"self_hosted": self_hosted}))
        assert isinstance(update.state, ProviderError)
        assert (update.state.kind, update.state.retries) == (kind, retries)


@pytest.mark.parametrize(
    ("fault", "kind", "code", "retries"),
    [
        (answered(400, envelope(4000, "bad")), "bad_input", "coze_http_400", None),
        (answered(401, envelope(4100, "no")), "bad_credentials", "coze_http_401", None),
        (answered(403, "forbidden"), "not_available", "coze_http_403", None),
        (answered(404, "404 page not found"), "not_available", "coze_http_404", None),
        (answered(429, "slow down"), "rate_limited", "coze_http_429", None),
        # A 5xx of Coze is promised three tries, whatever it looks like.
        (answered(500, envelope(720701013, "issues")), "transient", "coze_http_500", None),
        (answered(500, "oops"), "transient", "coze_http_500", None),
        (answered(500, ["oops"]), "transient", "coze_http_500", None),
        (answered(500), "transient", "coze_http_500", None),
        (answered(503, {"code": 1, "msg": "?"}), "transient", "coze_http_503", None),
        # Coze Studio refuses keys like this.
        (
            answered(500, {"code": 1, "msg": "api key invalid"}),
            "bad_credentials",
            "coze_http_500",
            None,
        ),
        (
            answered(500, {"code": 1, "msg": "missing authorization in header"}),
            "bad_credentials",
            "coze_http_500",
            None,
        ),
        # A gateway knows nothing of the run, and nothing finds it.
        (answered(502, "<html>bad gateway</html>"), "unknown_outcome", "coze_http_502", None),
        (answered(504), "unknown_outcome", "coze_http_504", None),
        (drop_request(), "unknown_outcome", "coze_request_failed", None),
        (drop_answer(), "unknown_outcome", "coze_request_failed", None),
        (garbage(), "unknown_outcome", "coze_request_failed", None),
        (answered(200, "no JSON"), "unknown_outcome", "coze_invalid_response", None),
        (answered(200, ["a list"]), "unknown_outcome", "coze_invalid_response", None),
        (answered(200, {"data": "{}"}), "unknown_outcome", "coze_invalid_response", None),
        (
            answered(200, b'{"code": 0, "cost": NaN}'),
            "unknown_outcome",
            "coze_invalid_response",
            None,
        ),
        # Its end may be all that is missing.
        (cut_answer(), "unknown_outcome", "coze_request_failed", None),
        (answered(200, envelope(0, "", data="")), "transient", "no_output", 1),
        (answered(200, envelope(0, "", data="{}")), "transient", "no_output", 1),
        (answered(200, envelope(0, "")), "transient", "no_output", 1),
    ],
)
def test_every_failure_has_its_word(
    coze: CozeServer, fault: Fault, kind: ErrorKind, code: str, retries: int | None
) -> None:
    coze.next("POST", RUN, fault)
    problem = failure(asked(coze))
    assert (problem.kind, problem.code, problem.retries) == (kind, code, retries)
    assert problem.message
    assert coze.count("POST") == 1


def test_a_server_that_cannot_be_reached() -> None:
    problem = failure(make_call(Coze(), "", GIVEN))
    assert (problem.kind, problem.code) == ("transient", "coze_request_failed")


@pytest.mark.parametrize("how", [{"credential": None}, {"base_url": "", "credential": KEY}])
def test_without_configuration_nothing_is_sent(how: dict[str, Any]) -> None:
    problem = failure(make_call(Coze(), "", GIVEN, **how))
    assert (problem.kind, problem.code) == ("not_available", "coze_not_configured")


def test_time(coze: CozeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = accepted(coze)
    monkeypatch.setattr("providers.adapters.coze.SECONDS", 0.1)
    coze.next("POST", RUN, silence(), silence())
    coze.next("GET", f"/v1/workflows/{FLOW}/run_histories/{waiting.external_id}", silence())
    for call in (asked(coze, timeout=0.3), asked(coze, {"is_async": True})):
        problem = failure(call)
        assert (problem.kind, problem.code) == ("unknown_outcome", "coze_request_failed")
    with pytest.raises(ProviderError) as caught:
        look(waiting)
    assert caught.value.code == "upstream_timeout"


class TestProbing:
    @pytest.mark.parametrize("self_hosted", [False, True])
    def test_a_good_key(self, coze: CozeServer, self_hosted: bool) -> None:
        coze.self_hosted = self_hosted
        config = {"self_hosted": self_hosted}
        executor = executor_at(Coze(), coze.url, credential=KEY, config=config)
        assert Coze().probe(executor) == Health("healthy", "ok")

    def test_a_refusal_of_an_unknown_run_is_a_good_sign(self, coze: CozeServer) -> None:
        coze.next("GET", "/v1/workflows/0/run_histories/0", said(4000), said(4101), said(5000))
        executor = executor_at(Coze(), coze.url, credential=KEY)
        for _ in range(2):
            assert Coze().probe(executor) == Health("healthy", "ok")
        with pytest.raises(ProviderError):
            Coze().probe(executor)

    @pytest.mark.parametrize("self_hosted", [False, True])
    def test_a_wrong_key(self, coze: CozeServer, self_hosted: bool) -> None:
        coze.self_hosted = self_hosted
        config = {"self_hosted": self_hosted}
        executor = executor_at(Coze(), coze.url, credential="pat_wrong_key", config=config)
        with pytest.raises(ProviderError) as caught:
            Coze().probe(executor)
        assert caught.value.kind == "bad_credentials"


def test_the_catalogue_takes_any_workflow() -> None:
    for model in ("coze-workflow", f"coze-{FLOW}", "coze-anything"):
        declared = Coze().declared(model)
        assert declared is not None
        assert declared.task_types == ("coze-workflow",)
