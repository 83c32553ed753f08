"""For the tests of adapters: a `Call` without an engine, and the contract every adapter keeps.

    call = make_call(Acme(), model="acme-image-1", input={"prompt": "a kite"}, base_url=emulator.url)
    result = Acme().submit(call)
    assert call.emit.deltas == []

    class TestAcme(ProviderContract):
        provider = Acme()
        ...

The contract needs pytest, the rest nothing but the standard library.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import Call, ExecutorInfo, Input, Model, Params, Provider, Secret, TaskType
from providers.contract import ProviderContract
from providers.http import Session
from providers.params import OpenParams

__all__ = ["CREDENTIAL", "FakeInput", "ProviderContract", "Recorder", "executor_at", "make_call"]

CREDENTIAL = "test-credential-0123456789"
NOWHERE = "http://127.0.0.1:9"  # nothing listens on the discard port


@dataclass
class Recorder:
    """An `Emit` that remembers."""

    progresses: list[float] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    previews: list[tuple[bytes, str]] = field(default_factory=list)
    deltas: list[tuple[str, str, list[dict[str, Any]] | None]] = field(default_factory=list)

    def progress(
        self,
        fraction: float,
        *,
        phase: str | None = None,
        step: int | None = None,
        steps: int | None = None,
        node: str | None = None,
    ) -> None:
        self.progresses.append(fraction)
        if phase:
            self.phases.append(phase)

    def preview(self, data: bytes, content_type: str) -> None:
        self.previews.append((data, content_type))

    def delta(
        self, text: str = "", reasoning: str = "", tool_calls: list[dict[str, Any]] | None = None
    ) -> None:
        self.deltas.append((text, reasoning, tool_calls))

    @property
    def text(self) -> str:
        return "".join(text for text, _, _ in self.deltas)


@dataclass
class FakeInput(Input):
    """A media file in memory."""

    content: bytes = b"content"
    content_type: str = "image/png"
    address: str = "https://media.example/file.png"
    filename: str | None = None

    def url(self) -> str:
        return self.address

    def bytes(self) -> bytes:
        return self.content


def executor_at(
    provider: Provider,
    base_url: str = NOWHERE,
    *,
    credential: str | None = CREDENTIAL,
    config: Mapping[str, Any] | None = None,
    session: Session | None = None,
) -> ExecutorInfo:
    """An executor with a session bound to it, for `probe` and `inventory`."""
    session = session or Session(base_url)
    secret = Secret(credential) if credential else None
    executor = ExecutorInfo(
        http=session, name="test", base_url=base_url, credential=secret, config=config or {}
    )
    return session.bind(provider, executor)


def make_call(
    provider: Provider | None = None,
    model: str = "",
    input: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
    **more: Any,
) -> Call:
    """A call as the engine would build it.

    `more`: any field of Call, plus `base_url`, `credential` (text or None), `config`, `timeout` (seconds) and `sent`, a
    list that gets an entry each time `sending` is called. The parameters are read with the declared schema.
    """
    provider = provider or Provider()
    model = model or next((m.name for m in provider.models), "test-model")
    declared = provider.declared(model)
    emit, sent = more.pop("emit", None) or Recorder(), more.pop("sent", [])
    deadline = time.monotonic() + more.pop("timeout", 30.0)
    sending = more.pop("sending", lambda: sent.append(time.monotonic()))
    base_url = more.pop("base_url", NOWHERE)
    session = Session(base_url, deadline=deadline, sending=sending)
    place = {name: more.pop(name) for name in ("credential", "config") if name in more}
    executor = more.pop("executor", None) or executor_at(
        provider, base_url, session=session, **place
    )
    fields: dict[str, Any] = {
        "task_id": "01936f2c-7a10-7c3e-9d54-3f1f2a6b8c01",
        "attempt": 1,
        "model": model,
        "task_type": _first_type(declared),
        "params": _params(declared, input or {}),
        "inputs": {},
        "submit_key": "5b0b5b6e-5f0c-5d0a-9d54-3f1f2a6b8c01",
        "cancelled": lambda: session.aborted is not None,
    }
    call = fields | more
    return Call(executor=executor, emit=emit, deadline=deadline, sending=sending, **call)


def _first_type(declared: Model | None) -> TaskType:
    return declared.task_types[0] if declared else "chat"


def _params(declared: Model | None, given: Mapping[str, Any]) -> Params:
    schema = declared.params if declared and declared.params else OpenParams
    return schema.model_validate(dict(given))
