"""Coze against an emulator, hosted and self-hosted."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from providers.adapters.coze import Coze, CozeParams
from providers.base import Accepted, Call, Completed, ErrorKind, Health, ProviderError, Update
from providers.testing import FakeInput, ProviderContract, Recorder, executor_at, make_call
from tests.emulators.base import (
    Fault,
    answered,
    cut_answer,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.coze import KEY, CozeServer, Workflow, coze, envelope, events

__all__ = ["coze"]

FLOW = "7561161554420482088"
RUN, STREAM = "/v1/workflow/run", "/v1/workflow/stream_run"
GIVEN = {"workflow_id": FLOW, "parameters": {"prompt": "kite"}}


def asked(server: CozeServer, given: dict[str, Any] | None = None, **more: Any) -> Call:
    more.setdefault("credential", KEY)
    return make_call(
        Coze(), more.pop("model", ""), GIVEN | (given or {}), base_url=server.url, **more
    )


def ran(server: CozeServer, given: dict[str, Any] | None = None, **more: Any) -> Completed:
    answer = Coze().submit(asked(server, given, **more))
    assert isinstance(answer, Completed)
    return answer


def accepted(server: CozeServer, *states: Any, **more: Any) -> Call:
    """A run in the background; `states` are what it will say, one look after the other."""
    if states:
        server.states.append(states)
    call = asked(server, {"is_async": True}, **more)
    answer = Coze().submit(call)
    assert isinstance(answer, Accepted)
    return replace(call, external_id=answer.external_id)


def look(*calls: Call) -> list[Update]:
    return list(Coze().poll(calls))


def failure(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        Coze().submit(call)
    return caught.value


def said(code: int, msg: str = "no") -> Fault:
    """A business error: HTTP 200."""
    return answered(200, envelope(code, msg))


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


class TestRequests:
    def test_what_goes_out(self, coze: CozeServer) -> None:
        call = asked(coze, {"ext": {"user": "u1"}, "bot_id": "7", "workflow_version": "v0.0.5"})
        Coze().submit(call)
        assert coze.calls()[0].json == {
            "workflow_id": FLOW,
            "parameters": {"prompt": "kite"},
            "ext": {"user": "u1", "task_id": call.task_id},
            "is_async": False,
            "bot_id": "7",
            "workflow_version": "v0.0.5",
        }

    def test_files_go_out_as_addresses(self, coze: CozeServer) -> None:
        given = {"parameters": {"img": "asset:1", "deep": {"list": ["asset:2"]}}}
        inputs = {
            "parameters.img": FakeInput(address="https://files.example/1.png"),
            "parameters.deep.list.0": FakeInput(address="https://files.example/2.png"),
        }
        ran(coze, given, inputs=inputs)
        assert coze.calls()[0].json["parameters"] == {
            "img": "https://files.example/1.png",
            "deep": {"list": ["https://files.example/2.png"]},
        }

    @pytest.mark.parametrize(
        "how",
        [
            {"given": {"workflow_id": FLOW}},
            {"given": {"workflow_id": None}, "model": f"coze-{FLOW}"},
            {"given": {"workflow_id": None}, "model": f"coze:{FLOW}"},
            {"given": {"workflow_id": None}, "config": {"workflow_id": FLOW}},
            {"given": {"workflow_id": FLOW}, "config": {"workflow_id": "1"}},
        ],
    )
    def test_where_the_workflow_is_named(self, coze: CozeServer, how: dict[str, Any]) -> None:
        ran(coze, **how)
        assert coze.calls()[0].json["workflow_id"] == FLOW

    def test_no_workflow_is_named(self, coze: CozeServer) -> None:
        problem = failure(asked(coze, {"workflow_id": None}))
        assert (problem.kind, problem.code) == ("bad_input", "coze_workflow_id_missing")
        assert coze.count() == 0

    @pytest.mark.parametrize(
        ("config", "given", "background"),
        [
            ({}, {}, False),
            ({"is_async": True}, {}, True),
            ({"is_async": True}, {"is_async": False}, False),
            ({}, {"is_async": True}, True),
        ],
    )
    def test_in_the_background(
        self, coze: CozeServer, config: dict[str, Any], given: dict[str, Any], background: bool
    ) -> None:
        answer = Coze().submit(asked(coze, given, config=config))
        assert isinstance(answer, Accepted) == background
        assert coze.calls()[0].json["is_async"] is background

    @pytest.mark.parametrize(
        "given",
        [
            {"workflow_id": "../etc"},
            {"bot_id": "1", "app_id": "2"},
            {"ext": {"n": 1}},
            {"token": "pat_of_somebody"},
        ],
    )
    def test_what_is_refused_at_submit(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            CozeParams.model_validate(given)


class TestResults:
    def test_one_text(self, coze: CozeServer) -> None:
        answer = ran(coze)
        assert answer.text == "a red kite"
        assert answer.usage == {
            "calls": 1,
            "total_tokens": 98,
            "prompt_tokens": 90,
            "completion_tokens": 8,
        }
        assert answer.data == {
            "output": {"output": "a red kite"},
            "execute_id": "741000001",
            "debug_url": "https://www.coze.cn/?execute_id=741000001",
        }

    @pytest.mark.parametrize(
        ("returned", "output", "text"),
        [
            ("plain words", "plain words", "plain words"),
            ("{not quite JSON", "{not quite JSON", "{not quite JSON"),
            ({"type_for_model": 2, "content_type": 1, "data": "words"}, "words", "words"),
            ({"answer": '{"output": "deep"}'}, {"answer": {"output": "deep"}}, "deep"),
            ({"output": '[{"a": "1"}, {"a": "2"}]'}, {"output": [{"a": "1"}, {"a": "2"}]}, None),
            ({"output": "this", "title": "that"}, {"output": "this", "title": "that"}, "this"),
            ({"score": 1, "good": True}, {"score": 1, "good": True}, None),
            ({"n": '{"x": NaN}'}, {"n": '{"x": NaN}'}, '{"x": NaN}'),
            ({"n": '{"x": 1e999}'}, {"n": '{"x": 1e999}'}, '{"x": 1e999}'),
        ],
    )
    def test_json_inside_text(
        self, coze: CozeServer, returned: Any, output: Any, text: str | None
    ) -> None:
        coze.workflows[FLOW] = Workflow(output=returned)
        answer = ran(coze)
        assert answer.data["output"] == output
        assert answer.text == text
        [update] = look(accepted(coze, "Success"))
        assert isinstance(update.state, Completed)
        assert (update.state.data["output"], update.state.text) == (output, text)

    def test_endless_nesting_ends(self, coze: CozeServer) -> None:
        returned: Any = "x"
        for _ in range(12):
            returned = json.dumps({"a": returned})
        coze.workflows[FLOW] = Workflow(output="[" * 5000)
        assert ran(coze).text == "[" * 5000
        coze.workflows[FLOW] = Workflow(output=returned)
        assert ran(coze).text

    def test_media(self, coze: CozeServer) -> None:
        signed = "https://p9.byteimg.com/tos/a.png~tplv-mdko3gqilj-image.image?x-signature=a%2Bb"
        coze.workflows[FLOW] = Workflow(
            output={
                "output": coze.link("kite.png"),
                "clips": json.dumps([coze.link("kite.mp4"), coze.link("kite.mp4")]),
                "sound": {"voice_url": "https://cdn.example/s/17"},
                "cover": signed,
                "page": "https://example.com/kites",
                "image_page": "https://example.com/kites.html",
                "words": "see https://example.com/kite.png",
            }
        )
        answer = ran(coze)
        assert [(file.kind, file.url) for file in answer.outputs] == [
            ("image", coze.link("kite.png")),
            ("video", coze.link("kite.mp4")),
            ("audio", "https://cdn.example/s/17"),
            ("image", signed),
        ]
        executor = executor_at(Coze(), coze.url, credential=None)
        address = str(answer.outputs[0].url)
        assert executor.http.get(address).text == "the file kite.png"
        coze.links_expired = True
        with pytest.raises(ProviderError):
            executor.http.get(address)

    @pytest.mark.parametrize("usage", [None, {"token_count": -1}, {"token_count": "98"}, [1]])
    def test_a_garbled_count_is_not_believed(self, coze: CozeServer, usage: Any) -> None:
        coze.usage = usage
        assert ran(coze).usage == {"calls": 1}


class TestRunsInTheBackground:
    @pytest.mark.parametrize("self_hosted", [False, True])
    def test_to_the_end(self, coze: CozeServer, self_hosted: bool) -> None:
        coze.self_hosted = self_hosted
        waiting = accepted(coze, config={"self_hosted": self_hosted})
        assert look(waiting)[0].state == "working"
        done = look(waiting)[0].state
        assert isinstance(done, Completed)
        assert done.text == "a red kite"
        assert done.usage["total_tokens"] == 98
        assert coze.count("POST") == 1

    def test_a_way_that_this_server_does_not_have(self, coze: CozeServer) -> None:
        coze.self_hosted = True
        with pytest.raises(ProviderError):
            look(accepted(coze))

    def test_states_are_compared_without_case(self, coze: CozeServer) -> None:
        assert isinstance(look(accepted(coze, "success"))[0].state, ProviderError | Completed)
        assert look(accepted(coze, "RUNNING"))[0].state == "working"
        assert look(accepted(coze, "Paused"))[0].state == "working"

    def test_a_cut_output_is_fetched_from_its_node(self, coze: CozeServer) -> None:
        coze.trims = True
        waiting = accepted(coze, "Success")
        path = f"/v1/workflows/{FLOW}/run_histories/{waiting.external_id}/execute_nodes"
        coze.next("GET", f"{path}/uuid-of-{waiting.external_id}", answered(500))
        with pytest.raises(ProviderError):
            look(waiting)
        done = look(waiting)[0].state
        assert isinstance(done, Completed)
        assert done.text == "a red kite"

    def test_an_empty_result(self, coze: CozeServer) -> None:
        coze.workflows[FLOW] = Workflow(output="")
        [update] = look(accepted(coze, "Success"))
        assert isinstance(update.state, ProviderError)
        assert (update.state.code, update.state.retries) == ("no_output", 1)

    @pytest.mark.parametrize(
        "fault",
        [
            said(4013),
            said(5000),
            answered(500),
            answered(429),
            drop_answer(),
            garbage(),
            answered(200, "no JSON"),
        ],
    )
    def test_a_poll_that_fails_says_nothing_about_the_run(
        self, coze: CozeServer, fault: Fault
    ) -> None:
        waiting = accepted(coze, "Success")
        coze.next("GET", f"/v1/workflows/{FLOW}/run_histories/{waiting.external_id}", fault)
        with pytest.raises(ProviderError):
            look(waiting)
        assert isinstance(look(waiting)[0].state, Completed)
        assert coze.count("POST") == 1

    def test_the_run_of_somebody_else_is_not_ours(self, coze: CozeServer) -> None:
        waiting = accepted(coze)
        other = envelope(0, "", data=[{"execute_id": "1", "execute_status": "Fail"}])
        path = f"/v1/workflows/{FLOW}/run_histories/{waiting.external_id}"
        coze.next("GET", path, answered(200, other))
        assert look(waiting) == []

    def test_one_run_that_cannot_be_read_does_not_hide_the_others(self, coze: CozeServer) -> None:
        bad, good = accepted(coze, "Success"), accepted(coze, "Success")
        path = f"/v1/workflows/{FLOW}/run_histories/{bad.external_id}"
        coze.next("GET", path, answered(500), said(4013))
        assert [update.call for update in look(bad, good)] == [good]
        with pytest.raises(ProviderError) as caught:
            look(bad, good)
        assert caught.value.kind == "rate_limited", "and the next one is not even asked for"
        assert coze.count("GET") == 3

    def test_an_answer_without_an_id(self, coze: CozeServer) -> None:
        coze.next("POST", RUN, answered(200, envelope(0, "", data="")))
        problem = failure(asked(coze, {"is_async": True}))
        assert (problem.kind, problem.code) == ("unknown_outcome", "coze_invalid_response")

    def test_nothing_stops_a_run(self, coze: CozeServer) -> None:
        assert Coze().cancel(accepted(coze)) == "unsupported"
        assert Coze().find(asked(coze)) is None


class TestStreams:
    def test_words_as_they_come(self, coze: CozeServer) -> None:
        coze.workflows[FLOW] = Workflow(output="a red kite")
        emit = Recorder()
        answer = ran(coze, stream=True, emit=emit)
        assert [text for text, _, _ in emit.deltas] == ["a red", " kite"]
        assert answer.text == emit.text == "a red kite"
        assert answer.usage["total_tokens"] == 98
        assert answer.data == {"output": "a red kite", "debug_url": "https://www.coze.cn/"}

    def test_fields_of_the_end_node(self, coze: CozeServer) -> None:
        coze.workflows[FLOW] = Workflow(output={"picture": coze.link("kite.png")})
        answer = ran(coze, stream=True)
        assert [file.kind for file in answer.outputs] == ["image"]
        assert answer.data["output"] == {"picture": coze.link("kite.png")}

    def test_words_of_other_nodes_come_before_the_end(self, coze: CozeServer) -> None:
        said_first = {"content": "Wait. ", "node_type": "Message", "node_id": "1"}
        ending = {"content": '{"output": "kite"}', "node_type": "End", "node_id": "2"}
        stream = events(("message", said_first), ("message", ending), ("done", {}))
        coze.next("POST", STREAM, Fault(handled=False, reply=stream))
        answer = ran(coze, stream=True)
        assert answer.text == 'Wait. {"output": "kite"}'
        assert answer.data == {"output": {"output": "kite"}}

    def test_an_error_in_the_middle(self, coze: CozeServer) -> None:
        coze.states.append(({"error_code": 5000, "error_message": "node failed"},))
        emit = Recorder()
        problem = failure(asked(coze, stream=True, emit=emit))
        assert (problem.kind, problem.code) == ("transient", "coze_request_failed")
        assert emit.text == "well, "

    def test_a_question(self, coze: CozeServer) -> None:
        coze.workflows[FLOW] = Workflow(asks=True)
        for stream in (True, False):
            problem = failure(asked(coze, stream=stream))
            assert (problem.kind, problem.code) == ("not_available", "coze_request_failed")

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (
                Fault(handled=False, reply=events(("Message", {"content": "a"}))),
                "coze_request_failed",
            ),
            (cut_answer(60), "coze_request_failed"),
            (answered(200, b"event: Message\ndata: {no\n\n"), "coze_invalid_response"),
            (answered(200, envelope(0, "fine, but no stream")), "coze_invalid_response"),
            (answered(502), "coze_http_502"),
        ],
    )
    def test_a_stream_that_breaks_off(self, coze: CozeServer, fault: Fault, code: str) -> None:
        coze.next("POST", STREAM, fault)
        problem = failure(asked(coze, stream=True))
        assert (problem.kind, problem.code) == ("unknown_outcome", code)

    def test_the_background_has_no_stream(self, coze: CozeServer) -> None:
        answer = Coze().submit(asked(coze, {"is_async": True}, stream=True))
        assert isinstance(answer, Accepted)


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
