"""What ComfyUI's websocket says, told to a `Watcher`. One `Follower` per socket; it forgets nothing that matters.

Text frames are `{"type", "data"}`, binary frames begin with a big-endian number: 1 = preview, 4 = preview with metadata.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import Watcher

PREVIEW, PREVIEW_WITH_METADATA = 1, 4
IMAGE_TYPES = {1: "image/jpeg", 2: "image/png"}
LARGEST_PREVIEW = 2_000_000  # bytes
REMEMBERED = 256  # runs
ALMOST = 0.99  # the poll decides when it is done
HELLO = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
Graph = Mapping[str, Any]


@dataclass
class Run:
    """How far one prompt has come."""

    graph: Graph
    done: set[str] = field(default_factory=set)
    node: str = ""
    value: float = 0
    most: float = 1
    fraction: float = 0
    told: object = None

    def advance(self) -> float:
        """0..1, never back. Nodes count alike; sub-graphs count with the node that stands for them."""
        total = max(len(self.graph), len(self.done) + 1)
        part = min(self.value / self.most, 1.0) if self.most > 0 else 0.0
        now = (len(self.done - {self.node}) + part) / total
        self.fraction = max(self.fraction, min(now, ALMOST))
        return self.fraction

    def enter(self, node: str) -> None:
        if self.node and self.node != node:
            self.done.add(self.node)
        self.node, self.value, self.most = node, 0, 1

    def title(self) -> str | None:
        """What people call the node that runs."""
        node = self.graph.get(self.node)
        if not isinstance(node, dict):
            return None
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        return str(title or node.get("class_type"))[:100]


class Follower:
    """`look_up(prompt_id)`: the graph of a prompt of ours, None for somebody else's."""

    def __init__(self, watcher: Watcher, look_up: Callable[[str], Graph | None]) -> None:
        self._watcher = watcher
        self._look_up = look_up
        self._runs: dict[str, Run | None] = {}
        self._current = ""

    def text(self, frame: str) -> None:
        """One text frame. What cannot be read is left out: the poll is the truth."""
        try:
            message = json.loads(frame)
            kind, data = str(message["type"]), message["data"]
            prompt_id = data.get("prompt_id")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return
        if not isinstance(prompt_id, str):
            return
        if _is_end(kind, data):
            self._end(prompt_id)
        elif kind in HANDLERS and (run := self._run(prompt_id)):
            self._current = prompt_id
            if HANDLERS[kind](run, data):
                self._tell(prompt_id, run)

    def binary(self, frame: bytes) -> None:
        """One binary frame."""
        if len(frame) > LARGEST_PREVIEW or not (found := _preview(frame)):
            return
        prompt_id, content_type, image = found
        prompt_id = prompt_id or self._current
        if prompt_id and self._run(prompt_id):
            self._watcher.preview(prompt_id, image, content_type)

    def _run(self, prompt_id: str) -> Run | None:
        if prompt_id not in self._runs:
            graph = self._look_up(prompt_id)
            self._runs[prompt_id] = None if graph is None else Run(graph)
            if len(self._runs) > REMEMBERED:
                del self._runs[next(iter(self._runs))]
        return self._runs[prompt_id]

    def _end(self, prompt_id: str) -> None:
        self._runs.pop(prompt_id, None)
        if self._current == prompt_id:
            self._current = ""
        self._watcher.finished(prompt_id)

    def _tell(self, prompt_id: str, run: Run) -> None:
        counts = run.most > 1
        title = run.title()
        phase = f"step {run.value:.0f}/{run.most:.0f}" if counts else title
        fraction = run.advance()
        # Newer builds say everything twice.
        if run.told == (fraction, phase, title):
            return
        run.told = (fraction, phase, title)
        self._watcher.progress(
            prompt_id,
            fraction,
            phase=phase,
            step=int(run.value) if counts else None,
            steps=int(run.most) if counts else None,
            node=title,
        )


def _is_end(kind: str, data: Mapping[str, Any]) -> bool:
    """`executing` without a node comes after the history was written, the others just before."""
    ends = {"execution_success", "execution_error", "execution_interrupted"}
    return kind in ends or (kind == "executing" and data.get("node", "") is None)


def _started(run: Run, data: Mapping[str, Any]) -> bool:
    return True


def _cached(run: Run, data: Mapping[str, Any]) -> bool:
    nodes = data.get("nodes")
    run.done |= run.graph.keys() & set(map(str, nodes if isinstance(nodes, list) else ()))
    return True


def _executing(run: Run, data: Mapping[str, Any]) -> bool:
    run.enter(str(data.get("display_node") or data.get("node")))
    return True


def _executed(run: Run, data: Mapping[str, Any]) -> bool:
    run.done.add(str(data.get("display_node") or data.get("node")))
    return True


def _progress(run: Run, data: Mapping[str, Any]) -> bool:
    value, most = _number(data.get("value")), _number(data.get("max"))
    if value is None or most is None:
        return False
    run.value, run.most = max(value, 0), most
    return True


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _state(run: Run, data: Mapping[str, Any]) -> bool:
    """All nodes at once, in newer builds."""
    nodes = data.get("nodes")
    for node_id, node in nodes.items() if isinstance(nodes, dict) else ():
        state = node.get("state") if node_id in run.graph and isinstance(node, dict) else None
        if state == "finished":
            run.done.add(node_id)
        elif state == "running":
            run.enter(node_id)
            _progress(run, node)
    return True


HANDLERS: dict[str, Callable[[Run, Mapping[str, Any]], bool]] = {
    "execution_start": _started,
    "execution_cached": _cached,
    "executing": _executing,
    "executed": _executed,
    "progress": _progress,
    "progress_state": _state,
}


def _preview(frame: bytes) -> tuple[str, str, bytes] | None:
    """Prompt id (empty when it is not said), content type, image."""
    if len(frame) < 8:
        return None
    event, second = struct.unpack(">II", frame[:8])
    if event == PREVIEW and second in IMAGE_TYPES:
        return "", IMAGE_TYPES[second], frame[8:]
    if event != PREVIEW_WITH_METADATA:
        return None
    try:
        metadata = json.loads(frame[8 : 8 + second])
        prompt_id, content_type = str(metadata["prompt_id"]), metadata.get("image_type")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if content_type not in IMAGE_TYPES.values():
        return None
    return prompt_id, content_type, frame[8 + second :]
