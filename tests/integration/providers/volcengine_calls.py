"""Calls of the Volcengine adapter, as its tests make them."""

from dataclasses import replace
from typing import Any

import pytest

from providers.adapters.volcengine import Volcengine
from providers.base import (
    Accepted,
    Call,
    Params,
    ProviderError,
    Update,
)
from providers.testing import make_call
from tests.emulators.base import (
    Fault,
    answered,
)
from tests.emulators.volcengine import KEY, Ark, refused

CHAT_PATH = "/api/v3/chat/completions"


IMAGES_PATH = "/api/v3/images/generations"


JOBS_PATH = "/api/v3/contents/generations/tasks"


CHAT, IMAGE, VIDEO = (
    "doubao-pro-4k",
    "doubao-seedream-3-0-t2i-250415",
    "doubao-seedance-1-0-pro-250528",
)


PATHS = {CHAT: CHAT_PATH, IMAGE: IMAGES_PATH, VIDEO: JOBS_PATH}


KITE = {"prompt": "a red kite"}


def asked(server: Ark, model: str, given: dict[str, Any] | None = None, **more: Any) -> Call:
    more.setdefault("credential", KEY)
    return make_call(Volcengine(), model, given or KITE, base_url=server.base_url, **more)


def accepted(server: Ark, *states: Any, **more: Any) -> Call:
    """A video that Ark works on; `states` are what it will say, one look after the other."""
    if states:
        server.states.append(states)
    call = asked(server, VIDEO, **more)
    answer = Volcengine().submit(call)
    assert isinstance(answer, Accepted)
    return replace(call, external_id=answer.external_id)


def look(*calls: Call) -> list[Update]:
    return list(Volcengine().poll(calls))


def failure(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        Volcengine().submit(call)
    return caught.value


def refusal(status: int, code: str, message: str = "") -> Fault:
    return answered(status, refused(status, code, message).body)


def schema(model: str) -> type[Params]:
    declared = Volcengine().declared(model)
    assert declared is not None
    assert declared.params is not None
    return declared.params
