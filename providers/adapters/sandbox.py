"""The built-in engine: needs no network, really makes files, says that it is the sandbox, fails on demand.

`input.sandbox` (see `Controls`) sets how long the work takes and how it goes wrong. Nothing is kept between two calls: a job
that was accepted carries its whole future in its external id, so any process may poll it, after any restart.
"""

import os
import re
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self, cast

from providers.base import (
    ERROR_KINDS,
    Absent,
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ErrorKind,
    ExecutorInfo,
    Health,
    Inventory,
    Model,
    Provider,
    ProviderError,
    Update,
)
from providers.sandbox.params import (
    AudioParams,
    EmbeddingParams,
    ImageParams,
    TextParams,
    TranscribeParams,
    VideoParams,
)
from providers.sandbox.results import check, controls, pause, result

STEPS = 10
REFUSAL = "The sandbox refused this content, as it was told to."


@dataclass(frozen=True)
class Ticket:
    """An accepted job, written into its external id. Times are wall-clock seconds."""

    started: float
    ready: float
    fail: ErrorKind | None = None
    retry_after: float = 0
    health: bool = False

    @classmethod
    def of(cls, call: Call, *, fail: ErrorKind | None) -> Self:
        now, asked = time.time(), controls(call)
        return cls(now, now + asked.latency, fail, asked.retry_after, asked.health)

    def __str__(self) -> str:
        start, ready = int(self.started * 1000), int(self.ready * 1000)
        wait = round(self.retry_after * 1000)
        return f"sandbox.{start}.{ready}.{self.fail or 'ok'}.{wait}.{int(self.health)}"

    @classmethod
    def read(cls, text: str | None) -> Self | None:
        match = re.fullmatch(r"sandbox\.(\d+)\.(\d+)\.(\w+)\.(\d+)\.([01])", text or "")
        if not match:
            return None
        start, ready, word, wait, health = match.groups()
        fail = cast(ErrorKind, word) if word in ERROR_KINDS else None
        return cls(int(start) / 1000, int(ready) / 1000, fail, int(wait) / 1000, health == "1")

    @property
    def progress(self) -> float:
        """0..1 in ten steps."""
        share = (time.time() - self.started) / max(self.ready - self.started, 0.001)
        return min(max(int(share * STEPS) / STEPS, 0.0), 1.0)


class Sandbox(Provider):
    """Six models, one for each kind of result."""

    name = "sandbox"
    description = "The built-in engine: no network, no cost, faults on demand."
    retry_submit = "find"
    streams = True
    models = (
        Model(
            "sandbox-text",
            ("chat",),
            TextParams,
            description="Answers with what it was asked.",
            price_hint="0.1 credits per call",
        ),
        Model(
            "sandbox-image",
            ("text-to-image", "image-to-image"),
            ImageParams,
            description="Draws prompt, seed and model as a PNG.",
            price_hint="1 credit per image",
        ),
        Model(
            "sandbox-video",
            ("text-to-video", "image-to-video", "video-to-video"),
            VideoParams,
            description="Makes a short WebM film.",
            price_hint="1 credit per second",
        ),
        Model(
            "sandbox-audio",
            ("text-to-audio",),
            AudioParams,
            description="Plays a little tune as WAV.",
            price_hint="0.5 credits per call",
        ),
        Model(
            "sandbox-transcribe",
            ("audio-to-text",),
            TranscribeParams,
            description="Tells how long a sound lasts.",
            price_hint="0.1 credits per call",
        ),
        Model(
            "sandbox-embedding",
            ("embedding",),
            EmbeddingParams,
            description="Gives every text its own direction.",
            price_hint="0.1 credits per call",
        ),
    )

    def submit(self, call: Call) -> Completed | Accepted:
        asked = controls(call)
        fail = asked.fail if asked.faulty(call.attempt) else None
        check(call)
        if asked.crash:
            os.kill(os.getpid(), signal.SIGKILL)
        if fail == "unknown_outcome" or asked.mode == "accept":
            call.sending()  # a vendor would take money here
        if asked.mode == "accept" and fail != "unknown_outcome":
            return Accepted(str(Ticket.of(call, fail=fail)), poll_after=asked.latency)
        _work(call, asked.latency)
        if fail:
            raise _fault(fail, asked.retry_after, blames=asked.health)
        return result(call)

    def poll(self, calls: Sequence[Call]) -> Iterable[Update]:
        return [_update(call) for call in calls]

    def find(self, call: Call) -> Accepted | Absent | None:
        """As `input.sandbox.find` says."""
        find = controls(call).find
        if find == "accepted":
            return Accepted(str(Ticket.of(call, fail=None)))
        return Absent() if find == "absent" else None

    def cancel(self, call: Call) -> CancelOutcome:
        ticket = Ticket.read(call.external_id)
        return "canceled" if ticket and time.time() < ticket.ready else "too_late"

    def probe(self, executor: ExecutorInfo) -> Health:
        return Health("healthy", message="The sandbox is part of GenPulse.")

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        return Inventory(models=[model.name for model in self.models])


def _work(call: Call, latency: float) -> None:
    if latency == 0:
        return
    for step in range(1, STEPS + 1):
        pause(call, latency / STEPS)
        call.emit.progress(step / STEPS, phase=f"step {step}/{STEPS}", step=step, steps=STEPS)
    check(call)


def _fault(kind: ErrorKind, retry_after: float, *, blames: bool) -> ProviderError:
    refused = kind == "content_refused"
    waits = kind in {"rate_limited", "overloaded"}
    return ProviderError(
        kind,
        REFUSAL if refused else f"The sandbox failed with {kind}, as it was told to.",
        retry_after=retry_after if waits else None,
        refusal=REFUSAL if refused else None,
        blames_executor=blames,
    )


def _update(call: Call) -> Update:
    ticket = Ticket.read(call.external_id)
    if ticket is None:
        return Update(call, _fault("lost", 0, blames=False))
    left = ticket.ready - time.time()
    if left > 0:
        phase = f"step {round(ticket.progress * STEPS)}/{STEPS}"
        return Update(call, "working", ticket.progress, phase, poll_after=left)
    if ticket.fail:
        return Update(call, _fault(ticket.fail, ticket.retry_after, blames=ticket.health))
    try:
        return Update(call, result(call))
    except ProviderError as problem:
        return Update(call, problem)
