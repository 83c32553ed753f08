"""ComfyUI: runs workflows on servers of the operator. https://docs.comfy.org/development/comfyui-server/comms_routes

The server keeps queue and history in memory, takes the same prompt twice without a word, and runs one at a time. So we
choose the prompt id, look before anything is repeated, and read "in neither queue nor history" as a restart.
"""

import base64
import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from providers import faults
from providers.base import (
    Absent,
    Accepted,
    AfterUnknown,
    Call,
    CancelOutcome,
    ExecutorInfo,
    Health,
    Inventory,
    Model,
    Params,
    Provider,
    ProviderError,
    Secret,
    TaskType,
    Update,
    Watcher,
)
from providers.http import Reply
from providers.params import Object
from providers.wire.comfy_events import Follower, Graph
from providers.wire.comfy_results import offered, outcome, refused, weights_of
from providers.wire.comfy_server import MARK, Item, Server
from providers.wire.comfy_socket import connect, follow
from providers.wire.comfy_workflow import named_inputs, place_of, prepare_workflow

NAMESPACE = uuid.UUID("8a7c1f0e-5b0d-5c58-9c3e-6a1f5d2b7e40")
PROMPT_ID = re.compile(r"[\w-]{1,100}")
LOOK_BACK = 100  # finished prompts
DIFFUSION: tuple[TaskType, ...] = (
    "text-to-image",
    "image-to-image",
    "text-to-video",
    "image-to-video",
)


class WorkflowParams(Params):
    """A workflow in API format; `inputs` are values for its nodes titled `INPUT_<name>`."""

    workflow: Object
    inputs: Object = {}


class ComfyUI(Provider):
    name = "comfyui"
    description = "ComfyUI servers of your own: any workflow, and models bound to one"
    models: ClassVar = (
        Model(
            "comfyui",
            ("comfy-workflow",),
            WorkflowParams,
            description="Runs a ComfyUI workflow in API format",
        ),
        Model("comfy*", ("comfy-workflow",), WorkflowParams),
        *(Model(f"{prefix}*", DIFFUSION) for prefix in ("sd", "stable", "flux")),
    )
    retry_submit: ClassVar[AfterUnknown] = "find"

    def submit(self, call: Call) -> Accepted:
        server = Server(call.http)
        graph = _graph(call, server)
        if missing := server.missing_model(graph):
            raise ProviderError("not_available", missing)
        prompt_id = _prompt_id(call)
        body = {
            "prompt": graph,
            "prompt_id": prompt_id,
            # Without one the server tells nobody how it goes, or everybody.
            "client_id": call.client_id or prompt_id,
            "extra_data": {MARK: prompt_id},
        }
        answer = server.submit(body).object()
        accepted = answer.get("prompt_id")
        if not isinstance(accepted, str) or not PROMPT_ID.fullmatch(accepted):
            raise faults.bad_response(paid=True)
        if problem := refused(answer):
            # Some outputs are fine and run already; half a result is none.
            with contextlib.suppress(ProviderError):
                _stop(server, accepted)
            raise problem
        return Accepted(accepted)

    def poll(self, calls: Sequence[Call]) -> Iterator[Update]:
        # First the queue, then the history: a job only ever moves from the one to the other.
        queue = Server(calls[0].http).queue()
        failed: ProviderError | None = None
        for call in calls:
            try:
                update = _update(call, queue)
            except ProviderError as error:
                failed = error
            else:
                yield update
        if failed:
            raise failed

    def find(self, call: Call) -> Accepted | Absent | None:
        ours, server = _prompt_id(call), Server(call.http)
        queue = server.queue()
        waiting = list((queue or {}).values())
        if server.entry(ours) is not None:
            return Accepted(ours)
        for item in (*waiting, *server.recent(LOOK_BACK)):
            if item.is_ours(ours):
                return Accepted(item.prompt_id)
        return None if queue is None else Absent()

    def cancel(self, call: Call) -> CancelOutcome:
        return _stop(Server(call.http), call.external_id or _prompt_id(call))

    def probe(self, executor: ExecutorInfo) -> Health:
        stats = Server(executor.http).stats()
        if stats is None:
            return Health("unknown", message="the server answers, but not /system_stats")
        return Health("healthy", message=_summary(stats))

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        server = Server(executor.http)
        stats, info = server.stats() or {}, server.object_info()
        return Inventory(
            models=sorted(server.models() | offered(info)),
            nodes=sorted(info),
            version=_version(stats),
            loaded_model=_loaded_model(server),
        )

    def watch(self, executor: ExecutorInfo, watcher: Watcher) -> None:
        server = Server(executor.http)

        def look_up(prompt_id: str) -> Graph | None:
            return _graph_of(server, prompt_id, watcher.client_id)

        socket = connect(executor, watcher.client_id)
        follow(socket, Follower(watcher, look_up), watcher.stopped)

    def auth_headers(self, executor: ExecutorInfo, credential: Secret) -> Mapping[str, str]:
        """ComfyUI has no log-in, a proxy before it may have: `user:password` or a token."""
        text = credential.reveal()
        if ":" in text:
            return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
        return {"Authorization": f"Bearer {text}"}

    def explain(self, reply: Reply) -> ProviderError | None:
        if reply.status != 400 or not reply.readable or not isinstance(reply.json(), dict):
            return None
        return refused(reply.object(), reply.raw)


