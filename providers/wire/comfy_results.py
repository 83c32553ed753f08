"""What ComfyUI says about a job, in the engine's words: refused prompts, history entries, files."""

import mimetypes
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from providers.base import Completed, Output, OutputKind, ProviderError
from providers.faults import scrub
from providers.wire.comfy_workflow import SEEDS

Entry = Mapping[str, Any]

NAME = re.compile(r"\w[\w .,()+=@-]{0,199}")
KINDS: dict[str, OutputKind] = {
    "images": "image",
    "gifs": "video",
    "video": "video",
    "audio": "audio",
}
TYPES: dict[str, OutputKind] = {"image": "image", "video": "video", "audio": "audio"}
MODEL_FILE = re.compile(r"(?i)\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)$")
MODEL_INPUT = re.compile(
    r"(ckpt|lora|vae|unet|clip|control_net|controlnet|model|style_model|upscale_model|clip_vision)_name\d*"
)
PATHS = re.compile(r"(?:[A-Za-z]:)?(?:[\\/][\w .@+-]+)*[\\/](?=[\w.@+-])")
ADDRESSES = re.compile(r"\w+://\S+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
OUT_OF_MEMORY = re.compile(r"(?i)OutOfMemory|out of memory|Allocation on device")
MACHINE = re.compile(
    r"(?i)CUDA error|cuDNN|CUBLAS|AcceleratorError|HIP error|No space left|Connection|Timeout"
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
        for item in node.get("errors") or ():
            yield f"node {node_id} ({node.get('class_type')})", item


def _complaint(item: Mapping[str, Any]) -> str:
    """The rule that was broken and the input, without the server's list of files."""
    name = (item.get("extra_info") or {}).get("input_name")
    return f"{name}: {item.get('message')}" if name else str(item.get("message"))


def _is_missing_model(item: Mapping[str, Any]) -> bool:
    extra = item.get("extra_info") or {}
    return item.get("type") == "value_not_in_list" and names_model(
        str(extra.get("input_name")), extra.get("received_value")
    )


def names_model(name: str, value: Any) -> bool:
    """Whether an input of a node names a model file."""
    is_file = isinstance(value, str) and MODEL_FILE.search(value)
    return bool(is_file or (isinstance(value, str) and MODEL_INPUT.fullmatch(name)))


def _is_missing_node(error: Mapping[str, Any]) -> bool:
    kind, message = error.get("type"), str(error.get("message"))
    old = kind == "invalid_prompt" and re.search(r"does not exist|not found", message)
    return kind == "missing_node_type" or bool(old)


def shown(text: str) -> str:
    """A message of the server for users: one line, without its folders and addresses."""
    return scrub(ADDRESSES.sub("***", PATHS.sub("", " ".join(text.split()))))[:400]


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
    for item in status.get("messages") or ():
        if isinstance(item, list) and len(item) == 2 and isinstance(item[1], dict):
            yield str(item[0]), item[1]


def node_error(data: Mapping[str, Any]) -> ProviderError:
    """An `execution_error`. Trouble of the machine may pass, a node that fails on its input will fail again."""
    said = f"{data.get('exception_type')}: {data.get('exception_message')}"
    where = f"{data.get('node_type')} (node {data.get('node_id')})"
    raw = scrub(f"{said}\n{''.join(map(str, data.get('traceback') or ()))}")
    if is_out_of_memory(said):
        message = f"{where} ran out of memory."
        return ProviderError("transient", message, "node_error", retries=1, raw=raw)
    kind = "transient" if MACHINE.search(said) else "bad_input"
    message = shown(f"{where}: {data.get('exception_message')}")
    return ProviderError(
        "transient" if kind == "transient" else "bad_input", message, "node_error", raw=raw
    )


def is_out_of_memory(said: str) -> bool:
    return OUT_OF_MEMORY.search(said) is not None


def _result(entry: Entry, base_url: str, *, cached: bool) -> Completed | ProviderError:
    nodes = entry.get("outputs")
    found = list(nodes.values()) if isinstance(nodes, dict) else []
    try:
        outputs = list(_outputs(found, base_url, _seed(entry)))
    except ValueError:
        # Making it again would give the same name: nothing to be gained by trying elsewhere.
        return ProviderError(
            "bad_input", "The server named a result in an unsafe way.", "result_rejected"
        )
    texts = [text for node in found for text in _strings(node.get("text"))]
    if outputs or texts:
        return Completed(outputs, {"images": _count(outputs)}, text="\n".join(texts) or None)
    if cached:
        return ProviderError("transient", NOTHING, "no_output", retries=1)
    return ProviderError("bad_input", NOTHING, "no_output")
