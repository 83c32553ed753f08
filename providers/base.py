"""What an adapter is: one class per vendor, one required method, one exception.

    class Acme(Provider):
        name = "acme"
        models = (Model("acme-image-*", ("text-to-image",)),)

        def submit(self, call: Call) -> Completed | Accepted:
            reply = call.http.post("/images", json={"prompt": call.given()["prompt"]}, paid=True)
            return Completed(outputs=[Output("image", url=reply.object()["url"])])

The engine turns a task into a `Call`, hands it to `Provider.submit` and records what comes back: `Completed`,
`Accepted` (it will `poll`) or a raised `ProviderError`, whose kind alone decides what happens next. An adapter
never retries, never sleeps past `call.deadline`, starts no thread, keeps no state a restart would miss and logs
neither parameters nor credentials. Nothing here needs Django, Celery or a database:
`Acme().submit(providers.testing.make_call(...))` runs in a bare interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from providers.values import (
    ERROR_KINDS,
    TASK_TYPES,
    Aborted,
    AbortReason,
    Absent,
    Accepted,
    AfterUnknown,
    CancelOutcome,
    Completed,
    ErrorKind,
    Family,
    Health,
    HealthStatus,
    Input,
    Inventory,
    Login,
    Model,
    Output,
    OutputKind,
    Params,
    ProviderError,
    Secret,
    TaskType,
)

if TYPE_CHECKING:
    from providers.http import Reply, Session

__all__ = [
    "ERROR_KINDS",
    "TASK_TYPES",
    "AbortReason",
    "Aborted",
    "Absent",
    "Accepted",
    "AfterUnknown",
    "Call",
    "CancelOutcome",
    "Completed",
    "Emit",
    "ErrorKind",
    "ExecutorInfo",
    "Family",
    "Health",
    "HealthStatus",
    "Input",
    "Inventory",
    "Login",
    "Model",
    "Output",
    "OutputKind",
    "Params",
    "Provider",
    "ProviderError",
    "Secret",
    "TaskType",
    "Update",
    "Watcher",
]


@dataclass(frozen=True, kw_only=True)
class ExecutorInfo:
    """The server or vendor account that is asked.

    `base_url` is the vendor's documented base with its version, `config` the operator's options, `http` the guarded
    session: base URL, the credential bound to its origin, deadline and abort handle.
    """

    http: Session
    name: str = ""
    base_url: str = ""
    region: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    credential: Secret | None = None


class Emit(Protocol):
    """What an adapter tells while it works. Never blocks, never raises, may drop what comes too often."""

    def progress(
        self,
        fraction: float,
        *,
        phase: str | None = None,
        step: int | None = None,
        steps: int | None = None,
        node: str | None = None,
    ) -> None:
        """`fraction` 0..1 of the whole work; `phase` one short sentence."""

    def preview(self, data: bytes, content_type: str) -> None:
        """A small picture of the unfinished result."""

    def delta(
        self, text: str = "", reasoning: str = "", tool_calls: list[dict[str, Any]] | None = None
    ) -> None:
        """The next piece of a streamed answer; the pieces joined are the answer. `tool_calls` in OpenAI's delta shape."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One attempt, with all an adapter may know. Times are `time.monotonic()` seconds.

    `model` is the vendor's id (aliases are resolved). `inputs` has one entry per media file, keyed by its dotted place in
    the input: `mask`, `video`, `audio`, `images.0`, `messages.0.content.1.image_url`.
    `submit_key` is the same for every attempt of a task: the vendor's idempotency key, or our id of the job there.
    `client_id` names this worker at this executor, for vendors that address progress to a client.
    """

    task_id: str
    attempt: int
    model: str
    task_type: TaskType
    params: Params
    inputs: Mapping[str, Input]
    executor: ExecutorInfo
    submit_key: str
    deadline: float
    emit: Emit
    cancelled: Callable[[], bool]
    sending: Callable[
        [], None
    ]  # `http` calls it for paid requests; needed by adapters without http only
    external_id: str | None = None
    stream: bool = False
    client_id: str = ""

    @property
    def http(self) -> Session:
        """`http.post(path, json=..., paid=True)` and the like; see `providers.http.Session`."""
        return self.executor.http

    @property
    def credential(self) -> Secret | None:
        """For signatures only: `http` authenticates on its own."""
        return self.executor.credential

    def given(self) -> dict[str, Any]:
        """The input as the caller sent it, in JSON types."""
        return self.params.given()

    def filled(self, form: Callable[[Input], str]) -> dict[str, Any]:
        """As `given`, each media file replaced by `form(file)`: `call.filled(Input.data_uri)`."""
        data = self.given()
        for place, file in self.inputs.items():
            *path, last = (int(part) if part.isdigit() else part for part in place.split("."))
            holder: Any = data
            for part in path:
                holder = holder[part]
            if isinstance(holder[last], dict):  # {"url": ...} in OpenAI's messages
                holder, last = holder[last], "url"
            holder[last] = form(file)
        return data

    def media(self, name: str) -> list[Input]:
        """The files of one input name in the caller's order: `media("images")`, `media("mask")`."""
        if name in self.inputs:
            return [self.inputs[name]]
        places = (key for key in self.inputs if key.startswith(f"{name}."))
        return [self.inputs[key] for key in sorted(places, key=_place)]


