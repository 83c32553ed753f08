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

import base64
import hmac
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_args

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from providers.http import Reply, Session

TaskType = Literal[
    "chat",
    "text-to-image",
    "image-to-image",
    "text-to-video",
    "image-to-video",
    "video-to-video",
    "text-to-audio",
    "audio-to-text",
    "embedding",
    "comfy-workflow",
    "coze-workflow",
]
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)

ErrorKind = Literal[
    "transient",
    "overloaded",
    "rate_limited",
    "quota_exhausted",
    "bad_credentials",
    "not_available",
    "lost",
    "bad_input",
    "content_refused",
    "unknown_outcome",
]
ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)

AfterUnknown = Literal["resend", "key", "find", "verify"]
CancelOutcome = Literal["canceled", "too_late", "unsupported"]
OutputKind = Literal["image", "video", "audio", "text", "file"]
HealthStatus = Literal["healthy", "degraded", "down", "unknown"]
Login = Literal["ok", "expired", "not_applicable"]
AbortReason = Literal["canceled", "fenced", "shutdown"]


class Params(BaseModel):
    """The `input` a model takes: validation at submit, `input_schema` of the catalogue, form of the admin."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def given(self) -> dict[str, Any]:
        """Only what the caller sent, in JSON types; a null counts as not sent."""
        return self.model_dump(mode="json", exclude_unset=True, exclude_none=True)


@dataclass(frozen=True)
class Family:
    """A routing class with a queue of its own. `patterns` are literal prefixes that end in `*`."""

    name: str
    patterns: Sequence[str] = ()
    provider: str = ""  # filled in by the registry for families that a provider declares


@dataclass(frozen=True)
class Model:
    """What a provider says about a model, or about every model of a prefix (`name="gpt-image*"`).

    `task_types`: the first is taken when a request names none. `params`: the closed schema of `input`;
    None = the shared input names are checked, others pass. A name with `*` gives types and schema to all
    models that match (longest prefix wins) and is not listed in the catalogue.
    """

    name: str
    task_types: Sequence[TaskType]
    params: type[Params] | None = None
    aliases: Sequence[str] = ()
    description: str = ""
    price_hint: str | None = (
        None  # for people: "1 credit per image"; prices are rules of the wallet
    )


class Secret:
    """A vendor credential. Prints as ***; `reveal()` is for the code that builds authentication headers."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not written anywhere")


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


class Input(ABC):
    """A media file of the request, owned by GenPulse."""

    content_type: str
    filename: str | None = None

    @abstractmethod
    def url(self) -> str:
        """A signed address, good for at least an hour, for vendors that fetch for themselves."""

    @abstractmethod
    def bytes(self) -> bytes:
        """The whole content."""

    def base64(self) -> str:
        return base64.b64encode(self.bytes()).decode("ascii")

    def data_uri(self) -> str:
        return f"data:{self.content_type};base64,{self.base64()}"


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
class Output:
    """One file of a result: an address the engine fetches, or the bytes themselves. Exactly one of both.

    An address of the executor's own origin is fetched with its credential, any other one without.
    `meta` may name `width, height, duration_seconds, seed, revised_prompt`.
    """

    kind: OutputKind
    url: str | None = None
    data: bytes | None = None
    content_type: str | None = None
    filename: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.url is None) == (self.data is None):
            raise ValueError("an output has either url or data")


@dataclass(frozen=True)
class Completed:
    """The work is done.

    `usage`: any of prompt_tokens, completion_tokens, total_tokens, images, seconds, characters, calls, megapixels.
    `message`: the assistant message in OpenAI's shape (chat) plus `finish_reason`. `data`: JSON results without a file (embeddings,
    segments). `vendor_cost`: micro-credits, when the vendor says what it charged.
    """

    outputs: Sequence[Output] = ()
    usage: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    message: Mapping[str, Any] | None = None
    data: Any = None
    vendor_cost: int | None = None


@dataclass(frozen=True)
class Accepted:
    """The vendor took the job and will work on it. `poll_after`: seconds until asking makes sense."""

    external_id: str
    poll_after: float | None = None


@dataclass(frozen=True)
class Absent:
    """`find` is certain: the vendor never got the job, it may be sent again."""


class ProviderError(Exception):
    """The attempt failed. `kind` alone decides what the engine does.

    `message` is shown to users: no host, no key, no vendor body. `code`: stable lower-case word, default the kind.
    `retry_after`: seconds the vendor asks to wait. `retries`: at most so many more on this executor (0 or 1; None = the
    kind's own number). `refusal`: the vendor's own words when it refused the content. `raw`: the vendor's answer for
    operators, scrubbed and cut by `providers.http`. `blames_executor=False`: says nothing about the executor's health.
    """

    def __init__(  # noqa: PLR0913 - each is a separate fact about the failure
        self,
        kind: ErrorKind,
        message: str,
        code: str | None = None,
        *,
        retry_after: float | None = None,
        retries: Literal[0, 1] | None = None,
        refusal: str | None = None,
        raw: str | None = None,
        blames_executor: bool = True,
    ) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.message = message
        self.code: str = code or kind
        self.retry_after = retry_after
        self.retries = retries
        self.refusal = refusal
        self.raw = raw
        self.blames_executor = blames_executor
        self.status: int | None = None  # of the HTTP answer behind it; `http` sets it

    def __repr__(self) -> str:
        return f"ProviderError({self.kind!r}, {self.message!r}, code={self.code!r})"


class Aborted(Exception):
    """The engine took the call back (cancel, newer attempt, shutdown). Adapters let it pass through."""

    def __init__(self, reason: AbortReason = "canceled") -> None:
        super().__init__(f"the call was taken back: {reason}")
        self.reason: AbortReason = reason


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


@dataclass(frozen=True)
class Health:
    """The answer of a probe. `message` is one line for operators."""

    status: HealthStatus
    login: Login = "not_applicable"
    message: str = ""


@dataclass(frozen=True)
class Inventory:
    """What an executor has: model ids (`*` patterns allowed), node classes, version, the model in its memory."""

    models: Sequence[str] = ()
    nodes: Sequence[str] = ()
    version: str = ""
    loaded_model: str | None = None


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
        for candidate in self.models:
            if wanted in {candidate.name.lower(), *(alias.lower() for alias in candidate.aliases)}:
                return candidate
        prefixes = [
            m
            for m in self.models
            if m.name.endswith("*") and wanted.startswith(m.name[:-1].lower())
        ]
        return max(prefixes, key=lambda candidate: len(candidate.name), default=None)

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The optional methods this adapter has, in the catalogue's words."""
        optional = ("poll", "watch", "cancel", "probe", "inventory", "find")
        own = [
            word for word in optional if getattr(type(self), word) is not getattr(Provider, word)
        ]
        return (*own, "stream") if self.streams else tuple(own)
