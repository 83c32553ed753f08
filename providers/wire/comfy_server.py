"""The requests a ComfyUI server understands, and what its answers hold.

Proxies in front of it often let few paths through, and old builds lack some: what may be missing answers None.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from providers import faults
from providers.base import Input, ProviderError
from providers.http import Form, Reply, Session
from providers.wire.comfy_results import (
    CONTENT_TYPES,
    choices,
    names_model,
    safe_name,
    safe_subfolder,
)

SECONDS = 30.0  # for a question
SUBMIT_SECONDS = 60.0
MAX_BYTES = 64_000_000  # queue and history repeat whole workflows
SUFFIXES = {kind: suffix for suffix, kind in reversed(CONTENT_TYPES.items())}
QUEUES = ("queue_pending", "queue_running")
NOT_MODELS = frozenset({"configs", "custom_nodes"})
MARK = "genpulse_id"  # in extra_data: finds our prompt where an old build has chosen another id


@dataclass(frozen=True)
class Item:
    """A prompt in the queue or in the history."""

    prompt_id: str
    running: bool
    graph: Mapping[str, Any]
    extra: Mapping[str, Any]

    def is_ours(self, prompt_id: str) -> bool:
        return prompt_id in {self.prompt_id, self.extra.get(MARK)}


class Server:
    """One server, by the session of a call."""

    def __init__(self, http: Session) -> None:
        self._http = http

    def queue(self) -> dict[str, Item] | None:
        """Prompt id -> item, of all that waits or runs."""
        reply = optional(lambda: self._get("queue"))
        body = reply.object() if reply else {}
        lists = [(body.get(name), name == "queue_running") for name in QUEUES]
        if not all(isinstance(items, list) for items, _ in lists):
            return None
        found = [item for items, running in lists for item in _items(items, running=running)]
        return {item.prompt_id: item for item in found}

    def entry(self, prompt_id: str) -> dict[str, Any] | None:
        """The history entry of a finished prompt."""
        entry = self._get(f"history/{quote(prompt_id, safe='')}").object().get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def finished(self, prompt_id: str) -> Item | None:
        """What was asked for, by the history."""
        entry = self.entry(prompt_id) or {}
        return next(_items([entry.get("prompt")], running=False), None)

    def recent(self, count: int) -> list[Item]:
        """The last finished prompts, oldest first."""
        reply = optional(lambda: self._get("history", max_items=count))
        entries = reply.object().values() if reply else ()
        prompts = [entry.get("prompt") for entry in entries if isinstance(entry, dict)]
        return list(_items(prompts, running=False))

    def submit(self, body: Mapping[str, Any]) -> Reply:
        return self._http.post("prompt", json=body, paid=True, timeout=SUBMIT_SECONDS)

    def upload(self, source: Input) -> str:
        """Store an input file; the name nodes know it by. The same content is stored once."""
        content = source.bytes()
        digest = hashlib.sha256(content).hexdigest()[:32]
        name = f"genpulse-{digest}{SUFFIXES.get(source.content_type, '.bin')}"
        form: Form = [("image", (name, content, source.content_type)), ("type", "input")]
        answer = self._http.post("upload/image", form=form).object()
        try:
            folder = safe_subfolder(answer.get("subfolder"))
            name = safe_name(answer.get("name"))
        except ValueError:
            raise faults.bad_response(paid=False) from None
        return f"{folder}/{name}" if folder else name

    def cancel_job(self, prompt_id: str) -> bool | None:
        """The one request of newer builds that ends exactly this job, wherever it is."""
        path = f"api/jobs/{quote(prompt_id, safe='')}/cancel"
        reply = optional(lambda: self._post(path, {}))
        cancelled = reply.object().get("cancelled") if reply else None
        return cancelled if isinstance(cancelled, bool) else None

    def delete(self, prompt_id: str) -> None:
        """Take it out of the queue if it still waits."""
        self._post("queue", {"delete": [prompt_id]})

    def interrupt(self, prompt_id: str) -> None:
        """Only to be called while it runs: old builds ignore the id and stop whatever runs."""
        self._post("interrupt", {"prompt_id": prompt_id})

    def free(self) -> None:
        """Forget models and cached results once the server is idle."""
        self._post("free", {"unload_models": True, "free_memory": True})

    def stats(self) -> dict[str, Any] | None:
        reply = optional(lambda: self._get("system_stats"))
        return reply.object() if reply else None

    def object_info(self) -> dict[str, Any]:
        """Every node class with what it takes; empty when the server does not tell."""
        reply = optional(lambda: self._get("object_info"))
        return reply.object() if reply else {}

    def models(self) -> set[str]:
        """The names of the files in its model folders, as nodes want them."""
        folders = _texts(optional(lambda: self._get("models")))
        return {
            name
            for folder in folders
            if folder not in NOT_MODELS
            for name in _texts(optional(lambda: self._get(f"models/{quote(folder, safe='')}")))  # noqa: B023 - called at once
        }

    def missing_model(self, graph: Mapping[str, dict[str, Any]]) -> str | None:
        """The first model of a workflow that is not there. The server itself does not check newer kinds of lists."""
        known: dict[str, dict[str, list[Any]]] = {}
        for node_id, node in graph.items():
            class_type, inputs = node["class_type"], node["inputs"]
            for name in (name for name, value in inputs.items() if names_model(name, value)):
                if class_type not in known:
                    known[class_type] = self._options(class_type)
                if inputs[name] not in known[class_type].get(name, [inputs[name]]):
                    return f"node {node_id} ({class_type}): {name}: not on this server"
        return None

    def _options(self, class_type: str) -> dict[str, list[Any]]:
        """Input -> choices of a node class."""
        try:
            info = self._get(f"object_info/{quote(class_type, safe='')}").object().get(class_type)
        except ProviderError:
            return {}  # the server will speak for itself when it gets the prompt
        declared = info.get("input") if isinstance(info, dict) else None
        groups = declared.values() if isinstance(declared, dict) else ()
        specs = [pair for group in groups if isinstance(group, dict) for pair in group.items()]
        # The server itself checks the older kind of lists.
        return {name: choices(spec) for name, spec in specs if choices(spec) and spec[0] == "COMBO"}

    def _get(self, path: str, **query: int) -> Reply:
        return self._http.get(path, query=query, timeout=SECONDS, max_bytes=MAX_BYTES)

    def _post(self, path: str, body: Mapping[str, Any]) -> Reply:
        return self._http.post(path, json=body, timeout=SECONDS)


def optional(ask: Callable[[], Reply]) -> Reply | None:
    """The answer, None when there is no such path (ComfyUI says 404 to GET, 405 to POST)."""
    try:
        return ask()
    except ProviderError as error:
        if error.kind in {"not_available", "bad_input"}:
            return None
        raise


def _items(values: Any, *, running: bool) -> Iterator[Item]:
    """`[number, prompt_id, graph, extra_data, outputs]`, each."""
    for value in values if isinstance(values, list) else ():
        if isinstance(value, list) and len(value) > 3 and isinstance(value[1], str):
            graph, extra = (part if isinstance(part, dict) else {} for part in value[2:4])
            yield Item(value[1], running, graph, extra)


def _texts(reply: Reply | None) -> list[str]:
    body = reply.json() if reply else ()
    return [text for text in body if isinstance(text, str)] if isinstance(body, list) else []