def _place(key: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in key.split(".")]


@dataclass(frozen=True)
class Update:
    """What one poll learned about one call.

    `Completed` ends the attempt well, a `ProviderError` ends it with that kind (the vendor's job failed).
    An error of the poll request itself is raised, or the call is left out: it only delays the next poll.
    """

    call: Call
    state: Literal["working"] | Completed | ProviderError
    progress: float | None = None  # 0..1
    phase: str | None = None
    poll_after: float | None = None


class Watcher(Protocol):
    """Where `Provider.watch` reports. The poll stays the truth: a lost report costs time only."""

    client_id: str

    def stopped(self) -> bool:
        """Asked at least once a second; True: return."""

    def progress(
        self,
        external_id: str,
        fraction: float,
        *,
        phase: str | None = None,
        step: int | None = None,
        steps: int | None = None,
        node: str | None = None,
    ) -> None:
        """As `Emit.progress`, for the job with that id."""

    def preview(self, external_id: str, data: bytes, content_type: str) -> None: ...

    def finished(self, external_id: str) -> None:
        """The job ended, well or not: poll it now."""


class Provider:
    """A vendor. One instance per process, used by many threads at once."""

    name: ClassVar[str]
    description: ClassVar[str] = ""
    families: ClassVar[Sequence[Family]] = ()
    models: ClassVar[Sequence[Model]] = ()
    retry_submit: ClassVar[AfterUnknown] = "verify"
    # Look-ups that must find nothing before a create is sent again: a list may lag behind what it lists.
    looks: ClassVar[int] = 1
    streams: ClassVar[bool] = False  # submit emits deltas when call.stream is set
    poll_factor: ClassVar[float] = 1.0  # multiplies the engine's poll interval

    def submit(self, call: Call) -> Completed | Accepted:
        """Do the work or hand it to the vendor. Raises ProviderError."""
        raise NotImplementedError

    def poll(self, calls: Sequence[Call]) -> Iterable[Update]:
        """Ask for accepted jobs of one executor and credential, at most 100; `call.external_id` is set."""
        raise NotImplementedError

    def find(self, call: Call) -> Accepted | Completed | Absent | None:
        """Look up a submit of unknown outcome; None: cannot tell."""
        return None

    def cancel(self, call: Call) -> CancelOutcome:
        """Try to stop an accepted job at the vendor."""
        return "unsupported"

    def probe(self, executor: ExecutorInfo) -> Health:
        """Is it there, does it know us? Cheap and free of charge. Raises ProviderError, which reads as down."""
        return Health("unknown")

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        """What it can run. Raises ProviderError."""
        return Inventory()

    def watch(self, executor: ExecutorInfo, watcher: Watcher) -> None:
        """Follow the executor's live channel and report to `watcher` until it has stopped or the channel breaks."""
        raise NotImplementedError

    def auth_headers(self, executor: ExecutorInfo, credential: Secret) -> Mapping[str, str]:
        """How this vendor wants its credential; `http` sends it to the executor's own origin only."""
        return {"Authorization": f"Bearer {credential.reveal()}"}

    def explain(self, reply: Reply) -> ProviderError | None:
        """What an error answer (status >= 400) of this vendor means; None: go by the status."""
        return None

    def declared(self, model: str) -> Model | None:
        """What is declared for that name: itself, an alias, else the longest prefix. Case does not matter."""
        wanted = model.lower()
        exact = self._by_name.get(wanted)
        if exact is not None:
            return exact
        return next((found for prefix, found in self._by_prefix if wanted.startswith(prefix)), None)

    @cached_property
    def _by_name(self) -> Mapping[str, Model]:
        """Models by every name and alias; the first declared has it."""
        named: dict[str, Model] = {}
        for model in self.models:
            for name in (model.name, *model.aliases):
                named.setdefault(name.lower(), model)
        return named

    @cached_property
    def _by_prefix(self) -> Sequence[tuple[str, Model]]:
        """Prefixes and their models, the longest first."""
        prefixes = [(m.name[:-1].lower(), m) for m in self.models if m.name.endswith("*")]
        return sorted(prefixes, key=lambda pair: -len(pair[0]))

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The optional methods this adapter has, in the catalogue's words."""
        optional = ("poll", "watch", "cancel", "probe", "inventory", "find")
        own = [
            word for word in optional if getattr(type(self), word) is not getattr(Provider, word)
        ]
        return (*own, "stream") if self.streams else tuple(own)
