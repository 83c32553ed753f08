"""What ComfyUI says about a job, in the engine's words: refused prompts, history entries, files."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlencode

from providers.base import Completed, ErrorKind, Output, OutputKind, ProviderError
from providers.faults import scrub
from providers.wire.comfy_workflow import NAME, SEEDS

Entry = Mapping[str, Any]

DEEPEST = 8  # folders
BY_KEY: dict[str, OutputKind] = {
    "images": "image",
    "gifs": "video",
    "video": "video",
    "audio": "audio",
}
CONTENT_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".txt": "text/plain",
    ".glb": "model/gltf-binary",
}
MODEL_FILE = re.compile(r"(?i)\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)$")
MODEL_INPUT = re.compile(
    r"(ckpt|lora|vae|unet|clip|control_net|controlnet|model|style_model|upscale_model|clip_vision"
    r"|gligen|hypernetwork|photomaker_model)_name\d*"
)
FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?(?:[\\/][\w.@+-]+)+[\\/](?=\w)")
ADDRESSES = re.compile(r"\w+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
OUT_OF_MEMORY = re.compile(r"(?i)OutOfMemory|out of memory|Allocation on device")
MACHINE = re.compile(
    r"(?i)CUDA error|cuDNN|CUBLAS|AcceleratorError|HIP error|No space left|(Connection|Timeout)\w*Error"
)
NOTHING = "The workflow finished without a result; it needs a node that saves or previews."


def refused(body: Mapping[str, Any], raw: str | None = None) -> ProviderError | None:
    """What `POST /prompt` did not like. A missing model or node may exist elsewhere: not_available; else bad_input."""
    error = body.get("error")
    error = error if isinstance(error, dict) else {}
    complaints = list(_complaints(body.get("node_errors")))
    if not error and not complaints:
        return None
    if complaints:
        missing = all(_is_missing_model(item) for _, item in complaints)
        text = "; ".join(f"{node}: {_complaint(item)}" for node, item in complaints[:5])
    else:
        text = f"{error.get('message', '')} {error.get('details', '')}".strip()
        missing = _is_missing_node(error)
    return ProviderError("not_available" if missing else "bad_input", shown(text), raw=raw)


def _complaints(node_errors: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for node_id, node in node_errors.items() if isinstance(node_errors, dict) else ():
        errors = node.get("errors") if isinstance(node, dict) else None
        for item in errors if isinstance(errors, list) else ():
            if isinstance(item, dict):
                yield f"node {node_id} ({node.get('class_type')})", item


def _complaint(item: Mapping[str, Any]) -> str:
    """The rule that was broken and the input, without the server's list of files."""
    name = _extra(item).get("input_name")
    return f"{name}: {item.get('message')}" if name else str(item.get("message"))


def _extra(item: Mapping[str, Any]) -> Mapping[str, Any]:
    extra = item.get("extra_info")
    return extra if isinstance(extra, dict) else {}


def _is_missing_model(item: Mapping[str, Any]) -> bool:
    extra = _extra(item)
    return item.get("type") == "value_not_in_list" and names_model(
        str(extra.get("input_name")), extra.get("received_value")
    )


def names_model(name: str, value: Any) -> bool:
    """Whether an input of a node names a model file."""
    named = isinstance(value, str) and MODEL_INPUT.fullmatch(name)
    return bool(named) or is_model_file(value)


def is_model_file(value: Any) -> bool:
    return isinstance(value, str) and MODEL_FILE.search(value) is not None


def _is_missing_node(error: Mapping[str, Any]) -> bool:
    kind, message = error.get("type"), str(error.get("message"))
    old = kind == "invalid_prompt" and re.search(r"does not exist|not found", message)
    return kind == "missing_node_type" or bool(old)


def shown(text: str) -> str:
    """A message of the server for users: one line, without its folders and addresses."""
    return scrub(ADDRESSES.sub("***", FOLDERS.sub("", " ".join(text.split()))))[:400]


def outcome(entry: Entry, base_url: str) -> Completed | ProviderError | None:
    """What a history entry says; None while it is not final."""
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}  # null in old builds
    messages = dict(_messages(status))
    if "execution_interrupted" in messages:
        return ProviderError("transient", "The job was interrupted at the server.")
    if "execution_error" in messages:
        return node_error(messages["execution_error"])
    if status.get("status_str") == "error":
        return ProviderError("bad_input", "The workflow failed.", "node_error")
    if status.get("completed") is False:
        return None
    return _result(entry, base_url, cached=bool(messages.get("execution_cached", {}).get("nodes")))


