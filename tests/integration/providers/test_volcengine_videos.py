"""Volcengine: videos are jobs that are created, looked at, canceled, and found again."""

from typing import Any

import pytest

from providers.adapters.volcengine import Volcengine
from providers.base import (
    Absent,
    Accepted,
    Call,
    Completed,
    ErrorKind,
    ProviderError,
)
from providers.testing import FakeInput
from tests.emulators.base import (
    Fault,
    answered,
    drop_answer,
    drop_request,
    garbage,
)
from tests.emulators.volcengine import Ark, ark
from tests.integration.providers.volcengine_calls import (
    IMAGE,
    JOBS_PATH,
    KITE,
    VIDEO,
    accepted,
    asked,
    failure,
    look,
    refusal,
)

__all__ = ["ark"]


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
        traces = [request.headers["X-Client-Request-Id"] for request in ark.calls("POST")]
        assert traces[0] != traces[1] == traces[2]

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

    def test_a_list_that_cannot_be_read_is_not_taken_for_an_empty_one(self, ark: Ark) -> None:
        waiting = [accepted(ark, "succeeded") for _ in range(2)]
        ark.next("GET", JOBS_PATH, answered(500))
        with pytest.raises(ProviderError):
            look(*waiting)

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

    @pytest.mark.parametrize(
        "answer",
        [{}, {"items": []}, {"items": None, "total": 1}, {"items": [], "total": "0"}],
    )
    def test_an_odd_list_proves_nothing(self, ark: Ark, answer: dict[str, Any]) -> None:
        call = self.lost(ark, drop_request())
        ark.next("GET", JOBS_PATH, answered(200, answer))
        assert Volcengine().find(call) is None

    def test_pages_may_be_shorter_than_asked_for(self, ark: Ark) -> None:
        call = self.lost(ark, drop_answer(), attempt=9)
        accepted(ark)
        newest, oldest = (ark.calls("POST")[n].json["safety_identifier"] for n in (1, 0))
        pages = [
            {"items": [{"id": f"cgt-{mark}", "safety_identifier": mark}], "total": 2}
            for mark in (newest, oldest)
        ]
        ark.next("GET", JOBS_PATH, *(answered(200, page) for page in pages))
        found = Volcengine().find(call)
        assert isinstance(found, Accepted)
        assert found.external_id == f"cgt-{oldest}"

    def test_pictures_cannot_be_found(self, ark: Ark) -> None:
        assert Volcengine().find(asked(ark, IMAGE)) is None
