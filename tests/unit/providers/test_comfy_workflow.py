"""Workflows in API format: named inputs, what is refused, what the catalogue shows."""

import copy
from typing import Any

import pytest

from providers.wire.comfy_workflow import (
    WorkflowError,
    named_inputs,
    place_of,
    prepare_workflow,
    workflow_inputs,
)

ASSET = "asset:01936f2c-7a10-7c3e-9d54-3f1f2a6b8c01"


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


PORTRAIT = {
    "1": node("CheckpointLoaderSimple", ckpt_name="sd_xl.safetensors"),
    "2": node("CLIPTextEncode", "INPUT_prompt", text="a cat", clip=["1", 1]),
    "3": node("EmptyLatentImage", "INPUT_size", width=512, height=768, batch_size=1),
    "4": node("KSampler", "INPUT_seed", seed=5, steps=20, cfg=8, latent_image=["3", 0]),
    "5": node("LoadImage", "INPUT_photo", image="example.png"),
    "6": node("SaveImage", filename_prefix="job/x", images=["4", 0]),
}


def refused(workflow: Any, **inputs: Any) -> WorkflowError:
    with pytest.raises(WorkflowError) as caught:
        prepare_workflow(workflow, inputs)
    assert caught.value.kind == "bad_input"
    return caught.value


def test_titled_nodes_take_their_values_and_nothing_else_changes() -> None:
    before = copy.deepcopy(PORTRAIT)
    filled = prepare_workflow(PORTRAIT, {"prompt": "a red kite", "size": "1024x512", "seed": 7})
    assert before == PORTRAIT
    expected = copy.deepcopy(PORTRAIT)
    expected["2"]["inputs"]["text"] = "a red kite"
    expected["3"]["inputs"] |= {"width": 1024, "height": 512}
    expected["4"]["inputs"]["seed"] = 7
    assert filled == expected


@pytest.mark.parametrize(
    ("inputs", "edges"),
    [
        ({"size": "640x480"}, (640, 480)),
        ({"size": "640*480"}, (640, 480)),
        ({"size_width": 640, "size_height": 480}, (640, 480)),
        ({"size_height": 480}, (512, 480)),
        ({"width": 640, "height": "480"}, (640, 480)),
        ({"size": "640x480", "size_width": 700}, (700, 480)),
        ({"size": None}, (512, 768)),
    ],
)
def test_a_size_can_be_given_as_one_or_as_two(
    inputs: dict[str, Any], edges: tuple[int, int]
) -> None:
    latent = prepare_workflow(PORTRAIT, inputs)["3"]["inputs"]
    assert (latent["width"], latent["height"]) == edges


@pytest.mark.parametrize(
    ("titled", "value", "field"),
    [
        (node("KSampler", "INPUT_steps", seed=1, steps=20), 30, "steps"),
        (node("KSampler", "INPUT_luck", seed=1, steps=20), 30, "seed"),
        (node("KSamplerAdvanced", "INPUT_luck", noise_seed=1, steps=20), 30, "noise_seed"),
        (node("CLIPTextEncode", "INPUT_prompt", clip=["2", 0]), "x", "text"),
        (node("CLIPTextEncode", "INPUT_clip", text="", clip=["2", 0]), "x", "text"),
        (node("PrimitiveNode", "INPUT_anything"), "x", "value"),
        (node("StringFancy", "INPUT_a", text="", seed=0, value=""), "x", "text"),
        (node("Fancy", "INPUT_a", value=1, seed=0), 3, "seed"),
        (node("Fancy", "INPUT_a", strength=0.5, model=["2", 0]), 0.7, "strength"),
        (node("LoadAudio", "INPUT_voice", audio="x.wav"), ASSET, "audio"),
        (node("LoadVideo", "INPUT_clip", file="x.mp4"), "https://example.com/a.mp4", "file"),
    ],
)
def test_where_a_value_goes(titled: dict[str, Any], value: Any, field: str) -> None:
    workflow = {"1": titled, "2": node("Other")}
    name = titled["_meta"]["title"].removeprefix("INPUT_")
    filled = prepare_workflow(workflow, {name: value})
    changed = {k: v for k, v in filled["1"]["inputs"].items() if titled["inputs"].get(k) != v}
    assert changed == {field: value}


