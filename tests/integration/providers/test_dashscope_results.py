"""DashScope: what comes back."""

from typing import Any

import pytest

from providers.adapters.dashscope import DashScope
from providers.base import (
    Completed,
    ErrorKind,
    ProviderError,
)
from providers.testing import Recorder
from tests.emulators.base import (
    answered,
)
from tests.emulators.dashscope import Bailian, dashscope
from tests.integration.providers.dashscope_calls import (
    CHAT,
    CHAT_PATH,
    DIALOGUE,
    DIALOGUE_PATH,
    FILM,
    INSPECTED,
    KITE,
    SPEECH_PATH,
    TASKS,
    TTS,
    accepted,
    asked,
    failure,
    look,
)

__all__ = ["dashscope"]


class TestResults:
    def test_a_picture(self, dashscope: Bailian) -> None:
        waiting = accepted(dashscope, given={**KITE, "n": 2})
        updates = [look(waiting)[0] for _ in range(3)]
        assert [update.state for update in updates[:2]] == ["working", "working"]
        assert [u.phase for u in updates[:2]] == ["waiting at the provider", "in the making"]
        done = updates[2].state
        assert isinstance(done, Completed)
        assert [output.kind for output in done.outputs] == ["image", "image"]
        assert "Signature=ab%2Bc" in str(done.outputs[0].url), "the query is part of the link"
        assert done.usage == {"images": 2}

    def test_a_video(self, dashscope: Bailian) -> None:
        given = {**KITE, "duration": 10}
        [update] = look(accepted(dashscope, "SUCCEEDED", model=FILM, given=given))
        assert isinstance(update.state, Completed)
        assert [output.kind for output in update.state.outputs] == ["video"]
        assert update.state.usage == {"seconds": 10}

    def test_a_dialogue_that_is_a_job(self, dashscope: Bailian) -> None:
        [update] = look(
            accepted(dashscope, "SUCCEEDED", model="wan2.6-t2i", given={**KITE, "n": 3})
        )
        assert isinstance(update.state, Completed)
        assert len(update.state.outputs) == 3

    def test_a_dialogue(self, dashscope: Bailian) -> None:
        answer = DashScope().submit(asked(dashscope, DIALOGUE))
        assert isinstance(answer, Completed)
        assert [output.kind for output in answer.outputs] == ["image"]
        assert answer.usage == {"images": 1}

    @pytest.mark.parametrize(
        ("model", "given", "path", "inputs"),
        [
            (
                TTS,
                {"language": "English"},
                DIALOGUE_PATH,
                {"voice": "Cherry", "language_type": "English"},
            ),
            (
                "cosyvoice-v3-flash",
                {"voice": "longanyang", "speed": 1.5},
                SPEECH_PATH,
                {"voice": "longanyang", "format": "mp3", "sample_rate": 24000, "rate": 1.5},
            ),
        ],
    )
    def test_speech(
        self,
        dashscope: Bailian,
        model: str,
        given: dict[str, Any],
        path: str,
        inputs: dict[str, Any],
    ) -> None:
        answer = DashScope().submit(asked(dashscope, model, KITE | given))
        assert isinstance(answer, Completed)
        assert [output.kind for output in answer.outputs] == ["audio"]
        assert answer.usage == {"characters": 10}
        [request] = dashscope.calls("POST", path)
        assert request.json == {"model": model, "input": {"text": "a red kite"} | inputs}

    def test_speech_as_bytes(self, dashscope: Bailian) -> None:
        body = {"output": {"audio": {"data": "aGk=", "url": ""}}, "usage": {"characters": -1}}
        dashscope.next("POST", DIALOGUE_PATH, answered(200, body))
        answer = DashScope().submit(asked(dashscope, TTS))
        assert isinstance(answer, Completed)
        assert answer.outputs[0].data == b"hi"
        assert answer.usage == {}

    def test_chat(self, dashscope: Bailian) -> None:
        emit = Recorder()
        given = {**KITE, "enable_thinking": True, "system": "Be brief."}
        answer = DashScope().submit(asked(dashscope, CHAT, given, stream=True, emit=emit))
        assert isinstance(answer, Completed)
        assert emit.text == answer.text == "aredkite"
        assert answer.usage == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        sent = dashscope.calls("POST", CHAT_PATH)[0].json
        assert sent["enable_thinking"] is True
        assert [message["role"] for message in sent["messages"]] == ["system", "user"]
        problem = failure(asked(dashscope, CHAT, given))
        assert problem.kind == "bad_input", "it thinks in streams only"

    def test_of_several_pictures_the_good_ones_count(self, dashscope: Bailian) -> None:
        dashscope.failed_items = [INSPECTED]
        [update] = look(accepted(dashscope, "SUCCEEDED", given={**KITE, "n": 2}))
        assert isinstance(update.state, Completed)
        assert len(update.state.outputs) == 1
        assert update.state.usage == {"images": 1}

        [update] = look(accepted(dashscope, "SUCCEEDED", given={**KITE, "n": 1}))
        assert isinstance(update.state, ProviderError)
        assert update.state.refusal == INSPECTED["message"]

    @pytest.mark.parametrize(
        ("state", "kind", "code", "retries"),
        [
            (INSPECTED, "content_refused", None, None),
            ({"code": "InvalidParameter", "message": "size"}, "bad_input", None, None),
            ({"code": "InternalError.Timeout"}, "transient", None, None),
            ({"code": "InvalidURL"}, "transient", None, 1),
            ({"code": "ServiceUnavailable"}, "overloaded", None, None),
            ({"code": "SomethingNew"}, "transient", None, 0),
            ({}, "transient", None, 0),
            ("CANCELED", "lost", None, None),
        ],
    )
    def test_a_job_that_ends_badly(
        self,
        dashscope: Bailian,
        state: Any,
        kind: ErrorKind,
        code: str | None,
        retries: int | None,
    ) -> None:
        [update] = look(accepted(dashscope, state))
        problem = update.state
        assert isinstance(problem, ProviderError)
        assert (problem.kind, problem.code, problem.retries) == (kind, code or kind, retries)

    def test_a_success_without_a_result(self, dashscope: Bailian) -> None:
        waiting = accepted(dashscope)
        output = {"task_id": waiting.external_id, "task_status": "SUCCEEDED"}
        dashscope.next("GET", TASKS + str(waiting.external_id), answered(200, {"output": output}))
        [update] = look(waiting)
        assert isinstance(update.state, ProviderError)
        assert (update.state.code, update.state.retries) == ("no_output", 1)

    @pytest.mark.parametrize("garbled", [-1, "many", True, None, 10**30])
    def test_a_garbled_count_is_not_believed(self, dashscope: Bailian, garbled: Any) -> None:
        dashscope.usage = {"image_count": garbled}
        [update] = look(accepted(dashscope, "SUCCEEDED"))
        assert isinstance(update.state, Completed)
        assert update.state.usage == {"images": 1}
