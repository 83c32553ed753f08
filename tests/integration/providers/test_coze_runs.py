"""Coze: what goes out, what comes back, in one exchange, streamed and in the background."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from providers.adapters.coze import Coze, CozeParams
from providers.base import Accepted, Completed, ProviderError
from providers.testing import FakeInput, Recorder, executor_at
from tests.emulators.base import (
    Fault,
    answered,
    cut_answer,
    drop_answer,
    garbage,
)
from tests.emulators.coze import CozeServer, Workflow, coze, envelope, events
from tests.integration.providers.coze_calls import (
    FLOW,
    RUN,
    STREAM,
    accepted,
    asked,
    failure,
    look,
    ran,
    said,
)

__all__ = ["coze"]


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
            ({"n": '{"x": 1.5}'}, {"n": {"x": 1.5}}, None),
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
        for brackets in ("[" * 5000, "[" * 5000 + "]" * 5000):
            coze.workflows[FLOW] = Workflow(output=brackets)
            assert ran(coze).text == brackets
        coze.workflows[FLOW] = Workflow(output=returned)
        assert ran(coze).text
        coze.workflows[FLOW] = Workflow(output="[" * 500 + "7" + "]" * 500)
        assert ran(coze).text is None

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
        stream = events(
            ("message", said_first), ("message", {"content": ""}), ("message", ending), ("done", {})
        )
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
