"""Calls to the OpenAI emulator."""

from typing import Any

from providers.adapters.openai import OpenAI
from providers.base import Call
from providers.testing import make_call
from tests.emulators import openai
from tests.emulators.base import Fault, answered
from tests.emulators.openai import OpenAI as Vendor

CHAT, IMAGES, EDITS = "/v1/chat/completions", "/v1/images/generations", "/v1/images/edits"
provider = OpenAI()


def ask(vendor: Vendor, text: str = "Hi", model: str = "gpt-5", **more: Any) -> Call:
    given = {"prompt": text, **more.pop("input", {})}
    return make_call(provider, model, given, base_url=vendor.base, **more)


def draw(vendor: Vendor, model: str = "gpt-image-2", **more: Any) -> Call:
    given = {"prompt": "a kite", **more.pop("input", {})}
    return make_call(provider, model, given, base_url=vendor.base, **more)


def film(vendor: Vendor, **more: Any) -> Call:
    return make_call(provider, "sora-2", {"prompt": "a kite"}, base_url=vendor.base, **more)


def refused(status: int, *words: Any, **headers: str) -> Fault:
    return answered(status, openai.error(status, *words).body, **headers)
