"""Calls to the Ollama emulator."""

from typing import Any

from providers.adapters.qwen import Qwen
from providers.base import Call, Completed
from providers.testing import make_call
from tests.emulators.base import (
    Fault,
    answered,
)
from tests.emulators.ollama import Ollama as Vendor

CHAT, COMPATIBLE = "/api/chat", "/v1/chat/completions"
provider = Qwen()


def ask(vendor: Vendor, text: str = "Hi", model: str = "qwen3:8b", **more: Any) -> Call:
    given = {"prompt": text, **more.pop("input", {})}
    base_url = vendor.url + more.pop("base", "")
    return make_call(provider, model, given, base_url=base_url, credential=None, **more)


def said(vendor: Vendor, **more: Any) -> Completed:
    answer = provider.submit(ask(vendor, **more))
    assert answer.message
    return answer


def refused(status: int, words: str) -> Fault:
    return answered(status, {"error": words})


def part(text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "done": False}
