"""Calls to the Gemini emulator."""

from typing import Any

from providers.adapters.gemini import Gemini
from providers.base import Call
from providers.testing import make_call
from tests.emulators import gemini
from tests.emulators.base import Fault, answered
from tests.emulators.gemini import Gemini as Vendor

MODELS = "/v1beta/models"
CHAT = f"{MODELS}/gemini-2.5-flash:generateContent"
STREAM = f"{MODELS}/gemini-2.5-flash:streamGenerateContent"
PICTURES = f"{MODELS}/gemini-3.1-flash-image-preview:generateContent"
provider = Gemini()


def ask(vendor: Vendor, text: str = "Hi", **more: Any) -> Call:
    given = {"prompt": text, **more.pop("input", {})}
    return make_call(provider, "gemini-2.5-flash", given, base_url=vendor.base, **more)


def draw(vendor: Vendor, model: str = "gemini-3.1-flash-image-preview", **more: Any) -> Call:
    given = {"prompt": "a kite", **more.pop("input", {})}
    kind = {"task_type": "text-to-image", **more}
    return make_call(provider, model, given, base_url=vendor.base, **kind)


def film(vendor: Vendor, model: str = "veo-3.1-generate-001", **more: Any) -> Call:
    given = {"prompt": "a kite", **more.pop("input", {})}
    return make_call(provider, model, given, base_url=vendor.base, **more)


def refused(status: int, word: str, message: str = "No.", *details: dict[str, Any]) -> Fault:
    return answered(status, gemini.error(status, word, message, *details).body)
