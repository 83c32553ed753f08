"""Calls to an emulated ComfyUI, and how they end."""

import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.adapters.comfyui import ComfyUI as Adapter
from providers.base import Call, Completed, Output, ProviderError
from providers.testing import make_call
from tests.emulators.base import Emulator
from tests.emulators.comfyui import ComfyUI

ADAPTER = Adapter()
ASSET = "asset:01936f2c-7a10-7c3e-9d54-3f1f2a6b8c01"


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


SOLID: dict[str, Any] = {
    "1": node("EmptyImage", "INPUT_color", width=16, height=8, batch_size=1, color=255),
    "2": node("ImageInvert", image=["1", 0]),
    "3": node("SaveImage", images=["2", 0], filename_prefix="demo/solid"),
}
DIFFUSION: dict[str, Any] = {
    "1": node("CheckpointLoaderSimple", ckpt_name="sd_xl.safetensors"),
    "2": node("CLIPTextEncode", "INPUT_prompt", text="", clip=["1", 1]),
    "3": node("CLIPTextEncode", "INPUT_negative_prompt", text="", clip=["1", 1]),
    "4": node("EmptyLatentImage", "INPUT_size", width=16, height=16, batch_size=1),
    "5": node(
        "KSampler", "INPUT_seed", seed=-1, steps=4, cfg=7, sampler_name="euler", scheduler="normal",
        denoise=1.0, model=["1", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0],
    ),
    "6": node("VAEDecode", samples=["5", 0], vae=["1", 2]),
    "7": node("SaveImage", images=["6", 0], filename_prefix="sd"),
}  # fmt: skip
EDIT: dict[str, Any] = {
    "1": node("LoadImage", "INPUT_photo", image="example.png"),
    "2": node("SaveImage", images=["1", 0], filename_prefix="edit"),
}


def call_at(server: Emulator, workflow: Any = SOLID, **more: Any) -> Call:
    given = {"workflow": workflow, "inputs": more.pop("named", {})}
    more.setdefault("submit_key", str(uuid.uuid4()))
    return make_call(ADAPTER, "comfyui", given, base_url=server.url, **more)


def accepted(call: Call) -> Call:
    """The call the engine polls with."""
    return replace(call, external_id=ADAPTER.submit(call).external_id)


def state_of(call: Call) -> Any:
    (update,) = ADAPTER.poll([call])
    return update.state


def outcome(server: ComfyUI, call: Call) -> Any:
    """How it ended."""
    server.wait(lambda: state_of(call) != "working")
    return state_of(call)


def done(server: ComfyUI, call: Call) -> Completed:
    result = outcome(server, accepted(call))
    assert isinstance(result, Completed), result
    return result


def problem_of(server: ComfyUI, call: Call) -> ProviderError:
    result = outcome(server, call)
    assert isinstance(result, ProviderError), result
    return result


def refusal(call: Call) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ADAPTER.submit(call)
    return caught.value


def content(server: ComfyUI, output: Output) -> bytes:
    """What the engine would fetch."""
    url = urlsplit(output.url or "")
    assert f"{url.scheme}://{url.netloc}" == server.url
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    place = (query["type"], query.get("subfolder", ""), query["filename"])
    return server.engine.files[place]
