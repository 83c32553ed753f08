"""What the ComfyUI adapter sends, and what it makes of results and refusals."""

import copy
import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.base import Call
from providers.testing import FakeInput, ProviderContract, make_call
from tests.emulators.base import answered, as_fixture, drop_answer
from tests.emulators.comfyui import ComfyUI
from tests.integration.providers.comfy_calls import (
    ADAPTER,
    ASSET,
    DIFFUSION,
    EDIT,
    SOLID,
    accepted,
    call_at,
    content,
    done,
    node,
    problem_of,
    refusal,
    state_of,
)
from tests.integration.providers.rows import Row, table

comfy = as_fixture(ComfyUI)


class TestContract(ProviderContract):
    provider = ADAPTER

    @pytest.fixture(autouse=True)
    def vendor(self, comfy: ComfyUI) -> None:
        self.comfy = comfy

    def make(self, **more: Any) -> Call:
        return call_at(self.comfy, **more)

    def creates(self) -> int:
        return self.comfy.count("POST", "/prompt")

    def fails_with(self, exception_type: str, message: str) -> None:
        # An earlier success would be cached: nothing would be executed that could fail.
        self.comfy.engine.forget_results()
        self.comfy.fail_next(exception_type, message)

    faults = {
        "transient": lambda self: self.fails_with("torch.OutOfMemoryError", "Allocation on device"),
        "overloaded": lambda self: self.comfy.next("POST", "/prompt", answered(503)),
        "bad_input": lambda self: self.fails_with("ValueError", "wrong shape"),
        # Last: the server runs this one all the same, and would take another's fault.
        "unknown_outcome": lambda self: self.comfy.next("POST", "/prompt", drop_answer()),
    }


def test_a_prompt_goes_out_once_with_an_id_of_ours(comfy: ComfyUI) -> None:
    call = call_at(comfy, named={"color": 7}, client_id="worker-1.gpu-1")
    result = done(comfy, call)
    (body,) = comfy.submitted()
    expected = copy.deepcopy(SOLID)
    expected["1"]["inputs"]["color"] = 7
    assert body == {
        "prompt": expected,
        "prompt_id": body["prompt_id"],
        "client_id": "worker-1.gpu-1",
        "extra_data": {"genpulse_id": body["prompt_id"]},
    }
    assert str(uuid.UUID(body["prompt_id"])) == body["prompt_id"]
    (image,) = result.outputs
    assert (image.kind, image.content_type, image.filename) == (
        "image",
        "image/png",
        "solid_00001_.png",
    )
    assert content(comfy, image).startswith(b"\x89PNG")


def test_each_attempt_has_an_id_of_its_own(comfy: ComfyUI) -> None:
    call = call_at(comfy)
    ids = [ADAPTER.submit(replace(call, attempt=n)).external_id for n in (1, 2)]
    assert len(set(ids)) == 2
    other = ADAPTER.submit(call_at(comfy)).external_id
    assert other not in ids


def test_no_request_looks_like_a_foreign_web_page(comfy: ComfyUI) -> None:
    done(comfy, call_at(comfy))
    assert not [request for request in comfy.calls() if "Origin" in request.headers]


@pytest.mark.parametrize(
    ("secret", "header"),
    [("tok-123", "Bearer tok-123"), ("ann:pass word", "Basic YW5uOnBhc3Mgd29yZA==")],
)
def test_a_proxy_before_the_server_gets_its_log_in(
    comfy: ComfyUI, secret: str, header: str
) -> None:
    ADAPTER.submit(call_at(comfy, credential=secret))
    (request,) = comfy.calls("POST", "/prompt")
    assert request.headers["Authorization"] == header


def test_a_model_bound_to_a_workflow(comfy: ComfyUI) -> None:
    given = {
        "workflow": DIFFUSION,
        "prompt": "a red kite",
        "negative_prompt": "blur",
        "width": 32,
        "height": 24,
        "seed": -1,
        "n": 1,
    }
    call = make_call(ADAPTER, "sd-xl", given, base_url=comfy.url, task_type="text-to-image")
    result = done(comfy, call)
    sent = comfy.submitted()[0]["prompt"]
    seed = sent["5"]["inputs"]["seed"]
    assert [sent[key]["inputs"]["text"] for key in "23"] == ["a red kite", "blur"]
    assert sent["4"]["inputs"] == {"width": 32, "height": 24, "batch_size": 1}
    assert seed >= 0
    assert result.outputs[0].meta == {"seed": seed}
    assert result.usage == {"images": 1.0}


def test_inputs_are_uploaded_under_names_of_ours(comfy: ComfyUI) -> None:
    photo = FakeInput(content=b"photo", content_type="image/jpeg", filename="../../me.jpg")
    call = call_at(comfy, EDIT, named={"photo": ASSET}, inputs={"inputs.photo": photo})
    done(comfy, call)
    name = comfy.submitted()[0]["prompt"]["1"]["inputs"]["image"]
    assert name.startswith("genpulse-")
    assert name.endswith(".jpg")
    assert comfy.engine.files["input", "", name] == b"photo"
    done(comfy, replace(call, attempt=2))
    assert len([key for key in comfy.engine.files if key[0] == "input"]) == 1