def _messages(status: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    messages = status.get("messages")
    for item in messages if isinstance(messages, list) else ():
        if isinstance(item, list) and len(item) == 2 and isinstance(item[1], dict):
            yield str(item[0]), item[1]


def node_error(data: Mapping[str, Any]) -> ProviderError:
    """An `execution_error`. Trouble of the machine may pass, a node that fails on its input will fail again."""
    said = f"{data.get('exception_type')}: {data.get('exception_message')}"
    where = f"{data.get('node_type')} (node {data.get('node_id')})"
    raw = scrub(f"{said}\n{''.join(map(str, data.get('traceback') or ()))}")
    if OUT_OF_MEMORY.search(said):
        message = f"{where} ran out of memory."
        return ProviderError("transient", message, "node_error", retries=1, raw=raw)
    kind: ErrorKind = "transient" if MACHINE.search(said) else "bad_input"
    message = shown(f"{where}: {data.get('exception_message')}")
    return ProviderError(kind, message, "node_error", raw=raw)


def _result(entry: Entry, base_url: str, *, cached: bool) -> Completed | ProviderError:
    nodes = entry.get("outputs")
    found = [node for node in _values(nodes) if isinstance(node, dict)]
    try:
        outputs = list(_outputs(found, base_url, _seed(entry)))
    except ValueError:
        # Making it again would give the same name: nothing to be gained by trying elsewhere.
        return ProviderError(
            "bad_input", "The server named a result in an unsafe way.", "result_rejected"
        )
    texts = [text for node in found for text in _strings(node.get("text"))]
    if outputs or texts:
        pictures = sum(output.kind == "image" for output in outputs)
        usage = {"images": float(pictures)} if pictures else {}
        return Completed(outputs, usage, text="\n".join(texts) or None)
    if cached:
        return ProviderError("transient", NOTHING, "no_output", retries=1)
    return ProviderError("bad_input", NOTHING, "no_output")


def _values(mapping: Any) -> list[Any]:
    return list(mapping.values()) if isinstance(mapping, dict) else []


def _strings(items: Any) -> Iterator[str]:
    yield from (
        item for item in (items if isinstance(items, list) else ()) if isinstance(item, str)
    )


def _outputs(nodes: Iterable[Any], base_url: str, seed: int | None) -> Iterator[Output]:
    """Every saved file once; when nothing was saved, the previews. Raises ValueError for an unsafe name."""
    files = dict(found for node in nodes for found in _files(node))
    saved = {place: key for place, key in files.items() if place[2] == "output"}
    for (name, subfolder, folder), key in (saved or files).items():
        query = urlencode({"filename": name, "subfolder": subfolder, "type": folder})
        content_type = CONTENT_TYPES.get(PurePosixPath(name).suffix.lower())
        yield Output(
            _kind(key, content_type),
            url=f"{base_url}/view?{query}",
            content_type=content_type,
            filename=name,
            meta={} if seed is None else {"seed": seed},
        )


def _files(node: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], str]]:
    """`(filename, subfolder, type)` and the key it came under."""
    for key, items in node.items():
        for item in items if isinstance(items, list) else ():
            kind = str(item.get("type", "output")) if isinstance(item, dict) else ""
            # Neither a flag nor a node that shows its input is a result.
            if kind in {"output", "temp"} and "filename" in item:
                folder = safe_subfolder(item.get("subfolder"))
                yield (safe_name(item["filename"]), folder, kind), key


def _kind(key: str, content_type: str | None) -> OutputKind:
    main = (content_type or "").partition("/")[0]
    if main in {"image", "video", "audio", "text"}:
        return cast(OutputKind, main)
    return "file" if content_type else BY_KEY.get(key, "file")


def safe_name(name: object) -> str:
    """A file name of the server. Raises ValueError for one that could lead elsewhere."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise ValueError("unsafe file name")
    return name


def safe_subfolder(folder: object) -> str:
    """A relative folder of the server, with slashes. Raises ValueError for one that could lead elsewhere."""
    parts = str(folder).replace("\\", "/").split("/") if folder else []
    if len(parts) > DEEPEST:
        raise ValueError("unsafe folder")
    return "/".join(safe_name(part) for part in parts)


def _seed(entry: Entry) -> int | None:
    """The seed of the run, when the graph has one."""
    item = entry.get("prompt")
    graph = item[2] if isinstance(item, list) and len(item) > 2 else None
    seeds = {seed for node in graph_nodes(graph) for seed in _seeds(node)}
    return seeds.pop() if len(seeds) == 1 else None


def weights_of(graph: Any) -> Iterator[str]:
    """The checkpoints and diffusion models a graph loads: what stays in the memory of a server."""
    for inputs in graph_nodes(graph):
        for name in ("ckpt_name", "unet_name"):
            if isinstance(inputs.get(name), str):
                yield inputs[name]


def files_of(graph: Any) -> list[str]:
    """Every model file a graph loads (VAE, LoRA, text encoder, ...), those of `weights_of` first.

    Names without the ending of a file are left out: some nodes offer choices such as `None` or `taesd` beside files.
    """
    others = (
        value
        for inputs in graph_nodes(graph)
        for name, value in inputs.items()
        if MODEL_INPUT.fullmatch(name) and is_model_file(value)
    )
    return list(dict.fromkeys([*weights_of(graph), *others]))


def offered(object_info: Mapping[str, Any]) -> set[str]:
    """The model files that node classes offer, those in folders of their own included."""
    specs = (
        spec
        for info in object_info.values()
        for group in _values(info.get("input") if isinstance(info, dict) else None)
        for spec in _values(group)
    )
    return {choice for spec in specs for choice in choices(spec) if is_model_file(choice)}


def choices(spec: Any) -> list[Any]:
    """Of an input: `["COMBO", {"options": [...]}]`, in older nodes `[[...], {}]`; empty for what is typed in."""
    if not isinstance(spec, list) or not spec:
        return []
    if isinstance(spec[0], list):
        return spec[0]
    options = spec[1].get("options") if len(spec) > 1 and isinstance(spec[1], dict) else None
    return options if isinstance(options, list) else []


def graph_nodes(graph: Any) -> Iterator[Mapping[str, Any]]:
    """The inputs of every node of a graph that a server sent."""
    for node in _values(graph):
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
            yield node["inputs"]


def _seeds(inputs: Mapping[str, Any]) -> Iterator[int]:
    for name in SEEDS & inputs.keys():
        if isinstance(inputs[name], int):
            yield inputs[name]
