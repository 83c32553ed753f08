"""History entries, refusals and file names of a server nobody should trust."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.base import Completed, ProviderError
from providers.wire.comfy_results import (
    files_of,
    offered,
    outcome,
    refused,
    safe_name,
    safe_subfolder,
    shown,
)

BASE = "http://gpu-1:8188/comfy"


def entry(outputs: dict[str, Any], status: Any = None, graph: Any = None) -> dict[str, Any]:
    told = (
        {"status_str": "success", "completed": True, "messages": []} if status is None else status
    )
    return {"prompt": [1, "id", graph or {}, {}, []], "outputs": outputs, "status": told}


def file(name: str, subfolder: str = "", kind: str = "output") -> dict[str, str]:
    return {"filename": name, "subfolder": subfolder, "type": kind}


def completed(outputs: dict[str, Any], **more: Any) -> Completed:
    result = outcome(entry(outputs, **more), BASE)
    assert isinstance(result, Completed), result
    return result


def failed(entry: dict[str, Any]) -> ProviderError:
    result = outcome(entry, BASE)
    assert isinstance(result, ProviderError)
    return result


def test_every_kind_of_output_is_found() -> None:
    result = completed(
        {
            "1": {"images": [file("a_00001_.png", "job/x"), file("a_00002_.png", "job/x")]},
            "2": {"gifs": [file("v_00001_.mp4") | {"fullpath": "/srv/v.mp4", "frame_rate": 8}]},
            "3": {"images": [file("w_00001_.webm")], "animated": [True]},
            "4": {"audio": [file("s_00001_.flac")]},
            "5": {"latents": [file("l_00001_.latent")], "3d": [file("m.glb")]},
            "6": {"text": ["hello", "world"], "result": ["model.glb", None]},
        }
    )
    kinds = [(output.kind, output.filename, output.content_type) for output in result.outputs]
    assert kinds == [
        ("image", "a_00001_.png", "image/png"),
        ("image", "a_00002_.png", "image/png"),
        ("video", "v_00001_.mp4", "video/mp4"),
        ("video", "w_00001_.webm", "video/webm"),
        ("audio", "s_00001_.flac", "audio/flac"),
        ("file", "l_00001_.latent", None),
        ("file", "m.glb", "model/gltf-binary"),
    ]
    assert result.text == "hello\nworld"
    assert result.usage == {"images": 2.0}


def test_an_address_names_the_file_on_the_executors_own_origin() -> None:
    result = completed({"1": {"images": [file("a (1) b.png", "job\\x")]}})
    url = urlsplit(result.outputs[0].url or "")
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{BASE}/view"
    assert parse_qs(url.query, keep_blank_values=True) == {
        "filename": ["a (1) b.png"],
        "subfolder": ["job/x"],
        "type": ["output"],
    }


def test_previews_count_only_where_nothing_was_saved() -> None:
    temp = {"images": [file("p_00001_.png", kind="temp")]}
    saved = {"images": [file("a_00001_.png")]}
    echo = {"images": [file("upload.png", kind="input")]}
    both = completed({"1": temp, "2": saved, "3": echo})
    assert [output.filename for output in both.outputs] == ["a_00001_.png"]
    only = completed({"1": temp, "3": echo})
    assert [output.filename for output in only.outputs] == ["p_00001_.png"]
    assert "type=temp" in (only.outputs[0].url or "")


def test_a_file_named_twice_is_one_result() -> None:
    result = completed({"1": {"images": [file("a.png")]}, "2": {"images": [file("a.png")]}})
    assert len(result.outputs) == 1


def test_old_builds_without_a_status() -> None:
    assert isinstance(
        outcome({"outputs": {"1": {"images": [file("a.png")]}}, "status": None}, BASE), Completed
    )


def test_an_entry_that_is_not_final_is_no_end() -> None:
    assert outcome(entry({}, {"completed": False, "messages": []}), BASE) is None
    problem = failed(entry({}, {"status_str": "error", "completed": False}))
    assert (problem.kind, problem.code) == ("bad_input", "node_error")


def test_the_seed_of_the_run_is_told() -> None:
    graph = {"1": {"class_type": "KSampler", "inputs": {"seed": 7}}}
    assert completed({"1": {"images": [file("a.png")]}}, graph=graph).outputs[0].meta == {"seed": 7}
    two = graph | {"2": {"class_type": "KSampler", "inputs": {"seed": 8}}}
    assert completed({"1": {"images": [file("a.png")]}}, graph=two).outputs[0].meta == {}


CLIMBING = [
    "../x.png", "..", "a..png", "a/../../x.png", "/etc/passwd", "\\\\host\\x.png", "C:\\x.png", "C:x.png", "a\x00.png",
    "%2e%2e%2fx.png", "%252e%252e", "\u2025/x.png", "x.png [input]", "..\\x.png", "a\n.png", "", ".hidden",
    "http://h/x.png", "x.png?type=input", "x.png#y", "a;b", "x" * 300, "..%c0%af", "~/x", "&type=input",
]  # fmt: skip


@pytest.mark.parametrize("name", CLIMBING)
def test_unsafe_names_are_not_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="unsafe"):
        safe_name(name)
    problem = failed(entry({"1": {"images": [file(name)]}}))
    assert (problem.kind, problem.code) == ("bad_input", "result_rejected")
    if name and "/" not in name and "\\" not in name:
        assert failed(entry({"1": {"images": [file("a.png", name)]}})).code == "result_rejected"


@pytest.mark.parametrize("folder", ["../x", "a/../b", "/a", "a//b", "a/..", "/".join("abcdefghi")])
def test_unsafe_folders_are_not_asked_for(folder: str) -> None:
    with pytest.raises(ValueError, match="unsafe"):
        safe_subfolder(folder)


def test_usual_names_are_taken() -> None:
    for name in ("ComfyUI_00001_.png", "Zug_ü.webm", "a (1).png", "ComfyUI_temp_abcde_00001_.png"):
        assert safe_name(name) == name
    assert safe_subfolder("") == safe_subfolder(None) == ""
    assert safe_subfolder("video\\2026") == "video/2026"


def error_status(kind: str, **data: Any) -> dict[str, Any]:
    return {"status_str": "error", "completed": False, "messages": [[kind, data]]}


def test_a_failed_node_is_named() -> None:
    problem = failed(
        entry(
            {},
            error_status(
                "execution_error",
                node_id="4",
                node_type="KSampler",
                exception_type="RuntimeError",
                exception_message="mat1 and mat2\nshapes in /home/me/ComfyUI/nodes.py at http://10.0.0.5:8188/x",
                traceback=["  File one\n", "  File two\n"],
            ),
        )
    )
    assert (problem.kind, problem.code) == ("bad_input", "node_error")
    assert problem.message == "KSampler (node 4): mat1 and mat2 shapes in nodes.py at ***"
    assert "File two" in (problem.raw or "")


@pytest.mark.parametrize(
    ("kind", "said", "expected", "retries"),
    [
        ("torch.OutOfMemoryError", "Allocation on device 0 would exceed", "transient", 1),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory", "transient", 1),
        ("RuntimeError", "CUDA error: an illegal memory access", "transient", None),
        ("OSError", "[Errno 28] No space left on device", "transient", None),
        ("requests.exceptions.ConnectionError", "no route", "transient", None),
        ("ValueError", "bad connection between blocks", "bad_input", None),
    ],
)
def test_trouble_of_the_machine_may_pass(
    kind: str, said: str, expected: str, retries: int | None
) -> None:
    status = error_status("execution_error", exception_type=kind, exception_message=said)
    problem = failed(entry({}, status))
    assert (problem.kind, problem.code, problem.retries) == (expected, "node_error", retries)


def test_an_interrupt_is_no_failure_of_the_workflow() -> None:
    problem = failed(
        entry({"1": {"images": [file("a.png")]}}, error_status("execution_interrupted"))
    )
    assert (problem.kind, problem.code) == ("transient", "transient")


def test_a_run_without_a_result() -> None:
    problem = failed(entry({}))
    assert (problem.kind, problem.code) == ("bad_input", "no_output")
    cached = [["execution_cached", {"nodes": ["1", "2"]}]]
    status = {"status_str": "success", "completed": True, "messages": cached}
    forgotten = failed(entry({}, status))
    assert (forgotten.kind, forgotten.code, forgotten.retries) == ("transient", "no_output", 1)


@pytest.mark.parametrize(
    "odd",
    [
        {"outputs": 5, "status": {"messages": 7}},
        {
            "outputs": {"1": None, "2": {"images": "x", "text": 3}},
            "status": {"messages": [1, ["x"]]},
        },
        {"outputs": {"1": {"images": [None, 3, {"type": [1], "filename": 2}]}}},
        {},
    ],
)
def test_an_odd_history_is_a_run_without_a_result(odd: dict[str, Any]) -> None:
    assert failed(odd).code == "no_output"


def complaint(kind: str, name: str, value: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "message": "Value not in list",
        "details": f"{name}: '{value}' not in ['secret_model.safetensors']",
        "extra_info": {"input_name": name, "received_value": value},
    }


def test_refused_values_name_node_and_input_but_not_the_servers_files() -> None:
    errors = [complaint("value_not_in_list", "sampler_name", "heun")]
    node = {"class_type": "KSampler", "dependent_outputs": ["9"], "errors": errors}
    problem = refused(
        {"error": {"type": "prompt_outputs_failed_validation"}, "node_errors": {"4": node}}
    )
    assert problem is not None
    assert problem.kind == "bad_input"
    assert problem.message == "node 4 (KSampler): sampler_name: Value not in list"


@pytest.mark.parametrize(
    ("name", "value"),
    [("ckpt_name", "x.safetensors"), ("lora_name2", "None of ours"), ("engine", "up/x.ONNX")],
)
def test_a_missing_model_may_exist_elsewhere(name: str, value: str) -> None:
    node = {"class_type": "Loader", "errors": [complaint("value_not_in_list", name, value)]}
    problem = refused({"error": {}, "node_errors": {"4": node}})
    assert problem is not None
    assert problem.kind == "not_available"
    both = {
        "4": node,
        "5": {"class_type": "X", "errors": [complaint("required_input_missing", "image", None)]},
    }
    mixed = refused({"error": {}, "node_errors": both})
    assert mixed is not None
    assert mixed.kind == "bad_input"


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("missing_node_type", "Node 'Fancy' not found", "not_available"),
        ("invalid_prompt", "Cannot execute because node Fancy does not exist.", "not_available"),
        ("invalid_prompt", "Cannot execute because a node is missing the class_type", "bad_input"),
        ("prompt_no_outputs", "Prompt has no outputs", "bad_input"),
    ],
)
def test_prompts_that_are_refused_as_a_whole(kind: str, message: str, expected: str) -> None:
    problem = refused({"error": {"type": kind, "message": message, "details": ""}})
    assert problem is not None
    assert (problem.kind, problem.message) == (expected, message)


def test_nothing_to_refuse() -> None:
    assert refused({"prompt_id": "x", "number": 1, "node_errors": {}}) is None
    assert refused({"error": "odd", "node_errors": []}) is None


def test_messages_are_one_line_without_folders() -> None:
    said = "width/height\n  of /srv/comfy/c.png and C:\\x\\y\\z.bin"
    assert shown(said) == "width/height of c.png and z.bin"
    assert len(shown("x" * 5000)) <= 400


LOADERS: list[tuple[str, dict[str, Any]]] = [
    ("VAELoader", {"vae_name": "ae.safetensors"}),
    (
        "LoraLoader",
        {"lora_name": "styles\\ink.safetensors", "strength_model": 1, "model": ["9", 0]},
    ),
    (
        "DualCLIPLoader",
        {"clip_name1": "clip_l.safetensors", "clip_name2": "t5.gguf", "type": "flux"},
    ),
    ("CLIPVisionLoader", {"clip_name": "vit.safetensors"}),
    ("ControlNetLoader", {"control_net_name": "canny.pth"}),
    ("UpscaleModelLoader", {"model_name": "4x.pth"}),
    ("StyleModelLoader", {"style_model_name": "redux.safetensors"}),
    ("GLIGENLoader", {"gligen_name": "gligen.pt"}),
    ("UNETLoader", {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}),
    ("CheckpointLoaderSimple", {"ckpt_name": "sd_xl.safetensors"}),
]


def graph(*nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        str(number): {"class_type": kind, "inputs": inputs}
        for number, (kind, inputs) in enumerate(nodes)
    }


def test_a_graph_needs_every_model_file_it_loads_the_big_ones_first() -> None:
    assert files_of(graph(*LOADERS)) == [
        "flux1-dev.safetensors", "sd_xl.safetensors",
        "ae.safetensors", "styles\\ink.safetensors", "clip_l.safetensors", "t5.gguf", "vit.safetensors",
        "canny.pth", "4x.pth", "redux.safetensors", "gligen.pt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "inputs",
    [
        {"vae_name": "taesd"},  # built in
        {"lora_name": "None"},  # offered by nodes that stack several
        {"lora_name": ["4", 0]},
        {"text": "a photo of model.safetensors"},
        {"filename_prefix": "merged.safetensors"},
        {"sampler_name": "euler"},
    ],
)
def test_what_names_no_file_to_load_is_not_needed(inputs: dict[str, Any]) -> None:
    assert files_of(graph(("Any", inputs))) == []


def test_files_are_what_nodes_offer() -> None:
    """Lists of both generations; folders of custom nodes are in no other list."""
    info = {
        "LoraLoader": {"input": {"required": {"lora_name": [["ink.safetensors", "None"], {}]}}},
        "VAELoader": {"input": {"required": {"vae_name": ["COMBO", {"options": ["ae.sft", "taesd"]}]}}},
        "RIFE VFI": {"input": {"optional": {"ckpt_name": [["rife47.pth"]]}}},
        "KSampler": {"input": {"required": {"seed": ["INT", {"min": 0}], "sampler_name": [["euler"]]}}},
        "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    }  # fmt: skip
    assert offered(info) == {"ink.safetensors", "ae.sft", "rife47.pth"}
    odd = {
        "A": None,
        "B": {"input": [1]},
        "C": {"input": {"required": {"x": None, "y": []}, "hidden": 7}},
    }
    assert offered(odd) == set()
