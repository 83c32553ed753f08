"""The node classes of the ComfyUI emulator, and ComfyUI's own validation of prompts (`execution.py`)."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

INT = ("INT", {"default": 1, "min": 0, "max": 2**64 - 1})
EDGE = ("INT", {"default": 512, "min": 1, "max": 16384})
FLOAT = ("FLOAT", {"default": 1.0, "min": 0.0, "max": 100.0})
TEXT = ("STRING", {"multiline": True})


@dataclass(frozen=True)
class Node:
    """`run(inputs)`: the outputs, and for output nodes what is saved: key, type, extension, bytes or texts."""

    required: dict[str, Any]
    outputs: tuple[str, ...]
    run: Callable[[dict[str, Any]], tuple[Any, ...]]
    output_node: bool = False
    steps: str | None = None  # the input that says how many steps it takes
    optional: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """One file that an output node writes."""

    key: str
    type: str
    suffix: str
    content: bytes
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    width: int
    height: int
    color: int = 0

    @property
    def png(self) -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (self.width, self.height), self.color).save(buffer, "PNG")
        return buffer.getvalue()


def _pictures(inputs: dict[str, Any]) -> list[Picture]:
    return list(inputs["images"])


def _save_images(kind: str) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    return lambda i: tuple(Saved("images", kind, ".png", p.png) for p in _pictures(i))


def _save_video(inputs: dict[str, Any]) -> tuple[Saved, ...]:
    content = b"\x00\x00\x00\x18ftypmp42" + bytes(len(_pictures(inputs)))
    more = {"format": "video/h264-mp4", "frame_rate": 8.0, "fullpath": "/srv/ComfyUI/output/x.mp4"}
    return (Saved("gifs", "output", ".mp4", content, more),)


def _save_webm(inputs: dict[str, Any]) -> tuple[Saved, ...]:
    return (Saved("images", "output", ".webm", b"\x1aE\xdf\xa3" + bytes(len(_pictures(inputs)))),)


def _empty_images(inputs: dict[str, Any]) -> tuple[list[Picture]]:
    one = Picture(inputs["width"], inputs["height"], inputs["color"])
    return ([one] * inputs["batch_size"],)


def _decode(inputs: dict[str, Any]) -> tuple[list[Picture]]:
    latent = inputs["samples"]
    return ([Picture(latent["width"], latent["height"], latent["seed"] % 0xFFFFFF)],)


def _sample(inputs: dict[str, Any]) -> tuple[dict[str, Any]]:
    return ({**inputs["latent_image"], "seed": inputs["seed"]},)


SAMPLERS = ["euler", "dpmpp_2m"]
IMAGE = {"images": ("IMAGE",)}
PREFIX = {"filename_prefix": ("STRING", {"default": "ComfyUI"})}


PLAIN: dict[str, Node] = {  # the classes that take no files
    "EmptyImage": Node(
        {"width": EDGE, "height": EDGE, "batch_size": EDGE, "color": INT},
        ("IMAGE",),
        _empty_images,
    ),
    "ImageInvert": Node({"image": ("IMAGE",)}, ("IMAGE",), lambda i: (i["image"],)),
    "SaveImage": Node(IMAGE | PREFIX, (), _save_images("output"), output_node=True),
    "PreviewImage": Node(IMAGE, (), _save_images("temp"), output_node=True),
    "VHS_VideoCombine": Node(
        IMAGE | {"frame_rate": FLOAT} | PREFIX, (), _save_video, output_node=True
    ),
    "SaveWEBM": Node(IMAGE | PREFIX, (), _save_webm, output_node=True),
    "SaveLatent": Node(
        {"samples": ("LATENT",)} | PREFIX,
        (),
        lambda _: (Saved("latents", "output", ".latent", b"latent"),),
        output_node=True,
    ),
    "EmptyAudio": Node({"duration": FLOAT}, ("AUDIO",), lambda i: (i["duration"],)),
    "SaveAudio": Node(
        {"audio": ("AUDIO",)} | PREFIX,
        (),
        lambda _: (Saved("audio", "output", ".flac", b"fLaC\x00\x00"),),
        output_node=True,
    ),
    "StringConcatenate": Node(
        {"string_a": TEXT, "string_b": TEXT, "delimiter": TEXT},
        ("STRING",),
        lambda i: (i["delimiter"].join((i["string_a"], i["string_b"])),),
    ),
    "PreviewAny": Node({"source": ("*",)}, (), lambda i: (str(i["source"]),), output_node=True),
    "ImageUpscaleWithModel": Node(
        {"upscale_model": ("UPSCALE_MODEL",), "image": ("IMAGE",)},
        ("IMAGE",),
        lambda i: (i["image"],),
    ),
    "CLIPTextEncode": Node(
        {"text": TEXT, "clip": ("CLIP",)}, ("CONDITIONING",), lambda i: (i["text"],)
    ),
    "EmptyLatentImage": Node(
        {"width": EDGE, "height": EDGE, "batch_size": EDGE}, ("LATENT",), lambda i: (i,)
    ),
    "KSampler": Node(
        {
            "model": ("MODEL",),
            "seed": INT,
            "steps": ("INT", {"min": 1, "max": 10000}),
            "cfg": FLOAT,
            "sampler_name": (SAMPLERS, {}),
            "scheduler": (["normal", "karras"], {}),
            "positive": ("CONDITIONING",),
            "negative": ("CONDITIONING",),
            "latent_image": ("LATENT",),
            "denoise": FLOAT,
        },
        ("LATENT",),
        _sample,
        steps="steps",
    ),
    "VAEDecode": Node({"samples": ("LATENT",), "vae": ("VAE",)}, ("IMAGE",), _decode),
}


def registry(files: dict[str, list[str]]) -> dict[str, Node]:
    """Every class. `files`: model files by folder, and the uploads under `input`."""
    checkpoint = {"ckpt_name": (files["checkpoints"], {"tooltip": "legacy list"})}
    upscaler = {"model_name": ("COMBO", {"options": files["upscale_models"]})}  # not validated
    return PLAIN | {
        "LoadImage": Node(
            {"image": (sorted(files["input"]), {"image_upload": True})},
            ("IMAGE", "MASK"),
            lambda _: ([Picture(8, 8, 255)], None),
        ),
        "CheckpointLoaderSimple": Node(
            checkpoint, ("MODEL", "CLIP", "VAE"), lambda i: (i["ckpt_name"],) * 3
        ),
        "UpscaleModelLoader": Node(upscaler, ("UPSCALE_MODEL",), lambda i: (i["model_name"],)),
    }


def object_info(name: str, node: Node) -> dict[str, Any]:
    """The description of a class, as `GET /object_info` gives it."""
    return {
        "input": {"required": node.required, "optional": node.optional, "hidden": {}},
        "input_order": {"required": list(node.required), "optional": list(node.optional)},
        "is_input_list": False,
        "output": list(node.outputs),
        "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.outputs),
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "emulated",
        "output_node": node.output_node,
    }


class Refused(Exception):
    """400 of `POST /prompt`."""

    def __init__(
        self, kind: str, message: str, details: str, node_errors: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        error = {"type": kind, "message": message, "details": details, "extra_info": {}}
        self.body = {"error": error, "node_errors": node_errors or {}}


def validate(prompt: Any, nodes: dict[str, Node], *, new: bool) -> tuple[list[str], dict[str, Any]]:
    """Outputs that will run and errors of those that will not. Raises Refused."""
    for node_id, node in prompt.items():
        _exists(node_id, node, nodes, new=new)
    outputs = [n for n, node in prompt.items() if nodes[node["class_type"]].output_node]
    if not outputs:
        raise Refused("prompt_no_outputs", "Prompt has no outputs", "")
    node_errors: dict[str, Any] = {}
    good = []
    for output in outputs:
        checked: dict[str, list[dict[str, Any]]] = {}
        _check(output, prompt, nodes, checked)
        bad = {node_id: errors for node_id, errors in checked.items() if errors}
        good += [] if bad else [output]
        for node_id, errors in bad.items():
            entry = node_errors.setdefault(
                node_id,
                {
                    "errors": errors,
                    "dependent_outputs": [],
                    "class_type": prompt[node_id]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)
    if not good:
        details = "\n".join(
            f"{e['message']}: {e['details']}" for n in node_errors.values() for e in n["errors"]
        )
        raise Refused(
            "prompt_outputs_failed_validation",
            "Prompt outputs failed validation",
            details,
            node_errors,
        )
    return good, node_errors


def _exists(node_id: str, node: dict[str, Any], nodes: dict[str, Node], *, new: bool) -> None:
    kind = "missing_node_type" if new else "invalid_prompt"
    if "class_type" not in node:
        message = "Cannot execute because a node is missing the class_type property."
        raise Refused(kind, message, f"Node ID '#{node_id}'")
    if node["class_type"] not in nodes:
        message = f"Cannot execute because node {node['class_type']} does not exist."
        raise Refused(kind, message, f"Node ID '#{node_id}'")


def _check(
    node_id: str, prompt: Any, nodes: dict[str, Node], checked: dict[str, list[dict[str, Any]]]
) -> None:
    if node_id in checked:
        return
    node = nodes[prompt[node_id]["class_type"]]
    inputs = prompt[node_id]["inputs"]
    checked[node_id] = []
    for name, spec in (node.required | node.optional).items():
        value = inputs.get(name)
        if name not in inputs:
            if name in node.required:
                checked[node_id].append(
                    _error("required_input_missing", "Required input is missing", name)
                )
        elif isinstance(value, list):
            _check_link(node_id, (name, spec), value, prompt, nodes, checked)
        elif error := _check_value(name, spec, inputs):
            checked[node_id].append(error)


def _check_link(
    node_id: str, field: tuple[str, Any], value: Any, prompt: Any, nodes: Any, checked: Any
) -> None:
    name, spec = field
    if len(value) != 2:
        message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
        checked[node_id].append(_error("bad_linked_input", message, name, value))
        return
    source, slot = value
    if source not in prompt:
        message = "Exception when validating node"
        checked[node_id].append(_error("exception_during_validation", message, f"'{source}'"))
        return
    given = nodes[prompt[source]["class_type"]].outputs[slot]
    if spec[0] not in {given, "*"}:
        details = f"{name}, received_type({given}) mismatch input_type({spec[0]})"
        checked[node_id].append(
            _error("return_type_mismatch", "Return type mismatch between linked nodes", details)
        )
        return
    _check(source, prompt, nodes, checked)


def _check_value(name: str, spec: Any, inputs: dict[str, Any]) -> dict[str, Any] | None:
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(kind, list):
        return _check_choice(name, kind, options, inputs[name])
    converts = {"INT": int, "FLOAT": float, "STRING": str}
    if kind not in converts:
        return None
    value = inputs[name]
    try:
        inputs[name] = value = converts[kind](value)
    except (TypeError, ValueError) as error:
        message = f"Failed to convert an input value to a {kind} value"
        return _error("invalid_input_type", message, f"{name}, {value}, {error}", value, name)
    if value < options.get("min", value):
        message = f"Value {value} smaller than min of {options['min']}"
        return _error("value_smaller_than_min", message, name, value)
    if value > options.get("max", value):
        message = f"Value {value} bigger than max of {options['max']}"
        return _error("value_bigger_than_max", message, name, value)
    return None


def _check_choice(name: str, choices: list[str], options: Any, value: Any) -> dict[str, Any] | None:
    if value in choices:
        return None
    if options.get("image_upload"):
        message = "Custom validation failed for node"
        details = f"{name} - Invalid image file: {value}"
        return _error("custom_validation_failed", message, details, value, name)
    details = f"{name}: '{value}' not in {choices}"
    return _error("value_not_in_list", "Value not in list", details, value, name)


def _error(
    kind: str, message: str, details: str, value: Any = None, name: str | None = None
) -> dict[str, Any]:
    extra = {"input_name": name or details.partition(",")[0], "received_value": value}
    return {"type": kind, "message": message, "details": details, "extra_info": extra}