def test_images_of_a_bound_model_reach_their_nodes(comfy: ComfyUI) -> None:
    workflow = {
        "1": node("LoadImage", "INPUT_image", image="x.png"),
        "2": node("LoadImage", "INPUT_image_2", image="x.png"),
        "3": node("SaveImage", images=["1", 0], filename_prefix="a"),
        "4": node("SaveImage", images=["2", 0], filename_prefix="b"),
    }
    given = {"workflow": workflow, "images": [ASSET, ASSET]}
    files = {f"images.{n}": FakeInput(content=bytes([n])) for n in range(2)}
    call = make_call(ADAPTER, "flux-edit", given, base_url=comfy.url, inputs=files)
    assert len(done(comfy, call).outputs) == 2
    sent = comfy.submitted()[0]["prompt"]
    stored = [comfy.engine.files["input", "", sent[key]["inputs"]["image"]] for key in "12"]
    assert stored == [b"\x00", b"\x01"]


def test_the_servers_name_of_an_upload_is_not_trusted(comfy: ComfyUI) -> None:
    stolen = {"name": "../../etc/passwd", "subfolder": "", "type": "input"}
    comfy.next("POST", "/upload/image", answered(200, stolen))
    call = call_at(comfy, EDIT, named={"photo": ASSET}, inputs={"inputs.photo": FakeInput()})
    assert refusal(call).code == "bad_response"
    assert comfy.submitted() == []


MANY: dict[str, Any] = {
    "1": node("EmptyImage", width=8, height=8, batch_size=2, color=1),
    "2": node("SaveImage", images=["1", 0], filename_prefix="two"),
    "3": node("PreviewImage", images=["1", 0]),
    "4": node("VHS_VideoCombine", images=["1", 0], frame_rate=8, filename_prefix="clip"),
    "5": node("SaveWEBM", images=["1", 0], filename_prefix="web/clip"),
    "6": node("EmptyAudio", duration=1.0),
    "7": node("SaveAudio", audio=["6", 0], filename_prefix="song"),
    "8": node("StringConcatenate", string_a="hello", string_b="world", delimiter=" "),
    "9": node("PreviewAny", source=["8", 0]),
    "10": node("EmptyLatentImage", width=8, height=8, batch_size=1),
    "11": node("SaveLatent", samples=["10", 0], filename_prefix="latent"),
}


def test_all_kinds_of_outputs(comfy: ComfyUI) -> None:
    result = done(comfy, call_at(comfy, MANY))
    assert [(output.kind, output.filename) for output in result.outputs] == [
        ("image", "two_00001_.png"),
        ("image", "two_00002_.png"),
        ("video", "clip_00001_.mp4"),
        ("video", "clip_00001_.webm"),
        ("audio", "song_00001_.flac"),
        ("file", "latent_00001_.latent"),
    ]
    assert result.text == "hello world"
    assert all(content(comfy, output) for output in result.outputs)


def test_previews_are_the_result_of_a_workflow_that_saves_nothing(comfy: ComfyUI) -> None:
    workflow = {"1": MANY["1"], "3": MANY["3"]}
    outputs = done(comfy, call_at(comfy, workflow)).outputs
    assert [parse_qs(urlsplit(output.url or "").query)["type"] for output in outputs] == [
        ["temp"]
    ] * 2


def test_a_cached_run_has_all_its_outputs(comfy: ComfyUI) -> None:
    first = done(comfy, call_at(comfy, MANY))
    again = done(comfy, call_at(comfy, MANY))
    assert again.outputs == first.outputs
    changed = copy.deepcopy(MANY) | {
        "12": node("SaveImage", images=["1", 0], filename_prefix="new")
    }
    more = done(comfy, call_at(comfy, changed))
    assert len(more.outputs) == len(first.outputs) + 2


def test_an_old_build_that_forgets_cached_results_is_made_to_work_again(comfy: ComfyUI) -> None:
    comfy.engine.forgetful = True
    first = done(comfy, call_at(comfy))
    empty = problem_of(comfy, accepted(call_at(comfy)))
    assert (empty.kind, empty.code, empty.retries) == ("transient", "no_output", 1)
    assert comfy.freed >= 1
    assert len(done(comfy, call_at(comfy)).outputs) == len(first.outputs)


def test_a_failing_node_is_the_users_business(comfy: ComfyUI) -> None:
    comfy.fail_next("ValueError", "width of /srv/ComfyUI/input/x.png is odd")
    problem = problem_of(comfy, accepted(call_at(comfy)))
    assert (problem.kind, problem.code) == ("bad_input", "node_error")
    assert problem.message == "EmptyImage (node 1): width of x.png is odd"
    assert comfy.freed == 0


