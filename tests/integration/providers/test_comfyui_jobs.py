"""Jobs at a ComfyUI server: waiting, restarts, lost answers, cancelling, what the server has."""

from dataclasses import replace
from typing import Any

import pytest

from providers.base import Absent, Accepted, Call, Completed, ProviderError, Update
from providers.testing import executor_at
from tests.emulators.base import answered, as_fixture, drop_answer, drop_request, garbage
from tests.emulators.comfyui import ComfyUI
from tests.integration.providers.comfy_calls import (
    ADAPTER,
    DIFFUSION,
    accepted,
    call_at,
    done,
    outcome,
    problem_of,
    refusal,
    state_of,
)

comfy = as_fixture(ComfyUI)


class NewBuild(ComfyUI):
    def __init__(self) -> None:
        super().__init__(new=True)


class OldBuild(ComfyUI):
    def __init__(self) -> None:
        super().__init__(own_ids=True)


new_build = as_fixture(NewBuild)
old_build = as_fixture(OldBuild)


def test_a_job_that_waits_then_runs_then_is_done(comfy: ComfyUI) -> None:
    comfy.hold()
    first, second = (accepted(call_at(comfy, named={"color": n})) for n in (1, 2))
    comfy.wait(lambda: comfy.engine.running is not None)
    before = comfy.count("GET", "/queue")
    updates: list[Update] = list(ADAPTER.poll([first, second]))
    assert [(update.state, update.phase) for update in updates] == [
        ("working", "running"),
        ("working", "waiting at the server"),
    ]
    assert comfy.count("GET", "/queue") == before + 1
    comfy.let_go()
    assert all(isinstance(outcome(comfy, call), Completed) for call in (first, second))


def test_a_job_that_ends_between_two_looks_is_not_lost(comfy: ComfyUI) -> None:
    comfy.hold()
    call = accepted(call_at(comfy))
    comfy.wait(lambda: comfy.engine.running is not None)

    def ends() -> None:
        comfy.let_go()
        comfy.wait(lambda: comfy.engine.history)

    comfy.meanwhile = [None, ends]
    assert state_of(call) == "working"
    assert isinstance(outcome(comfy, call), Completed)


def test_a_restarted_server_has_lost_its_jobs(comfy: ComfyUI) -> None:
    comfy.hold()
    running, waiting = (accepted(call_at(comfy, named={"color": n})) for n in (1, 2))
    comfy.wait(lambda: comfy.engine.running is not None)
    comfy.restart()
    comfy.let_go()
    assert [update.state.kind for update in ADAPTER.poll([running, waiting])] == ["lost", "lost"]  # type: ignore[union-attr]
    assert done(comfy, replace(running, attempt=2)).outputs


def test_one_unreadable_history_does_not_hide_the_others(comfy: ComfyUI) -> None:
    calls = [accepted(call_at(comfy, named={"color": n})) for n in range(3)]
    comfy.wait(lambda: len(comfy.engine.history) == 3)
    comfy.next("GET", f"/history/{calls[1].external_id}", garbage())
    polling = iter(ADAPTER.poll(calls))
    assert [next(polling).call, next(polling).call] == [calls[0], calls[2]]
    with pytest.raises(ProviderError):
        next(polling)


def test_a_server_that_cannot_be_asked_only_delays_the_poll(comfy: ComfyUI) -> None:
    call = accepted(call_at(comfy))
    comfy.next("GET", "/queue", drop_answer())
    with pytest.raises(ProviderError) as caught:
        list(ADAPTER.poll([call]))
    assert caught.value.kind == "transient"
    assert isinstance(outcome(comfy, call), Completed)


def test_a_proxy_that_hides_the_queue(comfy: ComfyUI) -> None:
    comfy.hidden = {"/queue"}
    comfy.hold()
    call = accepted(call_at(comfy))
    assert state_of(call) == "working"
    assert ADAPTER.cancel(call) == "unsupported"
    assert ADAPTER.find(replace(call, attempt=2)) is None
    comfy.let_go()
    comfy.hidden = set()
    comfy.next("GET", "/queue", answered(200, {}))
    assert isinstance(outcome(comfy, call), Completed)
    assert ADAPTER.find(call) == Accepted(call.external_id or "")


def test_a_lost_answer_is_looked_up_and_never_sent_again(comfy: ComfyUI) -> None:
    comfy.hold()
    comfy.next("POST", "/prompt", drop_answer())
    call = call_at(comfy)
    assert refusal(call).kind == "unknown_outcome"
    found = ADAPTER.find(call)
    assert isinstance(found, Accepted)
    comfy.let_go()
    adopted = replace(call, external_id=found.external_id)
    assert isinstance(outcome(comfy, adopted), Completed)
    assert ADAPTER.find(call) == found
    assert comfy.count("POST", "/prompt") == 1


def test_a_lost_request_is_known_to_be_absent(comfy: ComfyUI) -> None:
    comfy.next("POST", "/prompt", drop_request())
    call = call_at(comfy)
    assert refusal(call).kind == "unknown_outcome"
    assert ADAPTER.find(call) == Absent()
    assert done(comfy, call).outputs


def test_a_restart_after_a_lost_answer_leaves_nothing(comfy: ComfyUI) -> None:
    comfy.hold()
    comfy.next("POST", "/prompt", drop_answer())
    call = call_at(comfy)
    refusal(call)
    comfy.restart()
    assert ADAPTER.find(call) == Absent()


