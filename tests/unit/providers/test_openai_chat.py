"""Chat as OpenAI-compatible servers speak it: what goes out, what is made of what comes back."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import Completed, ProviderError
from providers.testing import FakeInput, Recorder, make_call
from providers.wire import openai_chat, sse
from providers.wire.sse import Event

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def whole(message, finish_reason="stop", **more):
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "c1", "choices": [choice], "usage": {**USAGE, "details": {}}} | more


def chunk(delta=None, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish_reason}
    return Event(json.dumps({"id": "c1", "choices": [choice], "usage": None} | more))


def collected(*events):
    emit = Recorder()
    return openai_chat.collect(iter(events), emit), emit


DONE = Event("[DONE]")
LAST = Event(json.dumps({"choices": [], "usage": USAGE}))


class TestRequest:
    def test_a_prompt_becomes_a_conversation(self):
        call = make_call(model="m", input={"prompt": "hi", "system": "Be brief.", "max_tokens": 5})

        assert openai_chat.request(call) == {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hi"},
            ],
            "stream": False,
            "max_tokens": 5,
        }

    def test_a_stream_asks_for_its_usage(self):
        body = openai_chat.request(make_call(model="m", input={"prompt": "hi"}, stream=True))

        assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})

    def test_pictures_go_inline(self):
        call = make_call(
            input={"prompt": "what is it?", "images": ["asset:1"]}, inputs={"images.0": FakeInput()}
        )

        [message] = openai_chat.messages(call)

        assert message["content"] == [
            {"type": "text", "text": "what is it?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,Y29udGVudA=="}},
        ]

    def test_names_that_are_no_fields_stay_here(self):
        call = make_call(input={"prompt": "hi", "size": "512x512", "n": 2, "logprobs": True})

        body = openai_chat.request(call, seed=7)

        assert body.keys() == {"model", "messages", "stream", "logprobs", "seed"}

    def test_a_none_leaves_a_field_out(self):
        call = make_call(input={"prompt": "hi", "max_tokens": 5})

        body = openai_chat.request(call, max_tokens=None, max_completion_tokens=5)

        assert "max_tokens" not in body
        assert body["max_completion_tokens"] == 5


class TestAnswer:
    def test_text(self):
        assert openai_chat.answer(whole({"role": "assistant", "content": "hi"})) == Completed(
            text="hi",
            message={
                "role": "assistant",
                "content": "hi",
                "refusal": None,
                "finish_reason": "stop",
            },
            usage=USAGE,
        )

    @pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
    def test_reasoning_by_field(self, name):
        answer = openai_chat.answer(whole({"content": "42", name: "6 x 7"}))

        assert answer.message is not None
        assert (answer.text, answer.message["reasoning_content"]) == ("42", "6 x 7")

    def test_reasoning_in_the_text(self):
        answer = openai_chat.answer(whole({"content": "\n<think>6 x 7</think>\n\n42"}))

        assert answer.message is not None
        assert (answer.text, answer.message["reasoning_content"]) == ("42", "6 x 7")

    def test_tool_calls(self):
        tool = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        answer = openai_chat.answer(whole({"content": None, "tool_calls": [tool]}, "tool_calls"))

        assert answer.message is not None
        assert answer.message["tool_calls"] == [tool]
        assert answer.message["finish_reason"] == "tool_calls"

    def test_content_in_parts(self):
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, "c"]

        assert openai_chat.answer(whole({"content": parts})).text == "ab"

    @pytest.mark.parametrize(
        ("data", "kind", "code"),
        [
            (whole({"content": ""}, "content_filter"), "content_refused", "content_refused"),
            (whole({"refusal": "I will not."}), "content_refused", "content_refused"),
            (whole({"content": "x"}, "insufficient_system_resource"), "overloaded", "overloaded"),
            ({"error": {"code": "rate_limit_exceeded"}}, "rate_limited", "rate_limited"),
            ({"error": {"code": "strange"}}, "transient", "transient"),
            ({"choices": []}, "transient", "bad_response"),
            ({"choices": "none"}, "transient", "bad_response"),
            ({"choices": ["none"]}, "transient", "bad_response"),
            ({}, "transient", "bad_response"),
        ],
    )
    def test_what_is_no_answer(self, data, kind, code):
        with pytest.raises(ProviderError) as caught:
            openai_chat.answer(data)

        assert (caught.value.kind, caught.value.code) == (kind, code)

    def test_a_refusal_is_told_in_its_own_words(self):
        with pytest.raises(ProviderError) as caught:
            openai_chat.answer(whole({"refusal": "I will not."}))

        assert caught.value.refusal == "I will not."


class TestStream:
    def test_pieces_add_up(self):
        answer, emit = collected(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hel"}),
            chunk({"content": "lo"}),
            chunk({}, "stop"),
            LAST,
            DONE,
        )

        assert answer.text == emit.text == "Hello"
        assert answer.usage == USAGE
        assert answer.message is not None
        assert answer.message["finish_reason"] == "stop"

    def test_usage_on_the_last_chunk(self):
        assert collected(chunk({"content": "x"}, "stop", usage=USAGE), DONE)[0].usage == USAGE

    def test_reasoning_comes_first(self):
        answer, emit = collected(
            chunk({"reasoning_content": "hm", "content": None}),
            chunk({"content": "yes"}),
            chunk({}, "stop"),
        )

        assert answer.message is not None
        assert answer.message["reasoning_content"] == "hm"
        assert emit.deltas == [("", "hm", None), ("yes", "", None)]

    def test_tool_calls_grow(self):
        def part(arguments, **more):
            call = {"index": 0, "function": {"arguments": arguments}} | more
            return chunk({"tool_calls": [call]})

        named = {"name": "f", "arguments": ""}
        answer, emit = collected(
            part("", id="t1", type="function", function=named),
            part('{"a"'),
            part(":1}"),
            chunk({}, "tool_calls"),
            DONE,
        )

        assert answer.message is not None
        assert answer.message["tool_calls"] == [
            {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
        ]
        assert len(emit.deltas) == 3

    @pytest.mark.parametrize("index", [{"index": 0}, {"index": None}, {}])
    def test_tool_calls_that_are_not_numbered(self, index):
        """Ollama gives every call the number 0, others none; arguments may be an object."""

        def whole_call(id_, name, arguments):
            function = {"name": name, "arguments": arguments}
            return chunk({"tool_calls": [{"id": id_, "function": function, **index}]})

        answer, emit = collected(
            whole_call("t1", "f", '{"a":1}'), whole_call("t2", "g", {"b": "é"}), DONE
        )

        assert answer.message is not None
        assert answer.message["tool_calls"] == [
            {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "t2", "type": "function", "function": {"name": "g", "arguments": '{"b": "é"}'}},
        ]
        deltas = [delta for _, _, tools in emit.deltas for delta in tools]
        assert [(delta["index"], delta["id"]) for delta in deltas] == [(0, "t1"), (1, "t2")]

    def test_a_tool_call_without_an_id_gets_one(self):
        parts = [
            {"function": {"name": "f", "arguments": '{"a"'}},
            {"function": {"arguments": ":1}"}},
        ]
        answer, emit = collected(*(chunk({"tool_calls": [part]}) for part in parts), DONE)

        assert answer.message is not None
        [call] = answer.message["tool_calls"]
        assert [call["id"], call["function"]["arguments"]] == ["call_0", '{"a":1}']
        assert emit.deltas[0][2][0]["id"] == "call_0"

    def test_what_real_servers_send_beside_the_text(self):
        """Role alone, empty events, null content, fields nobody knows, no usage, no space after `data:`."""
        raw = (
            ': ping\r\n\r\ndata:{"choices":[{"index":0,"delta":{"role":"assistant","content":null},'
            '"logprobs":null,"finish_reason":null,"stop_reason":null}],"prompt_token_ids":null}\r\n\r\n'
            'data:\r\n\r\ndata: {"choices":null,"usage":null}\r\n\r\n'
            'data: {"choices":[{"index":0,"delta":{"content":"hi"}}],"timings":{"n":1}}\r\n\r\n'
            'data: {"choices":[{"index":0,"delta":null,"finish_reason":"stop"}]}\r\n\r\ndata:[DONE]\r\n\r\n'
        )
        answer, emit = collected(*sse.events([raw.encode()]))

        assert [answer.text, emit.text, answer.usage] == ["hi", "hi", {}]

    def test_a_stream_that_says_done_is_complete(self):
        assert collected(chunk({"content": "x"}), DONE)[0].text == "x"

    def test_the_word_null_is_no_end(self):
        with pytest.raises(ProviderError, match="broke off"):
            collected(chunk({"content": "x"}, "null"))

    def test_a_stream_that_ends_without_an_end_was_cut(self):
        with pytest.raises(ProviderError) as caught:
            collected(chunk({"content": "x"}))

        assert (caught.value.kind, caught.value.code) == ("transient", "upstream_cut")

    def test_an_error_in_the_stream(self):
        with pytest.raises(ProviderError) as caught:
            collected(chunk({"content": "x"}), Event('{"error": {"code": "ServerOverloaded"}}'))

        assert caught.value.kind == "overloaded"

    def test_an_error_without_its_name(self):
        said = {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}
        with pytest.raises(ProviderError) as caught:
            collected(chunk({"content": "x"}), Event(json.dumps(said)))

        assert caught.value.kind == "bad_input"

    def test_a_refusal_in_the_stream(self):
        with pytest.raises(ProviderError) as caught:
            collected(
                chunk({"content": "Sure"}), chunk({"refusal": "No."}), chunk({}, "stop"), DONE
            )

        assert (caught.value.kind, caught.value.refusal) == ("content_refused", "No.")

    @pytest.mark.parametrize("data", ["{", "[]", "null", '{"choices": [7]}', '{"choices": {}}'])
    def test_garbage_never_crashes(self, data):
        with pytest.raises(ProviderError) as caught:
            collected(Event(data))

        assert caught.value.kind == "transient"


class TestThinking:
    @given(
        thought=st.text(alphabet="ab<think/>\n"),
        said=st.text(alphabet="xy<think/>\n"),
        cuts=st.lists(st.integers(min_value=0), max_size=8),
    )
    def test_marks_may_be_cut_anywhere(self, thought, said, cuts):
        thought = thought.replace("</think>", "")
        raw = f"<think>{thought}</think>{said}"
        edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
        split = openai_chat.Thinking()

        parts = [split.feed(raw[a:b]) for a, b in pairwise(edges)]
        parts.append(split.end())

        assert "".join(text for text, _ in parts) == said.lstrip("\n")
        assert "".join(reasoning for _, reasoning in parts) == thought

    @given(st.text(alphabet="<think> x"), st.lists(st.integers(min_value=0), max_size=5))
    def test_text_that_does_not_begin_with_a_thought_is_text(self, raw, cuts):
        if raw.lstrip().startswith("<think>"):
            return
        edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
        split = openai_chat.Thinking()

        parts = [split.feed(raw[a:b]) for a, b in pairwise(edges)]
        parts.append(split.end())

        assert "".join(text for text, _ in parts) == raw
        assert not any(reasoning for _, reasoning in parts)

    def test_a_thought_that_never_ends_is_a_thought(self):
        split = openai_chat.Thinking()

        assert [split.feed("<think>hm</thi"), split.end()] == [("", "hm"), ("", "</thi")]
