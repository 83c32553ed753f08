"""The values that pass between the engine and its adapters: words, parameters, inputs, outcomes, errors.

`providers.base` exports all of them.
"""

from __future__ import annotations

import base64
import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

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

    @cached_property
    def prefixes(self) -> tuple[str, ...]:
        """What the patterns begin with, in lower case."""
        return tuple(pattern.removesuffix("*").lower() for pattern in self.patterns)


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
