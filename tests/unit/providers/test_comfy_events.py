"""Frames of ComfyUI's websocket and what a watcher hears of them."""

import json
import struct
from typing import Any

import pytest

from providers.wire.comfy_events import LARGEST_PREVIEW, REMEMBERED, Follower

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple"},
    "2": {"class_type": "CLIPTextEncode", "_meta": {"title": "Prompt"}},
    "3": {"class_type": "KSampler", "_meta": {}},
    "4": {"class_type": "SaveImage", "_meta": None},
}


class Heard:
    """A watcher that remembers."""

    client_id = "worker-1"

    def __init__(self) -> None:
        self.progresses: list[tuple[str, float, str | None, int | None, int | None]] = []
        self.previews: list[tuple[str, bytes, str]] = []
        self.ended: list[str] = []

    def stopped(self) -> bool:
        return False

    def progress(self, external_id: str, fraction: float, **more: Any) -> None:
        assert 0 <= fraction < 1
        self.progresses.append(
            (external_id, round(fraction, 3), more["node"], more["step"], more["steps"])
        )

    def preview(self, external_id: str, data: bytes, content_type: str) -> None:
        self.previews.append((external_id, data, content_type))

    def finished(self, external_id: str) -> None:
        self.ended.append(external_id)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def follower(heard: Heard, asked: list[str]) -> Follower:
    def look_up(prompt_id: str) -> dict[str, Any] | None:
        asked.append(prompt_id)
        return GRAPH if prompt_id.startswith("p") else None

    return Follower(heard, look_up)


def say(follower: Follower, kind: Any, prompt: Any = "p1", **data: Any) -> None:
    follower.text(json.dumps({"type": kind, "data": data | {"prompt_id": prompt}}))


def test_a_whole_run(follower: Follower, heard: Heard, asked: list[str]) -> None:
    say(follower, "execution_start")
    say(follower, "execution_cached", nodes=["1", "77"])
    say(follower, "executing", node="2")
    say(follower, "executing", node="3")
    for step in (1, 2):
        say(follower, "progress", value=step, max=2, node="3")
    say(follower, "executing", node="4", display_node="4")
    say(follower, "executed", node="4", output={})
    say(follower, "execution_success")
    say(follower, "executing", node=None)
    assert heard.progresses == [
        ("p1", 0.0, None, None, None),
        ("p1", 0.25, None, None, None),
        ("p1", 0.25, "Prompt", None, None),
        ("p1", 0.5, "KSampler", None, None),
        ("p1", 0.625, "KSampler", 1, 2),
        ("p1", 0.75, "KSampler", 2, 2),
        ("p1", 0.75, "SaveImage", None, None),
    ]
    assert heard.ended == ["p1", "p1"]
    assert asked == ["p1"]


def test_newer_builds_tell_all_nodes_at_once(follower: Follower, heard: Heard) -> None:
    sampler = {"state": "running", "value": 1, "max": 2}
    states = {"1": {"state": "finished"}, "3": sampler, "2:9": {"state": "finished"}}
    say(follower, "progress_state", nodes=states)
    say(follower, "progress", node="3", value=1, max=2)  # the same in older words
    assert heard.progresses == [("p1", 0.375, "KSampler", 1, 2)]


def test_progress_never_goes_back(follower: Follower, heard: Heard) -> None:
    say(follower, "executing", node="3")
    say(follower, "progress", value=9, max=10)
    say(follower, "progress", value=1, max=10)
    say(follower, "progress", value=1, max=10)
    assert [fraction for _, fraction, *_ in heard.progresses] == [0.0, 0.225, 0.225]


@pytest.mark.parametrize("kind", ["execution_error", "execution_interrupted", "execution_success"])
def test_every_end_makes_the_poll_due(follower: Follower, heard: Heard, kind: str) -> None:
    say(follower, kind)
    assert heard.ended == ["p1"]


def test_prompts_of_others_are_left_alone(
    follower: Follower, heard: Heard, asked: list[str]
) -> None:
    for _ in range(3):
        say(follower, "progress", prompt="foreign", value=1, max=2)
    assert heard.progresses == []
    assert asked == ["foreign"]


def preview(prompt_id: str = "p1", image: bytes = b"png", **more: Any) -> bytes:
    head = json.dumps({"prompt_id": prompt_id, "image_type": "image/png"} | more).encode()
    return struct.pack(">II", 4, len(head)) + head + image


def test_previews_of_both_kinds(follower: Follower, heard: Heard) -> None:
    old = struct.pack(">II", 1, 1) + b"jpeg"
    follower.binary(old)  # whose is it?
    say(follower, "execution_start")
    follower.binary(old)
    follower.binary(preview())
    follower.binary(preview("foreign"))
    assert heard.previews == [("p1", b"jpeg", "image/jpeg"), ("p1", b"png", "image/png")]
    say(follower, "execution_success")
    follower.binary(old)
    assert len(heard.previews) == 2


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"\x00\x00\x00\x01", struct.pack(">II", 1, 9) + b"x", struct.pack(">II", 3, 1) + b"4text",
        struct.pack(">II", 4, 50) + b"{", struct.pack(">II", 4, 4) + b"null", preview(image_type="text/html"),
        preview(image=bytes(LARGEST_PREVIEW)),
    ],
)  # fmt: skip
def test_binary_garbage_is_no_preview(follower: Follower, heard: Heard, frame: bytes) -> None:
    say(follower, "execution_start")
    follower.binary(frame)
    assert heard.previews == []


@pytest.mark.parametrize(
    "frame",
    [
        "", "nothing", "[]", "7", "null", '{"type":"progress"}', '{"type":"progress","data":null}',
        '{"type":["x"],"data":{"prompt_id":"p1"}}', '{"type":"status","data":{"status":{}}}',
        '{"type":"progress","data":{"prompt_id":"p1","value":"a","max":2}}',
        '{"type":"progress","data":{"prompt_id":"p1","value":NaN,"max":2}}',
        '{"type":"progress","data":{"prompt_id":"p1","value":1,"max":1e999}}',
        '{"type":"executing","data":{"node":"3"}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_text_garbage_says_nothing(follower: Follower, heard: Heard, frame: str) -> None:
    follower.text(frame)
    assert (heard.progresses, heard.ended) == ([], [])


def test_odd_lists_of_nodes(follower: Follower, heard: Heard) -> None:
    say(follower, "execution_cached", nodes=5)
    say(follower, "progress_state", nodes=["1"])
    say(follower, "progress_state", nodes={"1": None})
    assert {fraction for _, fraction, *_ in heard.progresses} == {0.0}


def test_a_long_life_does_not_fill_the_memory(follower: Follower, asked: list[str]) -> None:
    for number in range(REMEMBERED + 10):
        say(follower, "execution_start", prompt=f"p{number}")
    say(follower, "execution_start", prompt=f"p{REMEMBERED}")
    say(follower, "execution_start", prompt="p0")
    assert len(asked) == REMEMBERED + 11