def test_every_node_of_a_name_gets_the_value() -> None:
    workflow = {key: node("CLIPTextEncode", "INPUT_prompt", text="") for key in "ab"}
    filled = prepare_workflow(workflow, {"prompt": "kite"})
    assert [filled[key]["inputs"]["text"] for key in "ab"] == ["kite", "kite"]


def test_a_seed_of_minus_one_is_drawn_once_for_a_task() -> None:
    workflow = {
        "1": node("KSampler", "INPUT_seed", seed=5),
        "2": node("RandomNoise", noise_seed=-1),
        "3": node("PrimitiveInt", "INPUT_other_seed", value=3),
    }
    inputs = {"seed": -1, "other_seed": -1}
    one, again, other = (prepare_workflow(workflow, inputs, key=key) for key in "aab")
    seeds = {
        one["1"]["inputs"]["seed"],
        one["2"]["inputs"]["noise_seed"],
        one["3"]["inputs"]["value"],
    }
    assert one == again != other
    assert len(seeds) == 1
    assert 0 <= seeds.pop() < 2**53
    assert prepare_workflow(workflow, {})["1"]["inputs"]["seed"] == 5


def test_the_web_ui_format_is_refused_with_advice() -> None:
    problem = refused({"nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4})
    assert problem.code == "workflow_format_ui"
    assert "Save (API Format)" in problem.message
    assert problem.field == "workflow"


@pytest.mark.parametrize(
    ("workflow", "field", "problem"),
    [
        (None, "workflow", "type"),
        ("{}", "workflow", "type"),
        ({}, "workflow", "empty"),
        ({"1": "KSampler"}, "workflow.1", "type"),
        ({"1": {"inputs": {}}}, "workflow.1.class_type", "required"),
        ({"1": {"class_type": 7, "inputs": {}}}, "workflow.1.class_type", "required"),
        ({"1": {"class_type": "X"}}, "workflow.1.inputs", "required"),
        ({"1": node("X", image=["9", 0])}, "workflow.1.inputs.image", "choice"),
        ({"1": node("LoadImage", image="../../etc/x.png")}, "workflow.1.inputs.image", "format"),
        ({"1": node("LoadImage", image="/etc/x.png")}, "workflow.1.inputs.image", "format"),
        ({"1": node("LoadVideo", file="C:\\x.mp4")}, "workflow.1.inputs.file", "format"),
        ({"1": node("SaveImage", filename_prefix="a/../../b")}, "workflow.1.inputs.filename_prefix", "format"),
        ({"1": node("SaveImage", filename_prefix="%date:yyyy%/b")}, "workflow.1.inputs.filename_prefix", "format"),
    ],
)  # fmt: skip
def test_what_is_no_workflow_names_its_place(workflow: Any, field: str, problem: str) -> None:
    error = refused(workflow)
    assert (error.field, error.problem) == (field, problem)
    assert error.message.startswith(f"{field}: ")


@pytest.mark.parametrize("prefix", ["ComfyUI", "job/%year%-%month%/x", "Zug_ü (2)", "", "video/"])
def test_usual_file_name_prefixes_pass(prefix: str) -> None:
    assert prepare_workflow({"1": node("SaveImage", filename_prefix=prefix)}, {})


@pytest.mark.parametrize(
    ("inputs", "field", "problem"),
    [
        ({"color": "red"}, "inputs.color", "unknown"),
        ({"prompt": ["1", 0]}, "inputs.prompt", "type"),
        ({"prompt": True}, "inputs.prompt", "type"),
        ({"seed": "soon"}, "inputs.seed", "type"),
        ({"seed": 1.5}, "inputs.seed", "type"),
        ({"seed": float("nan")}, "inputs.seed", "type"),
        ({"size": "big"}, "inputs.size", "type"),
        ({"size": "0x5"}, "inputs.size", "type"),
        ({"photo": "someone_elses.png"}, "inputs.photo", "format"),
        ({"photo": 5}, "inputs.photo", "format"),
    ],
)
def test_values_that_do_not_fit(inputs: dict[str, Any], field: str, problem: str) -> None:
    error = refused(PORTRAIT, **inputs)
    assert (error.field, error.problem) == (field, problem)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    error = refused(PORTRAIT, color="red")
    assert "prompt, size, size_width, size_height, seed, photo" in error.message


def test_a_value_the_workflow_lacks_must_be_given() -> None:
    workflow = {
        "1": node("CLIPTextEncode", "INPUT_prompt"),
        "2": node("EmptySD3LatentImage", "INPUT_size"),
    }
    assert refused(workflow, size="8x8").field == "inputs.prompt"
    assert refused(workflow, prompt="kite").field == "inputs.size"
    assert prepare_workflow(workflow, {"prompt": "kite", "width": 8, "height": 8})


def test_files_replace_references_wherever_they_stand() -> None:
    workflow = copy.deepcopy(PORTRAIT) | {"9": node("LoadImage", image=ASSET)}
    files = {"inputs.photo": "genpulse-1.png", "workflow.9.inputs.image": "genpulse-2.png"}
    filled = prepare_workflow(workflow, {"photo": ASSET}, files=files)
    assert filled["5"]["inputs"]["image"] == "genpulse-1.png"
    assert filled["9"]["inputs"]["image"] == "genpulse-2.png"


def test_a_reference_nobody_uploaded_is_not_sent() -> None:
    with pytest.raises(WorkflowError) as caught:
        prepare_workflow(PORTRAIT, {"photo": ASSET}, files={})
    assert caught.value.field == "inputs.photo"


def test_a_named_prefix_cannot_climb() -> None:
    workflow = {"1": node("SaveImage", "INPUT_filename_prefix", filename_prefix="x")}
    assert refused(workflow, filename_prefix="../../x").field == "inputs.filename_prefix"


def test_the_catalogue_shows_names_types_and_defaults() -> None:
    workflow = copy.deepcopy(PORTRAIT) | {
        "7": node("Switch", "INPUT_hd", value=False),
        "8": node("CLIPTextEncode", "INPUT_negative"),
        "9": node("CLIPTextEncode", "INPUT_linked", text=["2", 0]),
    }
    assert workflow_inputs(workflow) == [
        {"name": "prompt", "type": "text", "default": "a cat", "required": False},
        {"name": "size", "type": "size", "default": "512x768", "required": False},
        {"name": "seed", "type": "integer", "default": 5, "required": False},
        {"name": "photo", "type": "image", "default": "example.png", "required": False},
        {"name": "hd", "type": "boolean", "default": False, "required": False},
        {"name": "negative", "type": "text", "default": None, "required": True},
        {"name": "linked", "type": "text", "default": None, "required": False},
    ]


def test_shared_names_beside_the_workflow_are_named_inputs_too() -> None:
    given = {
        "workflow": PORTRAIT,
        "prompt": "kite",
        "n": 1,
        "images": [ASSET, "https://example.com/b.png"],
        "inputs": {"seed": 3},
    }
    assert named_inputs(given) == {
        "prompt": "kite",
        "image": ASSET,
        "image_2": "https://example.com/b.png",
        "seed": 3,
    }
    assert named_inputs({"n": 4}) == {"n": 4}
    places = ["images.0", "images.1", "mask", "inputs.photo", "workflow.9.inputs.image"]
    assert [place_of(key) for key in places] == [
        "inputs.image",
        "inputs.image_2",
        "inputs.mask",
        "inputs.photo",
        "workflow.9.inputs.image",
    ]
