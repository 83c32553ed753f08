"""DashScope against an emulator that refuses what DashScope refuses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from genpulse.ids import new_id
from providers.adapters.dashscope import DashScope
from providers.base import (
    Absent,
    Accepted,
    Call,
    Completed,
    ErrorKind,
    Health,
    Params,
    ProviderError,
    Update,
)
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
from tests.emulators.dashscope import KEY, Bailian, dashscope, refused

__all__ = ["dashscope"]

AIGC = "/api/v1/services/aigc/"
DRAW_PATH = AIGC + "text2image/image-synthesis"
EDIT_PATH = AIGC + "image2image/image-synthesis"
FILM_PATH = AIGC + "video-generation/video-synthesis"
FRAMES_PATH = AIGC + "image2video/video-synthesis"
JOB_DIALOGUE_PATH = AIGC + "image-generation/generation"
DIALOGUE_PATH = AIGC + "multimodal-generation/generation"
SPEECH_PATH = "/api/v1/services/audio/tts/SpeechSynthesizer"
CHAT_PATH = "/compatible-mode/v1/chat/completions"
TASKS = "/api/v1/tasks/"

DRAW, FILM, DIALOGUE, CHAT, TTS = (
    "wan2.5-t2i-preview",
    "wan2.6-t2v",
    "qwen-image-max",
    "qwen-plus",
    "qwen-tts",
)
PATHS = {
    DRAW: DRAW_PATH,
    FILM: FILM_PATH,
    DIALOGUE: DIALOGUE_PATH,
    TTS: DIALOGUE_PATH,
    CHAT: CHAT_PATH,
}
TYPES = {DIALOGUE: "text-to-image"}
KITE = {"prompt": "a red kite"}
INSPECTED = {"code": "DataInspectionFailed", "message": "may contain inappropriate content"}


def asked(server: Bailian, model: str, given: dict[str, Any] | None = None, **more: Any) -> Call:
    more.setdefault("credential", KEY)
    if model in TYPES:
        more.setdefault("task_type", TYPES[model])
    return make_call(DashScope(), model, given or KITE, base_url=server.base_url, **more)


def with_images(server: Bailian, model: str, given: dict[str, Any], **more: Any) -> Call:
    names = given.get("images", ())
    inputs = {f"images.{index}": FakeInput(b"one") for index in range(len(names))}
    inputs |= {name: FakeInput(b"two") for name in ("mask", "audio") if name in given}
    return asked(server, model, given, inputs=inputs, **more)


def accepted(server: Bailian, *states: Any, model: str = DRAW, **more: Any) -> Call:
    """A job the vendor works on; `states` are what it will say, one look after the other."""
    if states:
        server.states.append(states)
    call = asked(server, model, **more)
    answer = DashScope().submit(call)
    assert isinstance(answer, Accepted)
    return replace(call, external_id=answer.external_id)


def look(*calls: Call) -> list[Update]:
    return list(DashScope().poll(calls))


def failure(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        DashScope().submit(call)
    return caught.value


def refusal(status: int, code: str, message: str = "") -> Fault:
    return answered(status, refused(status, code, message).body)


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


class TestRequests:
    @pytest.mark.parametrize(
        ("model", "given", "path", "inputs", "parameters"),
        [
            (
                DRAW,
                {"negative_prompt": "rain", "size": "1024x768", "n": 2, "seed": 7},
                DRAW_PATH,
                {"prompt": "a red kite", "negative_prompt": "rain"},
                {"size": "1024*768", "n": 2, "seed": 7},
            ),
            (
                DRAW,
                {"width": 800, "height": 600, "seed": -1, "prompt_extend": False},
                DRAW_PATH,
                {"prompt": "a red kite"},
                {"size": "800*600", "n": 1, "prompt_extend": False},
            ),
            (
                "qwen-image-plus",
                {"aspect_ratio": "16:9"},
                DRAW_PATH,
                {"prompt": "a red kite"},
                {"size": "1664*928", "n": 1},
            ),
            (
                "wan2.6-t2i",
                {"aspect_ratio": "1:1", "negative_prompt": "rain"},
                JOB_DIALOGUE_PATH,
                {"messages": [{"role": "user", "content": [{"text": "a red kite"}]}]},
                {"size": "1280*1280", "n": 1, "negative_prompt": "rain"},
            ),
            (
                DIALOGUE,
                {"size": "1328x1328", "watermark": True},
                DIALOGUE_PATH,
                {"messages": [{"role": "user", "content": [{"text": "a red kite"}]}]},
                {"size": "1328*1328", "n": 1, "watermark": True},
            ),
            (
                FILM,
                {"duration": 10, "aspect_ratio": "9:16", "shot_type": "multi"},
                FILM_PATH,
                {"prompt": "a red kite"},
                {"size": "720*1280", "duration": 10, "shot_type": "multi"},
            ),
            (FILM, {}, FILM_PATH, {"prompt": "a red kite"}, {"size": "1280*720", "duration": 5}),
        ],
    )
    def test_from_words(
        self,
        dashscope: Bailian,
        model: str,
        given: dict[str, Any],
        path: str,
        inputs: dict[str, Any],
        parameters: dict[str, Any],
    ) -> None:
        DashScope().submit(asked(dashscope, model, KITE | given))
        [request] = dashscope.calls("POST")
        assert request.path == path
        assert request.json == {
            "model": model,
            "input": inputs,
            "parameters": {"watermark": False} | parameters,
        }

    @pytest.mark.parametrize(
        ("model", "given", "path", "inputs"),
        [
            (
                "wan2.5-i2i-preview",
                {"images": ["a", "b"]},
                EDIT_PATH,
                {"prompt": "a red kite", "images": ["ONE", "ONE"]},
            ),
            (
                "wanx2.1-imageedit",
                {"images": ["a"]},
                EDIT_PATH,
                {"prompt": "a red kite", "function": "description_edit", "base_image_url": "ONE"},
            ),
            (
                "wanx2.1-imageedit",
                {"images": ["a"], "mask": "m"},
                EDIT_PATH,
                {
                    "prompt": "a red kite",
                    "function": "description_edit_with_mask",
                    "base_image_url": "ONE",
                    "mask_image_url": "TWO",
                },
            ),
            (
                "qwen-image-edit-plus",
                {"images": ["a"]},
                DIALOGUE_PATH,
                {
                    "messages": [
                        {"role": "user", "content": [{"image": "ONE"}, {"text": "a red kite"}]}
                    ]
                },
            ),
            (
                "wan2.6-i2v",
                {"images": ["a"], "audio": "s"},
                FILM_PATH,
                {
                    "prompt": "a red kite",
                    "img_url": "ONE",
                    "audio_url": "https://media.example/file.png",
                },
            ),
            (
                "wan2.7-i2v",
                {"images": ["a"]},
                FILM_PATH,
                {"prompt": "a red kite", "media": [{"type": "first_frame", "url": "ONE"}]},
            ),
            (
                "wan2.2-kf2v-flash",
                {"images": ["a", "b"]},
                FRAMES_PATH,
                {"prompt": "a red kite", "first_frame_url": "ONE", "last_frame_url": "ONE"},
            ),
        ],
    )
    def test_from_pictures(
        self,
        dashscope: Bailian,
        model: str,
        given: dict[str, Any],
        path: str,
        inputs: dict[str, Any],
    ) -> None:
        call = with_images(dashscope, model, KITE | given)
        answer = DashScope().submit(call)
        if isinstance(answer, Accepted):
            waiting = replace(call, external_id=answer.external_id)
            states = [look(waiting)[0].state for _ in range(3)]
            assert isinstance(states[2], Completed), "a wrong field fails late, not at once"
        [request] = dashscope.calls("POST")
        uris = {"ONE": "data:image/png;base64,b25l", "TWO": "data:image/png;base64,dHdv"}
        text = request.body.decode()
        for name, uri in uris.items():
            text = text.replace(uri, name)
        assert request.path == path
        assert replace(request, body=text.encode()).json["input"] == inputs

    def test_the_workspace_of_the_operator(self, dashscope: Bailian) -> None:
        DashScope().submit(asked(dashscope, DRAW, config={"workspace": "ws-7"}))
        headers = dashscope.calls("POST")[0].headers
        assert headers["X-DashScope-WorkSpace"] == "ws-7"
        assert headers["X-DashScope-Async"] == "enable"


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


class TestPolling:
    @pytest.mark.parametrize(
        "fault",
        [
            refusal(500, "InternalError"),
            refusal(429, "Throttling.RateQuota"),
            answered(503),
            drop_answer(),
            garbage(),
            answered(200, {"output": {"task_id": "of-somebody-else", "task_status": "FAILED"}}),
            answered(200, b'{"output": {"task_status": "SUCCEEDED"}, "usage": NaN}'),
            answered(200, {"request_id": "r-1"}),
        ],
    )
    def test_a_poll_that_fails_says_nothing_about_the_job(
        self, dashscope: Bailian, fault: Fault
    ) -> None:
        waiting = accepted(dashscope, "SUCCEEDED")
        dashscope.next("GET", TASKS + str(waiting.external_id), fault)
        with pytest.raises(ProviderError):
            look(waiting)
        assert isinstance(look(waiting)[0].state, Completed)
        assert dashscope.count("POST") == 1

    @pytest.mark.parametrize("state", ["SUSPENDED", "SOMETHING NEW"])
    def test_other_states_are_waited_out(self, dashscope: Bailian, state: str) -> None:
        assert look(accepted(dashscope, state))[0].state == "working"

    def test_many_jobs_are_looked_up_at_once(self, dashscope: Bailian) -> None:
        waiting = [accepted(dashscope, s) for s in ("PENDING", "RUNNING", "SUCCEEDED", INSPECTED)]
        updates = look(*waiting)
        assert [update.call for update in updates] == waiting
        assert [update.state for update in updates[:2]] == ["working", "working"]
        assert isinstance(updates[2].state, Completed)
        assert isinstance(updates[3].state, ProviderError)
        assert dashscope.count("GET") == 3, "one list, and the two that have ended"

    def test_one_job_that_cannot_be_read_does_not_hide_the_others(self, dashscope: Bailian) -> None:
        bad, good = accepted(dashscope, "SUCCEEDED"), accepted(dashscope, "SUCCEEDED")
        dashscope.next("GET", TASKS + str(bad.external_id), answered(500))
        assert [update.call for update in look(bad, good)] == [good]

    def test_a_job_that_nobody_knows_is_lost(self, dashscope: Bailian) -> None:
        gone, known = accepted(dashscope), accepted(dashscope)
        del dashscope.jobs[str(gone.external_id)]
        for updates in (look(gone), look(gone, known)):
            problem = updates[0].state
            assert isinstance(problem, ProviderError)
            assert (problem.kind, problem.code, problem.retries) == ("lost", "result_lost", 0)

    def test_a_job_that_the_list_still_knows_is_not_lost(self, dashscope: Bailian) -> None:
        waiting = accepted(dashscope)
        output = {"task_id": waiting.external_id, "task_status": "UNKNOWN"}
        dashscope.next("GET", TASKS + str(waiting.external_id), answered(200, {"output": output}))
        assert look(waiting) == []

    def test_a_list_that_cannot_be_read(self, dashscope: Bailian) -> None:
        waiting = [accepted(dashscope), accepted(dashscope)]
        dashscope.next("GET", TASKS, answered(200, {"data": "?"}))
        with pytest.raises(ProviderError):
            look(*waiting)

    def test_a_result_whose_link_has_died_gets_a_fresh_one(self, dashscope: Bailian) -> None:
        waiting = accepted(dashscope, "SUCCEEDED")
        first, second = (look(waiting)[0].state for _ in range(2))
        assert isinstance(first, Completed)
        assert isinstance(second, Completed)
        assert first.outputs[0].url != second.outputs[0].url
        dashscope.links_expired = True
        with pytest.raises(ProviderError):
            waiting.http.get(str(first.outputs[0].url))


class TestCanceling:
    @pytest.mark.parametrize(
        ("state", "outcome"),
        [
            ("PENDING", "canceled"),
            ("RUNNING", "too_late"),
            ("SUCCEEDED", "too_late"),
            ("CANCELED", "too_late"),
        ],
    )
    def test_only_what_waits(self, dashscope: Bailian, state: str, outcome: str) -> None:
        assert DashScope().cancel(accepted(dashscope, state)) == outcome

    def test_a_cancel_that_fails_is_no_answer(self, dashscope: Bailian) -> None:
        waiting = accepted(dashscope)
        dashscope.next("POST", f"{TASKS}{waiting.external_id}/cancel", answered(500))
        with pytest.raises(ProviderError):
            DashScope().cancel(waiting)


class TestFinding:
    """A job carries nothing of ours: only its prompt tells whose it is, and only when it has ended."""

    def lost(self, dashscope: Bailian, fault: Fault, *states: str, prompt: str = "mine") -> Call:
        dashscope.states.append(states or ("SUCCEEDED",))
        dashscope.next("POST", DRAW_PATH, fault)
        call = asked(dashscope, DRAW, {"prompt": prompt}, task_id=str(new_id()))
        assert failure(call).kind == "unknown_outcome"
        return call

    def test_it_arrived(self, dashscope: Bailian) -> None:
        call = self.lost(dashscope, drop_answer())
        accepted(dashscope, "SUCCEEDED")
        accepted(dashscope, INSPECTED, given={"prompt": "mine"})
        found = DashScope().find(call)
        assert isinstance(found, Accepted)
        assert found.external_id == next(iter(dashscope.jobs))

    def test_a_video(self, dashscope: Bailian) -> None:
        dashscope.states.append(("SUCCEEDED",))
        dashscope.next("POST", FILM_PATH, drop_answer())
        call = asked(dashscope, FILM, {"prompt": "mine"})
        failure(call)
        assert isinstance(DashScope().find(call), Accepted)

    def test_it_did_not(self, dashscope: Bailian) -> None:
        accepted(dashscope, model=FILM)
        call = self.lost(dashscope, drop_request())
        assert isinstance(DashScope().find(call), Absent), "no job of this model at all"

    @pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
    def test_a_job_that_works_does_not_tell_its_prompt(
        self, dashscope: Bailian, state: str
    ) -> None:
        assert DashScope().find(self.lost(dashscope, drop_answer(), state)) is None

    def test_two_of_the_same_prompt_cannot_be_told_apart(self, dashscope: Bailian) -> None:
        call = self.lost(dashscope, drop_answer())
        accepted(dashscope, "SUCCEEDED", given={"prompt": "mine"})
        assert DashScope().find(call) is None

    def test_too_many_to_read(self, dashscope: Bailian, monkeypatch: pytest.MonkeyPatch) -> None:
        call = self.lost(dashscope, drop_answer())
        for _ in range(4):
            accepted(dashscope, "SUCCEEDED")
        for name, value in (("LOOKS", 4), ("PAGES", 2), ("PAGE", 2)):
            monkeypatch.setattr(f"providers.adapters.dashscope.{name}", value)
            assert DashScope().find(call) is None

    def test_on_a_later_page(self, dashscope: Bailian, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("providers.adapters.dashscope.PAGE", 2)
        call = self.lost(dashscope, drop_answer())
        for _ in range(4):
            accepted(dashscope, "SUCCEEDED")
        assert isinstance(DashScope().find(call), Accepted)

    def test_jobs_older_than_the_task_are_not_looked_at(self, dashscope: Bailian) -> None:
        call = self.lost(dashscope, drop_answer())
        DashScope().find(call)
        DashScope().find(replace(call, task_id="no UUID"))
        young, old = (request.query["start_time"][0] for request in dashscope.calls("GET", TASKS))
        assert young > old

    @pytest.mark.parametrize("model", [DIALOGUE, TTS, CHAT])
    def test_what_is_no_job_cannot_be_found(self, dashscope: Bailian, model: str) -> None:
        assert DashScope().find(asked(dashscope, model)) is None
        assert dashscope.count() == 0


class TestProbing:
    def test_a_good_key(self, dashscope: Bailian) -> None:
        executor = executor_at(DashScope(), dashscope.base_url, credential=KEY)
        assert DashScope().probe(executor) == Health("healthy", "ok")

    def test_a_wrong_key(self, dashscope: Bailian) -> None:
        executor = executor_at(DashScope(), dashscope.base_url, credential="sk-wrong-0123456789")
        with pytest.raises(ProviderError) as caught:
            DashScope().probe(executor)
        assert caught.value.kind == "bad_credentials"


class TestCatalogue:
    @pytest.mark.parametrize(
        ("asked_for", "declared_as", "task_type"),
        [
            ("wan2.6-t2v", "wan2.6-t2v", "text-to-video"),
            ("wan2.6-t2v-plus", "wan2.6-t2v*", "text-to-video"),
            ("wanx2.1-t2i-turbo", "wanx2.1-t2i*", "text-to-image"),
            ("wan9-all", "wan*", "text-to-image"),
            ("qwen-image-edit-max", "qwen-image-edit*", "image-to-image"),
            ("qwen3-tts-flash", "qwen3-tts*", "text-to-audio"),
            ("qwen-plus", "qwen*", "chat"),
        ],
    )
    def test_names(self, asked_for: str, declared_as: str, task_type: str) -> None:
        declared = DashScope().declared(asked_for)
        assert declared is not None
        assert (declared.name, declared.task_types[0]) == (declared_as, task_type)

    @pytest.mark.parametrize(
        ("model", "given"),
        [
            (DRAW, {**KITE, "size": "1024*1024"}),
            (DRAW, {**KITE, "n": 5}),
            (DRAW, {**KITE, "images": ["asset:1"]}),
            ("qwen-image-plus", {**KITE, "n": 2}),
            ("wan2.5-i2i-preview", KITE),
            ("wan2.6-i2v", KITE),
            ("wan2.6-i2v", {"images": ["a", "b"]}),
            (FILM, {**KITE, "duration": 99}),
            ("wan9-all", {"n": 1}),
            ("cosyvoice-v3-flash", KITE),
            (TTS, {**KITE, "stepps": 1}),
        ],
    )
    def test_what_the_vendor_would_refuse_is_refused_at_submit(
        self, model: str, given: dict[str, Any]
    ) -> None:
        with pytest.raises(ValidationError):
            schema(model).model_validate(given)

    def test_the_defaults_of_the_ai_service_are_taken(self) -> None:
        schema(DRAW).model_validate({**KITE, "size": "1024x1024", "seed": -1, "n": 1})
        schema(FILM).model_validate({**KITE, "duration": 5, "seed": -1, "aspect_ratio": "16:9"})


def schema(model: str) -> type[Params]:
    declared = DashScope().declared(model)
    assert declared is not None
    assert declared.params is not None
    return declared.params