@pytest.mark.parametrize("wait", [False, True])
def test_an_old_build_that_chooses_ids_itself(old_build: ComfyUI, wait: bool) -> None:
    old_build.hold()
    old_build.next("POST", "/prompt", drop_answer())
    call = call_at(old_build)
    refusal(call)
    if wait:
        old_build.let_go()
        old_build.wait(lambda: old_build.engine.history)
    found = ADAPTER.find(call)
    assert isinstance(found, Accepted)
    assert found.external_id != old_build.submitted()[0]["prompt_id"]
    old_build.let_go()
    assert isinstance(outcome(old_build, replace(call, external_id=found.external_id)), Completed)


@pytest.mark.parametrize("body", [{}, {"prompt_id": None}, {"prompt_id": "../x"}, [], "<html>"])
def test_an_unreadable_acceptance_is_an_unknown_outcome(comfy: ComfyUI, body: Any) -> None:
    comfy.next("POST", "/prompt", answered(200, body))
    assert refusal(call_at(comfy)).kind == "unknown_outcome"


def three(server: ComfyUI) -> list[Call]:
    """Held: the first runs, two wait."""
    server.hold()
    calls = [accepted(call_at(server, named={"color": n})) for n in range(3)]
    server.wait(lambda: server.engine.running is not None)
    return calls


@pytest.mark.parametrize("build", ["comfy", "new_build", "old_build"])
def test_a_cancel_hits_its_own_job_only(build: str, request: pytest.FixtureRequest) -> None:
    server: ComfyUI = request.getfixturevalue(build)
    first, second, third = three(server)
    assert ADAPTER.cancel(second) == "canceled"
    assert server.engine.interruptions == []
    assert ADAPTER.cancel(first) == "canceled"
    assert server.engine.interruptions == [first.external_id]
    server.let_go()
    assert isinstance(outcome(server, third), Completed)
    assert ADAPTER.cancel(third) == "too_late"
    assert ADAPTER.cancel(first) == "too_late"
    assert server.engine.interruptions == [first.external_id]
    interrupted = problem_of(server, first)
    assert (interrupted.kind, interrupted.code) == ("transient", "transient")


def test_a_job_that_starts_while_it_is_canceled(comfy: ComfyUI) -> None:
    first, second, _ = three(comfy)
    original = comfy.engine.delete

    def starts_meanwhile(prompt_ids: set[str]) -> bool:
        assert comfy.engine.running is not None
        comfy.engine.running.interrupted = True
        comfy.wait(lambda: getattr(comfy.engine.running, "prompt_id", "") == second.external_id)
        return original(prompt_ids)

    comfy.engine.delete = starts_meanwhile  # type: ignore[method-assign]
    assert ADAPTER.cancel(second) == "canceled"
    assert comfy.engine.interruptions == [second.external_id]
    comfy.wait(lambda: first.external_id in comfy.engine.history)


def test_a_result_that_comes_before_the_interrupt_wins(comfy: ComfyUI) -> None:
    first, *_ = three(comfy)
    original = comfy.engine.interrupt

    def ends_meanwhile(prompt_id: str | None) -> bool:
        comfy.let_go()
        comfy.wait(lambda: first.external_id in comfy.engine.history)
        return original(prompt_id)

    comfy.engine.interrupt = ends_meanwhile  # type: ignore[method-assign]
    assert ADAPTER.cancel(first) == "too_late"
    assert comfy.engine.interruptions == []
    (interrupt,) = comfy.calls("POST", "/interrupt")
    assert interrupt.json == {"prompt_id": first.external_id}
    assert isinstance(outcome(comfy, first), Completed)


def test_the_probe_tells_version_and_memory(comfy: ComfyUI) -> None:
    health = ADAPTER.probe(executor_at(ADAPTER, comfy.url))
    assert (health.status, health.login) == ("healthy", "not_applicable")
    assert health.message == "ComfyUI 0.3.64, cuda:0 Emulated: 20.0 of 24.0 GiB free"
    comfy.hidden = {"/system_stats"}
    assert ADAPTER.probe(executor_at(ADAPTER, comfy.url)).status == "unknown"


def test_the_inventory_lists_models_nodes_and_what_is_loaded(comfy: ComfyUI) -> None:
    executor = executor_at(ADAPTER, comfy.url)
    before = ADAPTER.inventory(executor)
    assert before.models == ["4x.pth", "sd_xl.safetensors"]
    assert {"KSampler", "LoadImage"} <= set(before.nodes)
    assert (before.version, before.loaded_model) == ("0.3.64", None)
    done(comfy, call_at(comfy, DIFFUSION))
    assert ADAPTER.inventory(executor).loaded_model == "sd_xl.safetensors"
    comfy.hold()
    accepted(call_at(comfy))
    comfy.wait(lambda: comfy.engine.running is not None)
    assert ADAPTER.inventory(executor).loaded_model is None
    comfy.hidden = {"/system_stats", "/object_info", "/models", "/queue", "/history"}
    bare = ADAPTER.inventory(executor)
    assert (list(bare.models), list(bare.nodes), bare.version, bare.loaded_model) == (
        [],
        [],
        "",
        None,
    )
