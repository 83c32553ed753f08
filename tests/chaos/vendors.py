"""Vendors that keep a journal, which is the truth about what was submitted twice."""

import random
import threading
import time
from collections import Counter
from typing import Any

from tests.emulators.base import Answer, Emulator, Request, Response, route
from tests.emulators.openai import OpenAI

IMAGES = "/v1/images/generations"
JOBS = "/jobs"


class Painter(OpenAI):
    """Knows neither keys nor look-ups: whatever arrives is painted, and paid. Takes up to `slowness` seconds."""

    slowness = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.busy = self.busiest = 0  # pictures in work now, and at most
        self._brushes = threading.Lock()

    def _answer(self, request: Request) -> Response:
        if request.path != IMAGES:
            return super()._answer(request)
        with self._brushes:
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        try:
            time.sleep(random.uniform(0, self.slowness))
            return super()._answer(request)
        finally:
            with self._brushes:
                self.busy -= 1

    def creates(self) -> Counter[str]:
        """How often each prompt was paid for."""
        return Counter(call.json["prompt"] for call in self.calls("POST", IMAGES))

    def doubles(self) -> list[str]:
        return [prompt for prompt, count in self.creates().items() if count > 1]


class Mortal(Painter):
    """Dies and comes back at the same address."""

    def die(self) -> None:
        self._server.shutdown()
        self._server.cut_all()
        self._server.server_close()

    def live_again(self) -> None:
        port = self._server.server_port
        self._server = type(self._server)(self, port)
        threading.Thread(target=self._server.serve_forever, args=(0.005,), daemon=True).start()


class Stormy(Painter):
    """While `storming`, it refuses: too many requests, overloaded, an error of its own, in turn."""

    WAIT = 1  # seconds, in Retry-After
    REFUSALS: tuple[tuple[int, dict[str, str], str], ...] = (
        (429, {"retry-after": str(WAIT)}, "rate_limit_exceeded"),
        (503, {}, "overloaded"),
        (500, {}, "server_error"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.storming = False
        self.painted: Counter[str] = Counter()
        self.refused: Counter[int] = Counter()
        self.early = 0  # came back before its Retry-After was over
        self._not_before: dict[str, float] = {}

    def _answer(self, request: Request) -> Response:
        if request.path != IMAGES:
            return super()._answer(request)
        prompt = request.json["prompt"]
        with self._brushes:
            self.early += time.monotonic() < self._not_before.get(prompt, 0)
            refusal = random.choice(self.REFUSALS) if self.storming else None
        if refusal is None:
            self.painted[prompt] += 1
            return super()._answer(request)
        status, headers, code = refusal
        with self._brushes:
            self.refused[status] += 1
            if status == 429:
                self._not_before[prompt] = time.monotonic() + self.WAIT
        return Response(status, {"error": {"message": "not now", "code": code}}, dict(headers))


class Keyed(Emulator):
    """Knows idempotency keys: the same key is the same job, whoever asks again hears the first answer."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, str] = {}

    @route("POST", JOBS)
    def create(self, request: Request) -> Answer:
        key = request.headers["Idempotency-Key"]
        self.jobs.setdefault(key, request.json["prompt"])
        return {"text": f"done: {self.jobs[key]}"}

    @property
    def base(self) -> str:
        return self.url

    def accepted(self) -> Counter[str]:
        """Jobs made for each prompt."""
        return Counter(self.jobs.values())

    def sent(self) -> Counter[str]:
        """Requests of each prompt."""
        return Counter(str(call.json["prompt"]) for call in self.calls("POST", JOBS))


def solid(color: int) -> dict[str, Any]:
    """A ComfyUI workflow that paints one colour."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": color},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "solid"},
        },
    }
