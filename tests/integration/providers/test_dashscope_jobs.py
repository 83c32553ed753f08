"""DashScope: jobs are looked at, canceled, and found again."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from genpulse.ids import new_id
from providers.adapters.dashscope import DashScope
from providers.base import (
    Absent,
    Accepted,
    Call,
    Completed,
    ProviderError,
)
from tests.emulators.base import (
    Fault,
    answered,
    drop_answer,
    drop_request,
    garbage,
)
from tests.emulators.dashscope import Bailian, dashscope
from tests.integration.providers.dashscope_calls import (
    CHAT,
    DIALOGUE,
    DRAW,
    DRAW_PATH,
    FILM,
    FILM_PATH,
    INSPECTED,
    TASKS,
    TTS,
    accepted,
    asked,
    failure,
    look,
    refusal,
)

__all__ = ["dashscope"]


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

    @pytest.mark.parametrize("answer", [{}, {"data": []}, {"data": None, "total": 1}])
    def test_an_odd_list_proves_nothing(self, dashscope: Bailian, answer: dict[str, Any]) -> None:
        call = self.lost(dashscope, drop_request())
        dashscope.next("GET", TASKS, answered(200, answer))
        assert DashScope().find(call) is None

    def test_jobs_older_than_the_task_are_not_looked_at(self, dashscope: Bailian) -> None:
        call = self.lost(dashscope, drop_answer())
        DashScope().find(call)
        for unknown in ("no UUID", str(uuid4())):
            DashScope().find(replace(call, task_id=unknown))
        requests = dashscope.calls("GET", TASKS)
        young, *old = (request.query["start_time"][0] for request in requests)
        assert young > max(old)

    @pytest.mark.parametrize("model", [DIALOGUE, TTS, CHAT])
    def test_what_is_no_job_cannot_be_found(self, dashscope: Bailian, model: str) -> None:
        assert DashScope().find(asked(dashscope, model)) is None
        assert dashscope.count() == 0
