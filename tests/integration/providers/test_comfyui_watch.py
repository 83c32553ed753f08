"""The websocket of a ComfyUI server: one for each pair of worker and executor, and never the truth."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from providers.base import Completed, ProviderError
from providers.testing import Recorder, executor_at
from tests.emulators.base import answered, as_fixture
from tests.emulators.comfyui import PNG, ComfyUI
from tests.integration.providers.comfy_calls import (
    ADAPTER,
    DIFFUSION,
    SOLID,
    accepted,
    call_at,
    done,
    outcome,
    state_of,
)

comfy = as_fixture(ComfyUI)


@pytest.fixture(autouse=True)
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.wire.comfy_socket.TICK", 0.02)


class Listener:
    """A watcher, as the engine would have one for each pair of worker and executor."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.stop = threading.Event()
        self.told: dict[str, Recorder] = {}
        self.ended: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def stopped(self) -> bool:
        return self.stop.is_set()

    def _of(self, external_id: str) -> Recorder:
        return self.told.setdefault(external_id, Recorder())

    def progress(self, external_id: str, fraction: float, **more: Any) -> None:
        self._of(external_id).progress(fraction, phase=more["phase"])
        if more["steps"]:
            self.steps.append((more["step"], more["steps"]))

    def preview(self, external_id: str, data: bytes, content_type: str) -> None:
        self._of(external_id).preview(data, content_type)

    def finished(self, external_id: str) -> None:
        self.ended.append(external_id)


@contextlib.contextmanager
def watching(server: ComfyUI, client_id: str = "worker-1") -> Iterator[Listener]:
    """One socket, open and greeted."""
    listener = Listener(client_id)
    executor = executor_at(ADAPTER, server.url)
    thread = threading.Thread(target=ADAPTER.watch, args=(executor, listener))
    thread.start()
    try:
        server.wait(lambda: server.sockets.of(client_id))
        yield listener
    finally:
        listener.stop.set()
        thread.join(10)
        assert not thread.is_alive()


def test_progress_and_previews_come_over_the_socket(comfy: ComfyUI) -> None:
    with watching(comfy) as listener:
        call = accepted(call_at(comfy, DIFFUSION, named={"prompt": "kite"}, client_id="worker-1"))
        assert call.external_id
        comfy.wait(lambda: call.external_id in listener.ended)
        told = listener.told[call.external_id]
        assert told.progresses == sorted(told.progresses)
        assert 0.4 < told.progresses[-1] < 1
        assert [step for step in listener.steps if step[0] == 4] == [(4, 4)]
        assert "step 2/4" in told.phases
        assert told.previews == [(PNG, "image/png")] * 4
        assert isinstance(state_of(call), Completed), "the end is told when the history is written"
    (handshake,) = comfy.sockets.handshakes
    assert handshake["Authorization"] == "Bearer test-credential-0123456789"
    assert "Origin" not in handshake


def test_twenty_prompts_share_one_socket(comfy: ComfyUI) -> None:
    with watching(comfy) as listener:
        made = [
            call_at(comfy, DIFFUSION, named={"prompt": str(n)}, client_id="worker-1")
            for n in range(20)
        ]
        with ThreadPoolExecutor(20) as pool:
            calls = list(pool.map(accepted, made))
        ids = {call.external_id for call in calls}
        assert len(ids) == 20
        comfy.wait(lambda: ids <= set(listener.ended))
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda call: outcome(comfy, call), calls))
    assert all(isinstance(result, Completed) for result in results)
    assert set(listener.told) == ids
    assert all(len(told.previews) == 4 for told in listener.told.values())
    assert len(comfy.sockets.handshakes) == 1
    assert comfy.count("POST", "/prompt") == 20
    files = [output.filename for result in results for output in result.outputs]
    assert len(set(files)) == 20


