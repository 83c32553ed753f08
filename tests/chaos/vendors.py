"""Vendors that keep a journal, which is the truth about what was submitted twice."""

import random
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

    def _answer(self, request: Request) -> Response:
        if request.path == IMAGES:
            time.sleep(random.uniform(0, self.slowness))
        return super()._answer(request)

    def creates(self) -> Counter[str]:
        """How often each prompt was paid for."""
        return Counter(call.json["prompt"] for call in self.calls("POST", IMAGES))

    def doubles(self) -> list[str]:
        return [prompt for prompt, count in self.creates().items() if count > 1]


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