def _prompt_id(call: Call) -> str:
    """The same for every look at one attempt; another one for the next, whose history would be taken for this one's."""
    return str(uuid.uuid5(NAMESPACE, f"{call.submit_key}/{call.attempt}"))


def _graph(call: Call, server: Server) -> dict[str, dict[str, Any]]:
    given = call.given()
    files = {place_of(key): server.upload(source) for key, source in call.inputs.items()}
    return prepare_workflow(
        given.get("workflow"), named_inputs(given), key=call.submit_key, files=files
    )


def _update(call: Call, queue: Mapping[str, Item] | None) -> Update:
    prompt_id = call.external_id or ""
    if item := (queue or {}).get(prompt_id):
        return Update(call, "working", phase="running" if item.running else "waiting at the server")
    server = Server(call.http)
    entry = server.entry(prompt_id)
    if entry is None:
        gone = ProviderError("lost", "The server was restarted or its queue was cleared.")
        return Update(call, "working" if queue is None else gone)
    state = outcome(entry, call.http.base_url)
    if isinstance(state, ProviderError) and state.retries == 1:
        # The next try needs the memory, or results that are made and not remembered. Best effort.
        with contextlib.suppress(ProviderError):
            server.free()
    return Update(call, state or "working")


def _stop(server: Server, prompt_id: str) -> CancelOutcome:
    """End this job and no other one."""
    cancelled = server.cancel_job(prompt_id)
    if cancelled is not None:
        return "canceled" if cancelled else "too_late"
    queue = server.queue()
    if queue is None:
        return "unsupported"
    if prompt_id not in queue:
        return "too_late"
    if not queue[prompt_id].running:
        server.delete(prompt_id)
        queue = server.queue() or {}
    if prompt_id in queue:
        server.interrupt(prompt_id)
    return "too_late" if _has_ended_well(server, prompt_id) else "canceled"


def _has_ended_well(server: Server, prompt_id: str) -> bool:
    entry = server.entry(prompt_id)
    return entry is not None and not isinstance(outcome(entry, ""), ProviderError)


def _graph_of(server: Server, prompt_id: str, client_id: str) -> Graph | None:
    """The graph of a prompt this client sent; empty when the server does not show it."""
    try:
        queue = server.queue()
        item = (queue or {}).get(prompt_id) or server.finished(prompt_id)
    except ProviderError:
        return {}  # only the count of its nodes is missed
    if item is None:
        return {} if queue is None else None
    return item.graph if item.extra.get("client_id") == client_id else None


def _loaded_model(server: Server) -> str | None:
    """ComfyUI does not say; it keeps what the prompt that runs, or the last one, has loaded."""
    running = [item for item in (server.queue() or {}).values() if item.running]
    return next(
        (name for item in running or server.recent(1) for name in weights_of(item.graph)), None
    )


def _version(stats: Mapping[str, Any]) -> str:
    system = stats.get("system")
    return str(system.get("comfyui_version") or "") if isinstance(system, dict) else ""


def _summary(stats: Mapping[str, Any]) -> str:
    devices = stats.get("devices")
    first = devices[0] if isinstance(devices, list) and devices else {}
    text = f"ComfyUI {_version(stats) or '?'}"
    if not isinstance(first, dict) or not isinstance(first.get("vram_total"), int):
        return text
    free, total = first.get("vram_free") or 0, first["vram_total"]
    return f"{text}, {first.get('name')}: {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
