"""Volcengine against an Ark that refuses what Ark refuses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from genpulse.config import config
from providers.adapters.volcengine import Volcengine
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
    delayed,
    drop_answer,
    drop_request,
    garbage,
    silence,
    sse,
)
from tests.emulators.volcengine import KEY, Ark, ark, refused

__all__ = ["ark"]

CHAT_PATH = "/api/v3/chat/completions"
IMAGES_PATH = "/api/v3/images/generations"
JOBS_PATH = "/api/v3/contents/generations/tasks"
CHAT, IMAGE, VIDEO = (
    "doubao-pro-4k",
    "doubao-seedream-3-0-t2i-250415",
    "doubao-seedance-1-0-pro-250528",
)
PATHS = {CHAT: CHAT_PATH, IMAGE: IMAGES_PATH, VIDEO: JOBS_PATH}
KITE = {"prompt": "a red kite"}


def asked(server: Ark, model: str, given: dict[str, Any] | None = None, **more: Any) -> Call:
    more.setdefault("credential", KEY)
    return make_call(Volcengine(), model, given or KITE, base_url=server.base_url, **more)


def accepted(server: Ark, *states: Any, **more: Any) -> Call:
    """A video that Ark works on; `states` are what it will say, one look after the other."""
    if states:
        server.states.append(states)
    call = asked(server, VIDEO, **more)
    answer = Volcengine().submit(call)
    assert isinstance(answer, Accepted)
    return replace(call, external_id=answer.external_id)


def look(*calls: Call) -> list[Update]:
    return list(Volcengine().poll(calls))


def failure(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        Volcengine().submit(call)
    return caught.value


def refusal(status: int, code: str, message: str = "") -> Fault:
    return answered(status, refused(status, code, message).body)


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


class TestPictures:
    @pytest.mark.parametrize(
        ("model", "given", "sent"),
        [
            (IMAGE, {}, {"size": "1024x1024"}),
            (IMAGE, {"size": "864x1152", "seed": 7}, {"size": "864x1152", "seed": 7}),
            (IMAGE, {"width": 640, "height": 800, "seed": -1}, {"size": "640x800"}),
            (
                IMAGE,
                {"aspect_ratio": "21:9", "guidance": 4},
                {"size": "1512x648", "guidance_scale": 4},
            ),
            (
                IMAGE,
                {"negative_prompt": "rain"},
                {"prompt": "a red kite\nAvoid: rain", "size": "1024x1024"},
            ),
            ("doubao-seedream-4-0-250828", {"size": "4K", "n": 1}, {"size": "4K"}),
            ("doubao-seedream-4-0-250828", {}, {}),
            (
                "doubao-seedream-4-5-251128",
                {"n": 3, "aspect_ratio": "16:9", "watermark": True},
                {
                    "size": "2560x1440",
                    "watermark": True,
                    "sequential_image_generation": "auto",
                    "sequential_image_generation_options": {"max_images": 3},
                },
            ),
            ("doubao-seedream-5-0-260128", {"format": "png"}, {"output_format": "png"}),
        ],
    )
    def test_what_goes_out(
        self, ark: Ark, model: str, given: dict[str, Any], sent: dict[str, Any]
    ) -> None:
        answer = Volcengine().submit(asked(ark, model, KITE | given))
        assert isinstance(answer, Completed)
        assert len(answer.outputs) == given.get("n", 1)
        usual = {**KITE, "model": model, "response_format": "url", "watermark": False}
        assert ark.calls()[0].json == usual | sent

    def test_what_comes_back(self, ark: Ark) -> None:
        answer = Volcengine().submit(asked(ark, IMAGE, {**KITE, "size": "864x1152"}))
        assert isinstance(answer, Completed)
        assert answer.usage == {"images": 1, "total_tokens": 16384}
        [picture] = answer.outputs
        assert picture.kind == "image"
        assert str(picture.url).startswith(f"{ark.url}/files/")
        assert "X-Tos-Signature=" in str(picture.url), "the query is part of the link"
        assert picture.meta == {"width": 864, "height": 1152}

    def test_pictures_go_in_as_data(self, ark: Ark) -> None:
        one, two = FakeInput(b"one"), FakeInput(b"two", content_type="image/jpeg")
        for model, files in (
            ("doubao-seededit-3-0-i2i-250628", [one]),
            ("doubao-seedream-4-0-250828", [one, two]),
        ):
            given = {**KITE, "images": ["asset:1", "asset:2"][: len(files)]}
            inputs = {f"images.{index}": file for index, file in enumerate(files)}
            Volcengine().submit(asked(ark, model, given, inputs=inputs, task_type="image-to-image"))
        edit, mix = (request.json["image"] for request in ark.calls())
        assert edit == "data:image/png;base64,b25l"
        assert mix == ["data:image/png;base64,b25l", "data:image/jpeg;base64,dHdv"]

    def test_of_several_pictures_the_good_ones_count(self, ark: Ark) -> None:
        bad = {"error": {"code": "OutputImageSensitiveContentDetected", "message": "no"}}
        ark.items = [{"b64_json": "aGk="}, bad]
        answer = Volcengine().submit(asked(ark, IMAGE))
        assert isinstance(answer, Completed)
        assert [picture.data for picture in answer.outputs] == [b"hi"]
        assert answer.usage["images"] == 1

        ark.items = [bad, bad]
        assert failure(asked(ark, IMAGE)).refusal == "no"
        ark.items = [{"error": {"code": "Whatever"}}]
        unknown = failure(asked(ark, IMAGE))
        assert (unknown.kind, unknown.retries) == ("transient", 0)

    @pytest.mark.parametrize("garbled", [-1, "many", True, None, 10**30])
    def test_a_garbled_count_is_not_believed(self, ark: Ark, garbled: Any) -> None:
        ark.usage = {"generated_images": garbled, "total_tokens": "x"}
        answer = Volcengine().submit(asked(ark, IMAGE))
        assert isinstance(answer, Completed)
        assert answer.usage == {"images": 1}


class TestVideoJobs:
    def test_from_text_to_video(self, ark: Ark) -> None:
        given = {
            **KITE,
            "duration": 10,
            "aspect_ratio": "9:16",
            "resolution": "720p",
            "return_last_frame": True,
        }
        waiting = accepted(ark, given=given)
        states = [look(waiting)[0] for _ in range(3)]
        assert [update.state for update in states[:2]] == ["working", "working"]
        assert [update.phase for update in states[:2]] == [
            "waiting at the provider",
            "in the making",
        ]
        done = states[2].state
        assert isinstance(done, Completed)
        assert [output.kind for output in done.outputs] == ["video", "image"]
        assert done.usage == {"seconds": 10, "completion_tokens": 108900, "total_tokens": 108900}
        sent = ark.calls("POST")[0].json
        assert done.outputs[0].meta == {"seed": sent["seed"], "duration_seconds": 10}
        assert sent == {
            "model": VIDEO,
            "content": [{"type": "text", "text": "a red kite"}],
            "resolution": "720p",
            "ratio": "9:16",
            "duration": 10,
            "return_last_frame": True,
            "watermark": False,
            "seed": sent["seed"],
            "safety_identifier": sent["safety_identifier"],
        }

    def test_every_attempt_carries_a_mark_of_its_own(self, ark: Ark) -> None:
        for attempt in (1, 2, 2):
            Volcengine().submit(asked(ark, VIDEO, attempt=attempt))
        Volcengine().submit(asked(ark, VIDEO, {**KITE, "seed": 7}))
        marks = [(r.json["safety_identifier"], r.json["seed"]) for r in ark.calls("POST")]
        assert marks[0] != marks[1] == marks[2]
        assert marks[3][1] == 7
        assert all(len(mark) == 32 and 0 <= seed < 2**32 for mark, seed in marks)

    @pytest.mark.parametrize(
        ("model", "given", "roles"),
        [
            (VIDEO, {"images": ["1"]}, ["first_frame"]),
            (VIDEO, {"images": ["1", "2"]}, ["first_frame", "last_frame"]),
            (
                "doubao-seedance-2-0-260128",
                {"images": ["1", "2", "3"], "video": "v", "audio": "a"},
                ["reference_image"] * 3 + ["reference_video", "reference_audio"],
            ),
            (
                "doubao-seedance-2-0-260128",
                {"images": ["1"], "image_role": "reference"},
                ["reference_image"],
            ),
        ],
    )
    def test_media_go_in(
        self, ark: Ark, model: str, given: dict[str, Any], roles: list[str]
    ) -> None:
        inputs = {f"images.{index}": FakeInput() for index in range(len(given["images"]))}
        inputs |= {name: FakeInput() for name in ("video", "audio") if name in given}
        Volcengine().submit(asked(ark, model, given, inputs=inputs, task_type="image-to-video"))
        content = ark.calls()[0].json["content"]
        assert [part["role"] for part in content] == roles
        assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")

    @pytest.mark.parametrize(
        ("state", "kind", "code", "retries"),
        [
            ({"code": "OutputVideoSensitiveContentDetected"}, "content_refused", None, None),
            ({"code": "InternalServiceError"}, "transient", None, None),
            ({"code": "InvalidParameter.image"}, "bad_input", None, None),
            ({"code": "AccountOverdueError"}, "quota_exhausted", None, None),
            ({"code": "SomethingNew"}, "transient", None, 0),
            ({}, "transient", None, 0),
            ("expired", "overloaded", None, 0),
            ("cancelled", "lost", None, None),
        ],
    )
    def test_a_job_that_ends_badly(
        self, ark: Ark, state: Any, kind: ErrorKind, code: str | None, retries: int | None
    ) -> None:
        [update] = look(accepted(ark, state))
        problem = update.state
        assert isinstance(problem, ProviderError)
        assert (problem.kind, problem.code, problem.retries) == (kind, code or kind, retries)

    def test_a_video_without_a_video(self, ark: Ark) -> None:
        waiting = accepted(ark)
        path = f"{JOBS_PATH}/{waiting.external_id}"
        ark.next("GET", path, answered(200, {"id": waiting.external_id, "status": "succeeded"}))
        [update] = look(waiting)
        assert isinstance(update.state, ProviderError)
        assert (update.state.code, update.state.retries) == ("no_output", 1)

    def test_a_new_word_for_a_state_is_waited_out(self, ark: Ark) -> None:
        assert look(accepted(ark, "paused"))[0].state == "working"

    @pytest.mark.parametrize(
        "fault",
        [
            refusal(500, "InternalServiceError"),
            refusal(429, "RateLimitExceeded"),
            answered(502),
            drop_answer(),
            garbage(),
            answered(200, {"id": "cgt-of-somebody-else", "status": "failed", "error": {}}),
            answered(200, b'{"id": "x", "usage": {"completion_tokens": NaN}}'),
        ],
    )
    def test_a_poll_that_fails_says_nothing_about_the_job(self, ark: Ark, fault: Fault) -> None:
        waiting = accepted(ark, "succeeded")
        ark.next("GET", f"{JOBS_PATH}/{waiting.external_id}", fault)
        with pytest.raises(ProviderError):
            look(waiting)
        assert isinstance(look(waiting)[0].state, Completed)
        assert ark.count("POST") == 1

    def test_many_jobs_are_looked_up_at_once(self, ark: Ark) -> None:
        waiting = [accepted(ark, state) for state in ("queued", "succeeded", "expired")]
        updates = look(*waiting)
        assert [update.call for update in updates] == waiting
        assert updates[0].state == "working"
        assert isinstance(updates[1].state, Completed)
        assert isinstance(updates[2].state, ProviderError)
        assert ark.count("GET") == 1

    def test_many_jobs_behind_a_gateway_without_a_list(self, ark: Ark) -> None:
        waiting = [accepted(ark, "succeeded") for _ in range(3)]
        ark.next("GET", JOBS_PATH, answered(404))
        assert [isinstance(update.state, Completed) for update in look(*waiting)] == [True] * 3

    def test_one_job_that_cannot_be_read_does_not_hide_the_others(self, ark: Ark) -> None:
        good, bad = accepted(ark, "succeeded"), accepted(ark, "succeeded")
        ark.next("GET", JOBS_PATH, answered(404))
        ark.next("GET", f"{JOBS_PATH}/{bad.external_id}", answered(500))
        assert [update.call for update in look(bad, good)] == [good]

    def test_a_job_that_nobody_knows_is_lost(self, ark: Ark) -> None:
        gone, known = accepted(ark), accepted(ark)
        del ark.jobs[str(gone.external_id)]
        for updates in (look(gone), look(gone, known)):
            problem = updates[0].state
            assert isinstance(problem, ProviderError)
            assert (problem.kind, problem.code, problem.retries) == ("lost", "result_lost", 0)

    def test_a_job_is_not_lost_because_its_own_address_fails(self, ark: Ark) -> None:
        waiting = accepted(ark, "running")
        ark.next("GET", f"{JOBS_PATH}/{waiting.external_id}", answered(404))
        assert look(waiting)[0].state == "working"

    def test_a_revoked_permission_loses_nothing(self, ark: Ark) -> None:
        waiting = accepted(ark)
        denied = refusal(403, "AccessDenied")
        ark.next("GET", f"{JOBS_PATH}/{waiting.external_id}", denied)
        with pytest.raises(ProviderError):
            look(waiting)

    def test_a_result_whose_link_has_died_gets_a_fresh_one(self, ark: Ark) -> None:
        waiting = accepted(ark, "succeeded")
        first, second = (look(waiting)[0].state for _ in range(2))
        assert isinstance(first, Completed)
        assert isinstance(second, Completed)
        assert first.outputs[0].url != second.outputs[0].url


class TestCanceling:
    @pytest.mark.parametrize(
        ("state", "outcome", "deletes"),
        [
            ("queued", "canceled", 1),
            ("running", "too_late", 0),
            ("succeeded", "too_late", 0),
            ("expired", "too_late", 0),
            ("cancelled", "canceled", 0),
        ],
    )
    def test_only_what_waits_is_deleted(
        self, ark: Ark, state: str, outcome: str, deletes: int
    ) -> None:
        waiting = accepted(ark, state)
        assert Volcengine().cancel(waiting) == outcome
        assert ark.count("DELETE") == deletes
        assert waiting.external_id in ark.jobs, "the record of a finished job is never erased"

    def test_a_job_that_begins_meanwhile(self, ark: Ark) -> None:
        waiting = accepted(ark, "queued")
        path = f"{JOBS_PATH}/{waiting.external_id}"
        ark.next("DELETE", path, refusal(409, "TaskRunningCannotCancel"))
        assert Volcengine().cancel(waiting) == "too_late"

    def test_a_job_that_is_gone(self, ark: Ark) -> None:
        waiting = accepted(ark)
        del ark.jobs[str(waiting.external_id)]
        assert Volcengine().cancel(waiting) == "too_late"

    def test_a_cancel_that_fails_is_no_answer(self, ark: Ark) -> None:
        waiting = accepted(ark, "queued")
        ark.next("DELETE", f"{JOBS_PATH}/{waiting.external_id}", answered(500))
        with pytest.raises(ProviderError):
            Volcengine().cancel(waiting)


class TestFinding:
    """A create whose answer was lost is found by its mark, and never made twice."""

    def lost(self, ark: Ark, fault: Fault, **more: Any) -> Call:
        ark.next("POST", JOBS_PATH, fault)
        call = asked(ark, VIDEO, **more)
        assert failure(call).kind == "unknown_outcome"
        return call

    def test_it_arrived(self, ark: Ark) -> None:
        call = self.lost(ark, drop_answer())
        for attempt in (2, 3):
            accepted(ark, attempt=attempt)
        found = Volcengine().find(call)
        assert isinstance(found, Accepted)
        assert found.external_id == next(iter(ark.jobs))

    def test_it_did_not(self, ark: Ark) -> None:
        call = self.lost(ark, drop_request())
        accepted(ark, attempt=2)
        assert isinstance(Volcengine().find(call), Absent)

    def test_an_earlier_attempt_is_not_taken_for_this_one(self, ark: Ark) -> None:
        accepted(ark, {"code": "InternalServiceError"}, attempt=1)
        call = self.lost(ark, drop_request(), attempt=2)
        assert isinstance(Volcengine().find(call), Absent)

    def test_marks_that_are_not_given_back(self, ark: Ark) -> None:
        call = self.lost(ark, drop_answer())
        ark.echoes = False
        assert Volcengine().find(call) is None, "one of the unmarked jobs may be ours"

    def test_by_the_seed_alone(self, ark: Ark, monkeypatch: pytest.MonkeyPatch) -> None:
        call = self.lost(ark, drop_answer())
        job = next(iter(ark.jobs.values()))
        del job.body["safety_identifier"]
        found = Volcengine().find(call)
        assert isinstance(found, Accepted)
        assert found.external_id == job.id

    def test_a_seed_of_the_caller_proves_nothing(self, ark: Ark) -> None:
        call = self.lost(ark, drop_answer(), given={**KITE, "seed": 7})
        del next(iter(ark.jobs.values())).body["safety_identifier"]
        assert Volcengine().find(call) is None
        other = asked(ark, VIDEO, {**KITE, "seed": 8})
        assert isinstance(Volcengine().find(other), Absent)

    def test_on_a_later_page(self, ark: Ark, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("providers.adapters.volcengine.PAGE", 2)
        call = self.lost(ark, drop_answer(), attempt=9)
        for attempt in range(1, 5):
            accepted(ark, attempt=attempt)
        assert isinstance(Volcengine().find(call), Accepted)
        monkeypatch.setattr("providers.adapters.volcengine.PAGES", 2)
        assert Volcengine().find(call) is None, "not all of them were read"

    def test_a_lookup_that_fails(self, ark: Ark) -> None:
        call = self.lost(ark, drop_answer())
        ark.next("GET", JOBS_PATH, answered(500), answered(200, {"items": "?"}))
        for _ in range(2):
            with pytest.raises(ProviderError):
                Volcengine().find(call)

    def test_pictures_cannot_be_found(self, ark: Ark) -> None:
        assert Volcengine().find(asked(ark, IMAGE)) is None


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


def schema(model: str) -> type[Params]:
    declared = Volcengine().declared(model)
    assert declared is not None
    assert declared.params is not None
    return declared.params


def test_an_endpoint_serves_whatever_it_was_made_for(ark: Ark) -> None:
    answer = Volcengine().submit(asked(ark, "ep-20250101-chat", {**KITE, "top_k": 3}))
    assert isinstance(answer, Completed)
    assert ark.calls()[0].json["top_k"] == 3


def test_links_die_after_their_time(ark: Ark) -> None:
    answer = Volcengine().submit(asked(ark, IMAGE))
    assert isinstance(answer, Completed)
    executor = executor_at(Volcengine(), ark.url, credential=None)
    address = str(answer.outputs[0].url)
    assert executor.http.get(address).content.startswith(b"the file")
    ark.links_expired = True
    with pytest.raises(ProviderError):
        executor.http.get(address)
