"""Volcengine: chat, the catalogue, the probe."""

from typing import Any

import pytest
from pydantic import ValidationError

from providers.adapters.volcengine import Volcengine
from providers.base import (
    Completed,
    Health,
    ProviderError,
)
from providers.testing import Recorder, executor_at
from tests.emulators.base import (
    Fault,
    sse,
)
from tests.emulators.volcengine import KEY, Ark, ark
from tests.integration.providers.volcengine_calls import (
    CHAT,
    CHAT_PATH,
    IMAGE,
    KITE,
    VIDEO,
    asked,
    failure,
    schema,
)

__all__ = ["ark"]


class TestChatting:
    def test_an_answer(self, ark: Ark) -> None:
        messages = [{"role": "user", "content": "What flies?"}]
        call = asked(ark, CHAT, {"messages": messages, "thinking": "disabled", "max_tokens": 9})
        answer = Volcengine().submit(call)
        assert isinstance(answer, Completed)
        assert answer.text == "a red kite"
        assert answer.message == {
            "role": "assistant",
            "content": "a red kite",
            "refusal": None,
            "reasoning_content": "hm",
            "finish_reason": "stop",
        }
        assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        assert ark.calls()[0].json == {
            "model": CHAT,
            "messages": messages,
            "thinking": {"type": "disabled"},
            "max_tokens": 9,
            "stream": False,
        }

    def test_a_stream(self, ark: Ark) -> None:
        emit = Recorder()
        answer = Volcengine().submit(asked(ark, CHAT, stream=True, emit=emit))
        assert isinstance(answer, Completed)
        assert emit.text == answer.text == "aredkite"
        assert answer.usage["total_tokens"] == 7

    def test_a_soft_refusal(self, ark: Ark) -> None:
        ark.finish = "content_filter"
        for stream in (False, True):
            assert failure(asked(ark, CHAT, stream=stream)).kind == "content_refused"

    def test_an_error_inside_a_stream(self, ark: Ark) -> None:
        word = {"choices": [{"delta": {"content": "a"}}]}
        error = {"error": {"code": "ServerOverloaded", "message": "busy"}}
        ark.next("POST", CHAT_PATH, answered_stream(word, error))
        assert failure(asked(ark, CHAT, stream=True)).kind == "overloaded"

    def test_a_stream_that_breaks_off(self, ark: Ark) -> None:
        word = {"choices": [{"delta": {"content": "a"}}]}
        ark.next("POST", CHAT_PATH, answered_stream(word, done=False))
        assert failure(asked(ark, CHAT, stream=True)).code == "upstream_cut"


def answered_stream(*events: Any, done: bool = True) -> Fault:
    return Fault(handled=False, reply=sse(*events, done=done))


class TestProbing:
    def test_a_good_key(self, ark: Ark) -> None:
        executor = executor_at(Volcengine(), ark.base_url, credential=KEY)
        assert Volcengine().probe(executor) == Health("healthy", "ok")

    def test_a_wrong_key(self, ark: Ark) -> None:
        with pytest.raises(ProviderError) as caught:
            Volcengine().probe(executor_at(Volcengine(), ark.base_url, credential="ark-wrong-0123"))
        assert caught.value.kind == "bad_credentials"
        assert "ark-wrong-0123" not in str(caught.value.raw)


class TestCatalogue:
    @pytest.mark.parametrize(
        ("asked_for", "vendor"),
        [
            ("doubao-seedream", "doubao-seedream-3-0-t2i-250415"),
            ("doubao-seedream-3.0-t2i", "doubao-seedream-3-0-t2i-250415"),
            ("doubao-video-pro", "doubao-seedance-1-0-pro-250528"),
            ("doubao-pro-4k", "doubao-pro-4k"),
            ("doubao-something-new", "doubao*"),
            ("doubao-seedream-9-0", "doubao-seedream*"),
            ("seedance-1-5-pro-251215", "seedance*"),
            ("ep-20250101", "ep-*"),
        ],
    )
    def test_names(self, asked_for: str, vendor: str) -> None:
        declared = Volcengine().declared(asked_for)
        assert declared is not None
        assert declared.name == vendor

    def test_defaults_come_first(self) -> None:
        for task_type, model in (
            ("chat", CHAT),
            ("text-to-image", IMAGE),
            ("text-to-video", VIDEO),
        ):
            assert next(m.name for m in Volcengine.models if task_type in m.task_types) == model

    @pytest.mark.parametrize(
        ("model", "given"),
        [
            (IMAGE, {**KITE, "size": "4096x4096"}),
            (IMAGE, {**KITE, "size": "2K"}),
            (IMAGE, {**KITE, "n": 2}),
            (IMAGE, {**KITE, "seed": 2**31}),
            (IMAGE, {**KITE, "images": ["asset:1"]}),
            (IMAGE, {**KITE, "stepps": 3}),
            ("doubao-seedream-4-0-250828", {**KITE, "seed": 7}),
            ("doubao-seedream-4-0-250828", {**KITE, "size": "512x512"}),
            ("doubao-seedream-4-5-251128", {**KITE, "size": "1K"}),
            ("doubao-seedream-5-0-260128", {**KITE, "n": 10, "images": ["asset:1"] * 6}),
            ("doubao-seededit-3-0-i2i-250628", KITE),
            (VIDEO, {"duration": 5}),
            (VIDEO, {**KITE, "duration": 15}),
            (VIDEO, {**KITE, "aspect_ratio": "7:3"}),
        ],
    )
    def test_what_ark_would_refuse_is_refused_at_submit(
        self, model: str, given: dict[str, Any]
    ) -> None:
        with pytest.raises(ValidationError):
            schema(model).model_validate(given)

    def test_all_sizes_of_the_ai_service_are_taken(self) -> None:
        sizes = schema(IMAGE).model_json_schema()["properties"]["size"]["anyOf"][0]["examples"]
        assert len(sizes) == 8
        for size in sizes:
            schema(IMAGE).model_validate({**KITE, "size": size, "n": 1, "seed": -1})


def test_an_endpoint_serves_whatever_it_was_made_for(ark: Ark) -> None:
    answer = Volcengine().submit(asked(ark, "ep-20250101-chat", {**KITE, "top_k": 3}))
    assert isinstance(answer, Completed)
    assert ark.calls()[0].json["top_k"] == 3