def test_two_workers_hear_of_their_own_prompts_only(comfy: ComfyUI) -> None:
    with watching(comfy, "worker-1") as one, watching(comfy, "worker-2") as two:
        mine = accepted(call_at(comfy, DIFFUSION, client_id="worker-1"))
        theirs = accepted(call_at(comfy, DIFFUSION, named={"seed": 3}, client_id="worker-2"))
        comfy.wait(lambda: one.ended and two.ended)
    assert set(one.told) == {mine.external_id}
    assert set(two.told) == {theirs.external_id}


def test_prompts_of_others_that_everybody_hears_of_are_left_alone(comfy: ComfyUI) -> None:
    """The server broadcasts the progress of a prompt that named no client."""
    with watching(comfy) as listener:
        executor_at(ADAPTER, comfy.url).http.post("prompt", json={"prompt": SOLID})
        done(comfy, call_at(comfy, DIFFUSION, client_id="worker-1"))
        comfy.wait(lambda: listener.ended)
    assert len(comfy.engine.history) == 2
    assert set(listener.told) == {comfy.submitted()[1]["prompt_id"]}


@pytest.mark.parametrize("shows", ["nothing", "garbage"])
def test_progress_comes_without_the_queue_too(comfy: ComfyUI, shows: str) -> None:
    comfy.hidden = {"/queue"} if shows == "nothing" else set()
    with watching(comfy) as listener:
        comfy.hold()
        call = accepted(call_at(comfy, DIFFUSION, client_id="worker-1"))
        assert call.external_id
        comfy.next("GET", f"/history/{call.external_id}", answered(200, "<html>"))
        if shows == "garbage":
            comfy.next("GET", "/queue", answered(200, "<html>"))
        comfy.let_go()
        comfy.wait(lambda: listener.ended)
    assert listener.told[call.external_id].progresses[-1] > 0.4


def test_a_message_without_end_ends_the_watch(
    comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.wire.comfy_socket.LARGEST", 1000)
    with watching(comfy) as listener:
        comfy.sockets.to("worker-1", bytes(5000))
        comfy.wait(lambda: not comfy.sockets.of("worker-1"))
        assert not listener.stopped()


def test_a_silent_socket_costs_nothing_but_progress(comfy: ComfyUI) -> None:
    with watching(comfy) as listener:
        comfy.sockets.muted = True
        result = done(comfy, call_at(comfy, client_id="worker-1"))
    assert result.outputs
    assert listener.told == {}


def test_a_broken_socket_ends_the_watch(comfy: ComfyUI) -> None:
    listener = Listener("worker-1")
    thread = threading.Thread(
        target=ADAPTER.watch, args=(executor_at(ADAPTER, comfy.url), listener)
    )
    thread.start()
    comfy.wait(lambda: comfy.sockets.of("worker-1"))
    comfy.restart()
    thread.join(10)
    assert not thread.is_alive()


def test_a_socket_that_does_not_answer_pings_is_given_up(
    comfy: ComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("PING_AFTER", 0.02), ("DEAD_AFTER", 0.1)):
        monkeypatch.setattr(f"providers.wire.comfy_socket.{name}", seconds)
    with watching(comfy) as listener:
        socket = comfy.sockets.of("worker-1")
        assert socket is not None
        comfy.wait(lambda: socket.pings > 2)
        socket.deaf = True
        comfy.wait(lambda: not comfy.sockets.of("worker-1"))
        assert not listener.stopped()


def test_a_server_without_a_socket_says_so(comfy: ComfyUI) -> None:
    refuse: list[Callable[[], None]] = [
        lambda: setattr(comfy.sockets, "refusing", True),
        lambda: comfy.__exit__(None, None, None),
    ]
    for how in refuse:
        how()
        with pytest.raises(ProviderError) as caught:
            ADAPTER.watch(executor_at(ADAPTER, comfy.url), Listener("w"))
        assert caught.value.kind == "transient"
        assert comfy.url not in caught.value.message
