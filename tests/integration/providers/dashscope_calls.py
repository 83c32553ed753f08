"""Calls of the DashScope adapter, as its tests make them."""

from dataclasses import replace
from typing import Any

import pytest

from providers.adapters.dashscope import DashScope
from providers.base import (
    Accepted,
    Call,
    Params,
    ProviderError,
    Update,
)
from providers.testing import FakeInput, make_call
from tests.emulators.base import (
    Fault,
    answered,
)
from tests.emulators.dashscope import KEY, Bailian, refused

AIGC = "/api/v1/services/aigc/"


DRAW_PATH = AIGC + "text2image/image-synthesis"


EDIT_PATH = AIGC + "image2image/image-synthesis"


FILM_PATH = AIGC + "video-generation/video-synthesis"


FRAMES_PATH = AIGC + "image2video/video-synthesis"


JOB_DIALOGUE_PATH = AIGC + "image-generation/generation"


DIALOGUE_PATH = AIGC + "multimodal-generation/generation"


SPEECH_PATH = "/api/v1/services/audio/tts/SpeechSynthesizer"


CHAT_PATH = "/compatible-mode/v1/chat/completions"


TASKS = "/api/v1/tasks/"


DRAW, FILM, DIALOGUE, CHAT, TTS = (
    "wan2.5-t2i-preview",
    "wan2.6-t2v",
    "qwen-image-max",
    "qwen-plus",
    "qwen-tts",
)


PATHS = {
    DRAW: DRAW_PATH,
    FILM: FILM_PATH,
    DIALOGUE: DIALOGUE_PATH,
    TTS: DIALOGUE_PATH,
    CHAT: CHAT_PATH,
}


TYPES = {DIALOGUE: "text-to-image"}


KITE = {"prompt": "a red kite"}


INSPECTED = {"code": "DataInspectionFailed", "message": "may contain inappropriate content"}


def asked(server: Bailian, model: str, given: dict[str, Any] | None = None, **more: Any) -> Call:
    more.setdefault("credential", KEY)
    if model in TYPES:
        more.setdefault("task_type", TYPES[model])
    return make_call(DashScope(), model, given or KITE, base_url=server.base_url, **more)


def with_images(server: Bailian, model: str, given: dict[str, Any], **more: Any) -> Call:
    names = given.get("images", ())
    inputs = {f"images.{index}": FakeInput(b"one") for index in range(len(names))}
    inputs |= {name: FakeInput(b"two") for name in ("mask", "audio") if name in given}
    return asked(server, model, given, inputs=inputs, **more)


def accepted(server: Bailian, *states: Any, model: str = DRAW, **more: Any) -> Call:
    """A job the vendor works on; `states` are what it will say, one look after the other."""
    if states:
        server.states.append(states)
    call = asked(server, model, **more)
    answer = DashScope().submit(call)
    assert isinstance(answer, Accepted)
    return replace(call, external_id=answer.external_id)


def look(*calls: Call) -> list[Update]:
    return list(DashScope().poll(calls))


def failure(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        DashScope().submit(call)
    return caught.value


def refusal(status: int, code: str, message: str = "") -> Fault:
    return answered(status, refused(status, code, message).body)


def schema(model: str) -> type[Params]:
    declared = DashScope().declared(model)
    assert declared is not None
    assert declared.params is not None
    return declared.params
