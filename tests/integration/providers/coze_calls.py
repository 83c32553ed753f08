"""Calls of the Coze adapter, as its tests make them."""

from dataclasses import replace
from typing import Any

import pytest

from providers.adapters.coze import Coze
from providers.base import Accepted, Call, Completed, ProviderError, Update
from providers.testing import make_call
from tests.emulators.base import (
    Fault,
    answered,
)
from tests.emulators.coze import KEY, CozeServer, envelope

FLOW = "7561161554420482088"


RUN, STREAM = "/v1/workflow/run", "/v1/workflow/stream_run"


GIVEN = {"workflow_id": FLOW, "parameters": {"prompt": "kite"}}


def asked(server: CozeServer, given: dict[str, Any] | None = None, **more: Any) -> Call:
    more.setdefault("credential", KEY)
    return make_call(
        Coze(), more.pop("model", ""), GIVEN | (given or {}), base_url=server.url, **more
    )


def ran(server: CozeServer, given: dict[str, Any] | None = None, **more: Any) -> Completed:
    answer = Coze().submit(asked(server, given, **more))
    assert isinstance(answer, Completed)
    return answer


def accepted(server: CozeServer, *states: Any, **more: Any) -> Call:
    """A run in the background; `states` are what it will say, one look after the other."""
    if states:
        server.states.append(states)
    call = asked(server, {"is_async": True}, **more)
    answer = Coze().submit(call)
    assert isinstance(answer, Accepted)
    return replace(call, external_id=answer.external_id)


def look(*calls: Call) -> list[Update]:
    return list(Coze().poll(calls))


def failure(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        Coze().submit(call)
    return caught.value


def said(code: int, msg: str = "no") -> Fault:
    """A business error: HTTP 200."""
    return answered(200, envelope(code, msg))