def test_out_of_memory_frees_the_server_and_may_be_tried_once_more(comfy: ComfyUI) -> None:
    comfy.fail_next("torch.OutOfMemoryError", "Allocation on device 0")
    call = accepted(call_at(comfy))
    comfy.wait(lambda: call.external_id in comfy.engine.history)
    comfy.next("POST", "/free", answered(500, "no JSON body"))
    problem = state_of(call)
    assert (problem.kind, problem.code, problem.retries) == ("transient", "node_error", 1)
    (request,) = comfy.calls("POST", "/free")
    assert request.json == {"unload_models": True, "free_memory": True}
    assert len(done(comfy, replace(call, attempt=2)).outputs) == 1


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"1": node("FancyNode")}, "not_available", "FancyNode"),
        ({"1": node("CheckpointLoaderSimple", ckpt_name="other.safetensors")}, "bad_input", "type mismatch"),
        ({"1": node("EmptyImage", width=0, height=8, batch_size=1, color=1)}, "bad_input", "width"),
        ({"1": node("EmptyImage", width=8, height=8, batch_size=1)}, "bad_input", "color: Required"),
        ({"3": node("ImageInvert", image=["2", 0])}, "bad_input", "no outputs"),
        ({"1": node("LoadImage", image="missing.png")}, "bad_input", "Custom validation"),
    ],
)  # fmt: skip
def test_what_the_server_refuses(comfy: ComfyUI, change: Any, kind: str, words: str) -> None:
    problem = refusal(call_at(comfy, copy.deepcopy(SOLID) | change))
    assert problem.kind == kind
    assert words.lower() in problem.message.lower()
    assert comfy.count("POST", "/prompt") == 1
    assert comfy.engine.history == {}


# ComfyUI itself knows neither accounts nor refusals of content; a proxy or a hosting service before it does.
BEFORE_IT = [
    Row("no log-in", answered(401, "Unauthorized"), "bad_credentials"),
    Row("no money", answered(402, {"error": "Payment Required"}), "quota_exhausted"),
    Row("forbidden", answered(403), "not_available"),
    Row("no such path", answered(404, "Not Found"), "not_available"),
    Row("too large", answered(413, "Maximum request body size exceeded"), "bad_input"),
    Row("slow down", answered(429, "Slow", retry_after="3"), "rate_limited", retry_after=3.0),
    Row("starting", answered(503, "<html>"), "overloaded"),
    Row("asleep", answered(502, "<html>"), "unknown_outcome"),
    Row("in trouble", answered(500, "Server got itself in trouble"), "unknown_outcome"),
]


@table(BEFORE_IT)
def test_what_stands_before_the_server(comfy: ComfyUI, row: Row) -> None:
    comfy.next("POST", "/prompt", row.fault)
    row.expect(ADAPTER, call_at(comfy))
    assert comfy.count("POST", "/prompt") == 1


def with_loader(class_type: str, **inputs: Any) -> dict[str, Any]:
    if class_type == "CheckpointLoaderSimple":
        return copy.deepcopy(DIFFUSION) | {"1": node(class_type, **inputs)}
    return copy.deepcopy(SOLID) | {
        "2": node("ImageUpscaleWithModel", image=["1", 0], upscale_model=["4", 0]),
        "4": node(class_type, **inputs),
    }


def test_a_model_the_server_lacks_may_be_on_another_one(comfy: ComfyUI) -> None:
    legacy = refusal(
        call_at(comfy, with_loader("CheckpointLoaderSimple", ckpt_name="flux.safetensors"))
    )
    assert (legacy.kind, comfy.count("POST", "/prompt")) == ("not_available", 1)
    assert "sd_xl" not in legacy.message
    # The server does not look at lists of the newer kind; it would fail in the middle of the work.
    newer = refusal(call_at(comfy, with_loader("UpscaleModelLoader", model_name="8x.pth")))
    assert (newer.kind, comfy.count("POST", "/prompt")) == ("not_available", 1)
    assert done(
        comfy, call_at(comfy, with_loader("UpscaleModelLoader", model_name="4x.pth"))
    ).outputs


def test_half_a_result_is_none(comfy: ComfyUI) -> None:
    """200 with node_errors: the server drops the outputs that failed validation and runs the others."""
    comfy.hold()
    workflow = copy.deepcopy(SOLID) | {
        "4": node("EmptyImage", width=0, height=8, batch_size=1, color=1),
        "5": node("SaveImage", images=["4", 0], filename_prefix="bad"),
    }
    problem = refusal(call_at(comfy, workflow))
    assert problem.kind == "bad_input"
    assert "width" in problem.message
    comfy.wait(lambda: comfy.engine.remaining() == 0)


def test_the_web_ui_format_is_refused_before_anything_is_sent(comfy: ComfyUI) -> None:
    problem = refusal(call_at(comfy, {"nodes": [], "links": []}))
    assert (problem.kind, problem.code) == ("bad_input", "workflow_format_ui")
    assert comfy.count() == 0


def test_an_unknown_input_is_refused_before_anything_is_sent(comfy: ComfyUI) -> None:
    problem = refusal(call_at(comfy, named={"colour": 3}))
    assert (problem.kind, comfy.count()) == ("bad_input", 0)
