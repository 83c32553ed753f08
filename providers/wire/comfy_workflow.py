"""ComfyUI workflows in API format: what they take by name, and a copy with the values filled in.

    prepared = prepare_workflow(workflow, {"prompt": "a red kite", "size": "512x768", "seed": -1})

A node takes part when its title is `INPUT_<name>`. Pure functions: submit checks with them, the adapter fills with them.
"""

import copy
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from providers.base import ProviderError

Kind = Literal["text", "integer", "number", "boolean", "size", "image", "video", "audio", "any"]
Problem = Literal["required", "unknown", "type", "format", "choice", "empty"]
Graph = dict[str, dict[str, Any]]

PREFIX = "INPUT_"
MEDIA: dict[str, tuple[str, Kind]] = {  # node class -> the input that names an uploaded file
    "LoadImage": ("image", "image"),
    "LoadImageMask": ("image", "image"),
    "LoadImageOutput": ("image", "image"),
    "LoadAudio": ("audio", "audio"),
    "LoadVideo": ("file", "video"),
    "VHS_LoadVideo": ("video", "video"),
    "VHS_LoadAudioUpload": ("audio", "audio"),
}
MEDIA_KINDS = frozenset({"image", "video", "audio"})
NAMING_FILES = MEDIA_KINDS | {"text", "any"}  # nodes unknown here may name files too
HOME = {"CLIPTextEncode": "text", "KSampler": "seed", "PrimitiveNode": "value"}
FALLBACKS = ("text", "seed", "value", "noise_seed")
SEEDS = frozenset({"seed", "noise_seed"})
INTEGERS = SEEDS | {"width", "height", "steps", "batch_size"}
SIZED = re.compile(r"Empty\w*Latent\w*")
SIZE = re.compile(r"([1-9]\d{0,4})\s*[xX*×]\s*([1-9]\d{0,4})")  # noqa: RUF001 - people write it
REFERENCE = re.compile(r"(?i)(https?://|data:|asset:)|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
CLIMBING = re.compile(r"(^|[\\/])\.\.([\\/]|$)|^[\\/]|^[A-Za-z]:[\\/]|\x00")
NAME = re.compile(r"\w[\w .,()+=@-]{0,199}")  # a file or folder that is called by name
VARIABLES = re.compile(r"%(width|height|year|month|day|hour|minute|second)%")
LARGEST_SEED = 2**53  # exact in JSON readers that know doubles only
UI_ADVICE = (
    'This is a web-UI workflow (nodes and links). Export it with "Save (API Format)", '
    'in newer versions "Export (API)", and send that.'
)


class WorkflowError(ProviderError):
    """A workflow or input that cannot work. `field`: its path below `input`; `problem`: a code of field errors."""

    def __init__(self, field: str, problem: Problem, message: str, code: str | None = None) -> None:
        super().__init__("bad_input", f"{field}: {message}", code)
        self.field = field
        self.problem: Problem = problem
        self.hint = message


@dataclass(frozen=True)
class Slot:
    """One place a named value goes to. A size fills `width` and `height`, its `field` is empty."""

    name: str
    node: str
    field: str
    kind: Kind
    default: Any = None
    required: bool = False  # the workflow has no value of its own
    alias: bool = False  # a second name; not shown in the catalogue


def prepare_workflow(
    workflow: Any,
    inputs: Mapping[str, Any],
    *,
    key: str = "",
    files: Mapping[str, str] | None = None,
) -> Graph:
    """A copy of `workflow` with `inputs` filled in and every seed of -1 drawn (the same one for the same `key`).

    `files`: place (`inputs.photo`, `workflow.4.inputs.image`) -> name on the server; None = only checking, media are
    still references. Raises WorkflowError: kind bad_input, code `workflow_format_ui` for the web-UI format.
    """
    graph = copy.deepcopy(_checked(workflow))
    slots = _slots(graph)
    seed = _drawn_seed(key)
    given = {name: value for name, value in inputs.items() if value is not None}
    for name, value in given.items():
        if name not in slots:
            raise WorkflowError(f"inputs.{name}", "unknown", _known(slots))
        for slot in slots[name]:
            file = (files or {}).get(f"inputs.{name}") if slot.kind in NAMING_FILES else None
            read = file or _read(slot, value, files is None)
            graph[slot.node]["inputs"] |= _values(graph[slot.node], slot, read, seed)
    _require(slots, given)
    _finish(graph, files or {}, seed)
    return graph


def workflow_inputs(workflow: Any) -> list[dict[str, Any]]:
    """`[{name, type, default, required}]` in the order of the nodes, for the catalogue.

    `type`: text, integer, number, boolean, size ("WxH"), image, video, audio, any. Raises WorkflowError.
    """
    firsts = (slots[0] for slots in _slots(_checked(workflow)).values() if not slots[0].alias)
    return [
        {"name": s.name, "type": s.kind, "default": s.default, "required": s.required}
        for s in firsts
    ]


def named_inputs(given: Mapping[str, Any]) -> dict[str, Any]:
    """The named inputs of an `input`: its `inputs`, and the shared names beside them (prompt, seed, images ...).

    `images` become `image`, `image_2`, ...
    """
    shared = {k: v for k, v in given.items() if k not in {"workflow", "inputs", "images"}}
    if shared.get("n") == 1:
        del shared["n"]  # what every workflow makes
    images = {image_name(index): ref for index, ref in enumerate(given.get("images") or ())}
    return shared | images | dict(given.get("inputs") or {})


def image_name(index: int) -> str:
    return f"image_{index + 1}" if index else "image"


def place_of(key: str) -> str:
    """Where a file of `Call.inputs` belongs: `images.0` -> `inputs.image`, `mask` -> `inputs.mask`."""
    if key.startswith(("inputs.", "workflow.")):
        return key
    name, _, index = key.partition(".")
    return f"inputs.{image_name(int(index))}" if name == "images" else f"inputs.{key}"


def _checked(workflow: Any) -> Graph:
    if not isinstance(workflow, dict):
        raise WorkflowError("workflow", "type", "want an object in ComfyUI's API format")
    if isinstance(workflow.get("nodes"), list):
        raise WorkflowError("workflow", "format", UI_ADVICE, "workflow_format_ui")
    if not workflow:
        raise WorkflowError("workflow", "empty", "has no nodes")
    for node_id, node in workflow.items():
        _check_node(workflow, node_id, node)
    return workflow


def _check_node(workflow: Mapping[str, Any], node_id: str, node: Any) -> None:
    field = f"workflow.{node_id}"
    if not isinstance(node, dict):
        raise WorkflowError(field, "type", "want a node: an object with class_type and inputs")
    class_type = node.get("class_type")
    if not isinstance(class_type, str) or not class_type:
        raise WorkflowError(f"{field}.class_type", "required", "names the class of the node")
    if not isinstance(node.get("inputs"), dict):
        raise WorkflowError(f"{field}.inputs", "required", "want an object")
    for name, value in node["inputs"].items():
        if _is_link(value) and value[0] not in workflow:
            raise WorkflowError(f"{field}.inputs.{name}", "choice", f"no node {value[0]!r}")
        _check_path(f"{field}.inputs.{name}", class_type, name, value)


def _check_path(field: str, class_type: str, name: str, value: Any) -> None:
    """A workflow names files of the server's own folders; ComfyUI itself would follow some paths out of them."""
    if not isinstance(value, str):
        return
    is_prefix = name == "filename_prefix"
    if (is_prefix or MEDIA.get(class_type, ("",))[0] == name) and CLIMBING.search(value):
        raise WorkflowError(field, "format", "leaves the folder of the server")
    if is_prefix and not _makes_safe_names(value):
        # The result would be refused for its name, after all the work.
        raise WorkflowError(
            field, "format", "want letters, digits, spaces and any of _ . , ( ) + = @ -"
        )


def _makes_safe_names(prefix: str) -> bool:
    parts = re.split(r"[\\/]", VARIABLES.sub("0", prefix))
    return all(NAME.fullmatch(part) for part in parts if part) and ".." not in prefix


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _slots(graph: Graph) -> dict[str, list[Slot]]:
    slots: dict[str, list[Slot]] = {}
    for slot in [slot for node_id in graph for slot in _slots_of(node_id, graph[node_id])]:
        slots.setdefault(slot.name, []).append(slot)
    # A bound workflow is given width and height although it may know them as a size only.
    for size in [s for group in slots.values() for s in group if s.kind == "size"]:
        for edge in ("width", "height"):
            if edge not in slots or slots[edge][0].alias:
                slots.setdefault(edge, []).append(_edge(size, edge, edge))
    return slots


def _slots_of(node_id: str, node: dict[str, Any]) -> Iterator[Slot]:
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    name = title.strip() if isinstance(title, str) else ""
    name = name.removeprefix(PREFIX) if name.startswith(PREFIX) else ""
    if not name:
        return
    inputs = node["inputs"]
    if SIZED.fullmatch(node["class_type"]):
        default = _size_of(inputs)
        size = Slot(name, node_id, "", "size", default, not {"width", "height"} <= inputs.keys())
        yield size
        yield from (_edge(size, edge, f"{name}_{edge}") for edge in ("width", "height"))
    elif field := _field(node, name):
        value = inputs.get(field)
        default = None if _is_link(value) else value
        kind = _kind(node["class_type"], field, default)
        yield Slot(name, node_id, field, kind, default, value is None)


def _edge(size: Slot, edge: str, name: str) -> Slot:
    return Slot(name, size.node, edge, "integer", alias=True)


def _size_of(inputs: Mapping[str, Any]) -> str | None:
    width, height = inputs.get("width"), inputs.get("height")
    return f"{width}x{height}" if isinstance(width, int) and isinstance(height, int) else None


def _field(node: dict[str, Any], name: str) -> str | None:
    """Which input of a titled node the value goes to."""
    class_type, inputs = node["class_type"], node["inputs"]
    if class_type in MEDIA:
        return MEDIA[class_type][0]
    widgets = [field for field, value in inputs.items() if not _is_link(value)]
    if name in widgets:
        return name
    if class_type in HOME:
        return HOME[class_type]
    known = next((field for field in FALLBACKS if field in inputs), None)
    return known or (widgets[0] if len(widgets) == 1 else None)


def _kind(class_type: str, field: str, default: Any) -> Kind:
    if class_type in MEDIA:
        return MEDIA[class_type][1]
    if field in INTEGERS:
        return "integer"
    if field == "text" or isinstance(default, str):
        return "text"
    if isinstance(default, bool):
        return "boolean"
    # 8 may stand for 8.0: JSON of other languages knows one kind of number.
    return "number" if isinstance(default, int | float) else "any"


def _known(slots: Mapping[str, Any]) -> str:
    names = ", ".join(slots) or "none: no node is titled INPUT_<name>"
    return f"no such input; this workflow takes {names}"


def _values(node: Mapping[str, Any], slot: Slot, value: Any, seed: int) -> dict[str, Any]:
    """What a read value sets at its node."""
    if slot.kind == "size":
        return {"width": value[0], "height": value[1]}
    if slot.kind not in MEDIA_KINDS:
        _check_path(f"inputs.{slot.name}", str(node["class_type"]), slot.field, value)
    is_seed = slot.field in SEEDS or slot.name.lower().endswith("seed")
    return {slot.field: seed if is_seed and value == -1 else value}


def _read(slot: Slot, value: Any, checking: bool) -> Any:
    """The value as the slot's kind. Lists are never taken: ComfyUI would read them as links."""
    if slot.kind in MEDIA_KINDS:
        # A plain file name would let a caller read what others uploaded.
        if not (checking and isinstance(value, str) and REFERENCE.match(value)):
            raise WorkflowError(
                f"inputs.{slot.name}", "format", "want a URL, a data URI or an asset"
            )
        return value
    read = READERS[slot.kind](value)
    if read is None:
        wanted = '"WxH", such as "512x768"' if slot.kind == "size" else slot.kind
        raise WorkflowError(f"inputs.{slot.name}", "type", f"want {wanted}")
    return read


def _number(value: Any) -> int | float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value):
        return int(value)
    number = _number(value)
    return int(number) if number is not None and number == int(number) else None


