"""The worker of the ComfyUI emulator: one prompt at a time, cached results, everything in memory (`execution.py`)."""

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.emulators.comfyui_nodes import Node, Saved, registry


class Interrupted(Exception):
    """`/interrupt` was called."""


class NodeFailed(Exception):
    """A scripted failure: exception type and message."""


@dataclass
class Run:
    """The one prompt that runs, and its status messages."""

    number: float
    prompt_id: str
    prompt: dict[str, Any]
    extra: dict[str, Any]
    outputs: list[str]
    messages: list[Any] = field(default_factory=list)
    interrupted: bool = False
    abandoned: bool = False  # the server was restarted
    node: str = ""

    @property
    def item(self) -> list[Any]:
        return [self.number, self.prompt_id, self.prompt, self.extra, self.outputs]


class Events(Protocol):
    """Who hears how a run goes."""

    def send(self, run: Run, kind: str, data: dict[str, Any]) -> None: ...
    def preview(self, run: Run, node_id: str) -> None: ...
    def status(self, waiting: int) -> None: ...


class Engine:
    """Queue, worker, history and files."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.models = {
            "checkpoints": ["sd_xl.safetensors"],
            "upscale_models": ["4x.pth"],
            "loras": [],
        }
        self.files: dict[tuple[str, str, str], bytes] = {}  # (type, subfolder, name)
        self.forgetful = False  # old builds leave cached results out of the history
        self.failures: deque[tuple[str, str]] = deque()
        self.gate = threading.Event()
        self.gate.set()
        self.stopping = threading.Event()
        self.changed = threading.Condition(threading.RLock())
        self.running: Run | None = None
        self.forget_all()

    def forget_all(self) -> None:
        if self.running is not None:
            self.running.abandoned = True
        self.pending: list[Run] = []
        self.running = None
        self.history: dict[str, dict[str, Any]] = {}
        self.interruptions: list[str] = []  # prompts that were hit
        self._cache: dict[str, tuple[tuple[Any, ...], dict[str, Any] | None]] = {}
        self._number = 0
        self.most = 0  # prompts that were here at one time
        self._forgetting = False

    def put(self, run: Run) -> None:
        with self.changed:
            self._number += 1
            run.number = run.number or self._number
            self.pending.append(run)
            self.most = max(self.most, self.remaining())
            self.changed.notify_all()
        self.events.status(self.remaining())

    def remaining(self) -> int:
        with self.changed:
            return len(self.pending) + bool(self.running)

    def delete(self, prompt_ids: set[str]) -> bool:
        """Whether any of them waited."""
        with self.changed:
            before = len(self.pending)
            self.pending = [run for run in self.pending if run.prompt_id not in prompt_ids]
            return len(self.pending) < before

    def interrupt(self, prompt_id: str | None) -> bool:
        """Stop what runs; with an id only when it is this one."""
        with self.changed:
            if self.running is None or prompt_id not in {None, self.running.prompt_id}:
                return False
            self.interruptions.append(self.running.prompt_id)
            self.running.interrupted = True
            return True

    def forget_results(self) -> None:
        """Before the next run."""
        self._forgetting = True

    def nodes(self) -> dict[str, Node]:
        uploads = [name for kind, _, name in list(self.files) if kind == "input"]
        return registry({**self.models, "input": uploads})

    def work(self) -> None:
        while not self.stopping.is_set():
            with self.changed:
                if not self.pending:
                    self.changed.wait(0.05)
                    continue
                run = self.running = min(self.pending, key=lambda run: run.number)
                self.pending.remove(run)
            self.events.status(self.remaining())
            if self._forgetting:
                self._cache, self._forgetting = {}, False
            outcome = self._execute(run)
            with self.changed:
                if not run.abandoned:
                    self.running = None
                    self.history[run.prompt_id] = outcome
            self.events.send(run, "executing", {"node": None})

    def _execute(self, run: Run) -> dict[str, Any]:
        self._message(run, "execution_start", {})
        order = self._order(run)
        cached = [n for n in order if self._signature(run, n) in self._cache]
        self._message(run, "execution_cached", {"nodes": cached})
        ui: dict[str, dict[str, Any]] = {}
        values: dict[str, tuple[Any, ...]] = {}
        executed: list[str] = []
        try:
            for node_id in order:
                self._run_node(run, node_id, values, ui, fresh=node_id not in cached)
                executed.append(node_id)
        except Interrupted:
            return self._failed(run, "execution_interrupted", {"executed": executed}, ui)
        except NodeFailed as failure:
            kind, text = failure.args
            trace = ['  File "/srv/ComfyUI/execution.py", line 496, in execute\n']
            said = {"exception_type": kind, "exception_message": text, "traceback": trace}
            inputs = {"current_inputs": {}, "current_outputs": list(run.prompt)}
            return self._failed(run, "execution_error", {"executed": executed} | said | inputs, ui)
        self._message(run, "execution_success", {})
        return self._entry(run, ui, "success")

    def _order(self, run: Run) -> list[str]:
        """Nodes that outputs need, each after what it needs."""
        order: list[str] = []

        def visit(node_id: str) -> None:
            for value in run.prompt[node_id]["inputs"].values():
                if isinstance(value, list):
                    visit(value[0])
            if node_id not in order:
                order.append(node_id)

        for output in run.outputs:
            visit(output)
        return order

    def _signature(self, run: Run, node_id: str) -> str:
        node = run.prompt[node_id]
        inputs = {
            name: [self._signature(run, value[0]), value[1]] if isinstance(value, list) else value
            for name, value in sorted(node["inputs"].items())
        }
        return json.dumps([node["class_type"], inputs])

    def _run_node(self, run: Run, node_id: str, values: Any, ui: Any, *, fresh: bool) -> None:
        signature = self._signature(run, node_id)
        if not fresh:
            values[node_id], shown = self._cache[signature]
        else:
            run.node = node_id
            self.events.send(run, "executing", {"node": node_id, "display_node": node_id})
            self._state(run, node_id, 0, 1, "running")
            self._pause(run)
            if self.failures:
                raise NodeFailed(*self.failures.popleft())
            values[node_id], shown = self._compute(run, node_id, values)
            self._cache[signature] = values[node_id], shown
            self._state(run, node_id, 1, 1, "finished")
            if shown:
                self.events.send(
                    run, "executed", {"node": node_id, "display_node": node_id, "output": shown}
                )
        if shown and (fresh or not self.forgetful):
            ui[node_id] = shown

    def _compute(self, run: Run, node_id: str, values: Any) -> tuple[Any, dict[str, Any] | None]:
        node = self.nodes()[run.prompt[node_id]["class_type"]]
        inputs = {
            name: values[value[0]][value[1]] if isinstance(value, list) else value
            for name, value in run.prompt[node_id]["inputs"].items()
        }
        steps = inputs[node.steps] if node.steps else 0
        for step in range(1, steps + 1):
            self._pause(run)
            self._state(run, node_id, step, steps, "running")
            self.events.send(run, "progress", {"value": step, "max": steps, "node": node_id})
            self.events.preview(run, node_id)
        result = node.run(inputs)
        if not node.output_node:
            return result, None
        return (), self._saved(result, str(inputs.get("filename_prefix", "ComfyUI_temp")))

    def _saved(self, results: tuple[Any, ...], prefix: str) -> dict[str, Any]:
        shown: dict[str, list[Any]] = {}
        folder, _, stem = prefix.rpartition("/")
        for saved in results:
            if not isinstance(saved, Saved):
                shown.setdefault("text", []).append(saved)
                continue
            with self.changed:
                count = sum(
                    n.startswith(f"{stem}_")
                    for t, f, n in self.files
                    if (t, f) == (saved.type, folder)
                )
                name = f"{stem}_{count + 1:05}_{saved.suffix}"
                self.files[saved.type, folder, name] = saved.content
            item = {"filename": name, "subfolder": folder, "type": saved.type} | saved.more
            shown.setdefault(saved.key, []).append(item)
            if saved.suffix == ".webm":
                shown["animated"] = [True]
        return shown

    def _pause(self, run: Run) -> None:
        """Where ComfyUI looks for an interrupt: between nodes and steps."""
        while not self.gate.wait(0.01) and not (run.interrupted or run.abandoned):
            pass
        if run.interrupted or run.abandoned:
            raise Interrupted

    def _failed(self, run: Run, kind: str, more: dict[str, Any], ui: Any) -> dict[str, Any]:
        where = {"node_id": run.node, "node_type": run.prompt[run.node]["class_type"]}
        self._message(run, kind, where | more)
        return self._entry(run, ui, "error")

    def _entry(self, run: Run, ui: Any, status: str) -> dict[str, Any]:
        meta = {
            n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n} for n in ui
        }
        completed = status == "success"
        told = {"status_str": status, "completed": completed, "messages": run.messages}
        return {"prompt": run.item, "outputs": ui, "status": told, "meta": meta}

    def _message(self, run: Run, kind: str, data: dict[str, Any]) -> None:
        """An event that also goes to the history."""
        data = data | {"prompt_id": run.prompt_id, "timestamp": int(time.time() * 1000)}
        run.messages.append([kind, data])
        self.events.send(run, kind, data)

    def _state(self, run: Run, node_id: str, value: float, most: float, state: str) -> None:
        node = {"value": value, "max": most, "state": state, "node_id": node_id}
        self.events.send(
            run, "progress_state", {"nodes": {node_id: node | {"display_node_id": node_id}}}
        )
