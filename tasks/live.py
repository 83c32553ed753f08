"""What passes by and is not stored: progress, previews, deltas. The side of the workers.

A job thread only takes notes; one thread for the process sends them in one pipelined round trip: progress and
previews at most ten times a second for each task, deltas at once, then every 20 ms or 32 pieces. While Redis is away what is told
gets lost; deltas are numbered, so that readers notice, and are then said again as a whole.
"""

import json
import threading
import time
from base64 import b64encode
from datetime import UTC, datetime
from functools import cache
from typing import Any

import redis
import structlog

from genpulse.events import bells
from genpulse.http.parsing import render_time
from tasks import channels
from tasks.deltas import Said
from tasks.desk import Holding
from tasks.work import Work

log = structlog.get_logger(__name__)
PREVIEW_URL = 64 << 10
PREVIEW_TYPES = frozenset({"image/jpeg", "image/webp"})
NOTES_EVERY = 0.1
DELTAS_EVERY = 0.02
DELTAS_AT_ONCE = 32
KEPT_SECONDS = 600
MOST_ENTRIES = 500  # then the stream begins anew, with everything so far
PATIENCE = 0.5  # what the end of a call waits for its last deltas to be heard
PAUSE = 0.2  # after Redis was not to be reached


class Emitter:
    """The `Emit` of one attempt."""

    def __init__(self, work: Work, held: Holding) -> None:
        self.work, self.held = work, held
        self.task, self.batch = str(work.task_id), work.batch_id and str(work.batch_id)
        self.channel, self.key = channels.passing(work.account_id), channels.deltas(work.task_id)
        self._lock = threading.Lock()
        self._notes: dict[str, dict[str, Any]] = {}  # the latest of each type
        self._told = 0.0
        self._new, self._all = Said(), Said()
        self._pieces = 0
        self._number = 0  # entries sent
        self._entries = 0  # entries the stream has
        self._whole = False  # entries were lost: say everything again
        self._at: int | None = None  # place of our entry in the round trip
        self._closed = False
        self._quiet = threading.Event()

    def progress(
        self,
        fraction: float,
        *,
        phase: str | None = None,
        step: int | None = None,
        steps: int | None = None,
        node: str | None = None,
    ) -> None:
        held = self.held
        held.progress = max(held.progress, min(int(fraction * 100), 99))
        held.phase = phase or held.phase
        shown = {"progress": held.progress, "phase": held.phase}
        self._note("task.progress", {**shown, "step": step, "steps": steps, "node": node})

    def preview(self, data: bytes, content_type: str) -> None:
        """What is too large, or no jpeg or webp, is left out: nothing is decoded here."""
        if content_type in PREVIEW_TYPES and len(data) < PREVIEW_URL * 3 // 4 - 30:
            url = f"data:{content_type};base64,{b64encode(data).decode()}"
            self._note("task.preview", {"data_url": url, "width": None, "height": None})

    def delta(
        self, text: str = "", reasoning: str = "", tool_calls: list[dict[str, Any]] | None = None
    ) -> None:
        self.held.delta_sent = True
        with self._lock:
            self._new.add(text, reasoning, tool_calls)
            self._pieces += 1
        speaker().note(self, hurry=self._pieces >= DELTAS_AT_ONCE)

    def close(self) -> None:
        """The last deltas are heard before the outcome is recorded, unless that takes too long."""
        self._closed = True
        with self._lock:
            self._notes.clear()
            waiting = self._pieces > 0
        if waiting:
            speaker().note(self, hurry=True)
            self._quiet.wait(PATIENCE)

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        at = render_time(datetime.now(UTC))
        with self._lock:
            self._notes[kind] = {**self._named(kind), "at": at, "data": data}
        speaker().note(self)

    def _named(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "task": self.task, "batch": self.batch}

    # What follows is the speaker's.

    def speak(self, pipe: Any) -> None:
        """Put what is due into `pipe`."""
        with self._lock:
            notes: dict[str, dict[str, Any]] = {}
            if time.monotonic() - self._told >= NOTES_EVERY:
                notes, self._notes = self._notes, notes
            new, self._new, self._pieces = self._new, Said(), 0
        if notes:
            self._told = time.monotonic()
        for note in notes.values():
            pipe.publish(self.channel, json.dumps(note))
        self._at = None
        if self._whole or not new.empty:
            self._say(pipe, new)

    def _say(self, pipe: Any, new: Said) -> None:
        offset = len(self._all.text)
        self._all.add(new.text, new.reasoning, new.tool_calls)
        anew = self._whole or self._entries >= MOST_ENTRIES
        attempt = self.work.attempt
        piece = self._all.piece(attempt, reset=True) if anew else new.piece(attempt, offset=offset)
        if self._number == 0:
            pipe.delete(self.key)  # what an earlier attempt said
        self._at = len(pipe)
        pipe.xadd(
            self.key,
            {"d": json.dumps({**piece, "n": self._number})},
            maxlen=1 if anew else None,
            approximate=False,
            # A stream that is gone must not go on in its middle.
            nomkstream=self._number > 0 and not anew,
        )
        pipe.expire(self.key, KEPT_SECONDS)
        pipe.publish(self.channel, json.dumps(self._named("task.delta")))
        self._number += 1
        self._entries = 1 if anew else self._entries + 1
        self._whole = False

    def heard(self, results: list[Any] | None) -> bool:
        """What became of it, None: nothing was heard at all. True: there is more to say."""
        if self._at is not None:
            result = None if results is None else results[self._at]
            self._whole = result is None or isinstance(result, Exception)
        again = bool(self._whole or self._notes or self._pieces)
        if not again or results is None:
            self._quiet.set()
        return again and not (self._closed and results is None)


class Speaker:
    """The thread that sends what emitters noted."""

    def __init__(self) -> None:
        self._noted: dict[Emitter, None] = {}
        self._lock = threading.Lock()
        self._awake, self._hurry = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="speaker", daemon=True).start()

    def note(self, emitter: Emitter, *, hurry: bool = False) -> None:
        with self._lock:
            self._noted[emitter] = None
        self._awake.set()
        if hurry:
            self._hurry.set()

    def _run(self) -> None:
        sent = 0.0
        while True:
            self._awake.wait()
            self._hurry.wait(max(sent + DELTAS_EVERY - time.monotonic(), 0))
            self._awake.clear()
            self._hurry.clear()
            sent = time.monotonic()
            self._send()

    def _send(self) -> None:
        with self._lock:
            emitters, self._noted = list(self._noted), {}
        pipe = bells.live().pipeline(transaction=False)
        for emitter in emitters:
            emitter.speak(pipe)
        results: list[Any] | None = []
        try:
            results = pipe.execute(raise_on_error=False) if len(pipe) else []
        except (redis.RedisError, OSError) as error:
            log.warning("speaker.unheard", error=type(error).__name__)
            results = None
        for emitter in emitters:
            if emitter.heard(results):
                self.note(emitter)
        if results is None:
            time.sleep(PAUSE)


@cache
def speaker() -> Speaker:
    """The one of this process."""
    return Speaker()


def emitter(work: Work, held: Holding) -> Emitter:
    return Emitter(work, held)
