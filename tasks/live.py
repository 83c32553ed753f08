"""What passes by and is not stored: progress, previews, deltas."""

from typing import Any

from tasks.desk import Holding
from tasks.work import Work


class Emitter:
    """The `Emit` of one attempt."""

    def __init__(self, work: Work, held: Holding) -> None:
        self.work = work
        self.held = held

    def progress(
        self,
        fraction: float,
        *,
        phase: str | None = None,
        step: int | None = None,
        steps: int | None = None,
        node: str | None = None,
    ) -> None:
        self.held.progress = max(self.held.progress, min(int(fraction * 100), 99))
        self.held.phase = phase or self.held.phase

    def preview(self, data: bytes, content_type: str) -> None:
        """Shown to whoever watches; nobody does yet."""

    def delta(
        self, text: str = "", reasoning: str = "", tool_calls: list[dict[str, Any]] | None = None
    ) -> None:
        self.held.delta_sent = True

    def close(self) -> None:
        """Flush what waits."""


def emitter(work: Work, held: Holding) -> Emitter:
    return Emitter(work, held)