def _text(value: Any) -> str | None:
    number = _number(value)
    return value if isinstance(value, str) else None if number is None else str(number)


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _size(value: Any) -> tuple[int, int] | None:
    match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    return (int(match[1]), int(match[2])) if match else None


def _any(value: Any) -> Any:
    return value if isinstance(value, str | bool) else _number(value)


READERS: dict[Kind, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "size": _size,
    "any": _any,
}


def _require(slots: Mapping[str, list[Slot]], given: Mapping[str, Any]) -> None:
    for name, group in slots.items():
        edges = {f"{name}_width", "width"} & given.keys()
        if group[0].required and name not in given and not (group[0].kind == "size" and edges):
            raise WorkflowError(
                f"inputs.{name}", "required", "the workflow has no value of its own"
            )


def _drawn_seed(key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"seed/{key}".encode()).digest()[:8]) % LARGEST_SEED


def _finish(graph: Graph, files: Mapping[str, str], seed: int) -> None:
    """Uploaded files the workflow names itself, and the seeds it leaves to chance."""
    for node_id, node in graph.items():
        for field, value in node["inputs"].items():
            if name := files.get(f"workflow.{node_id}.inputs.{field}"):
                node["inputs"][field] = name
            elif field in SEEDS and value == -1:
                node["inputs"][field] = seed
