"""Images as OpenAI-compatible servers make them: generations, edits, partial pictures on the way.

A create is paid and answered in the same exchange: what is lost on the way back is `unknown_outcome`.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from providers import faults
from providers.base import Call, Completed, Input, Output, ProviderError
from providers.http import Form
from providers.wire import codes, jobs, refusals, sse

GENERATIONS, EDITS = "/images/generations", "/images/edits"
MAX_BYTES = 256_000_000  # ten large pictures in base64
TYPES = {
    "png": "png",
    "jpeg": "jpeg",
    "jpg": "jpeg",
    "webp": "webp",
    "gif": "gif",
    "svg": "svg+xml",
}
_NO_FIELDS = "images mask audio width height format model stream response_format"
NOT_FIELDS = frozenset(_NO_FIELDS.split())
TOKENS = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}


def body(call: Call) -> dict[str, Any]:
    """GPT image models refuse `response_format` and always send base64; other servers choose for themselves."""
    given = call.given()
    fields = {name: value for name, value in given.items() if name not in NOT_FIELDS}
    if given.get("seed") == -1:
        del fields["seed"]
    if "width" in given and "height" in given:
        fields.setdefault("size", f"{given['width']}x{given['height']}")
    if "format" in given:
        fields["output_format"] = given["format"]
    if call.stream:
        fields = {"partial_images": 1, **fields, "stream": True}
    return {"model": call.model, **fields}


def create(call: Call, base: str) -> Completed:
    """Draw, from the call's pictures if it has any. Raises ProviderError."""
    if call.media("images"):
        return _ask(call, base + EDITS, form=_form(call, body(call)))
    return _ask(call, base + GENERATIONS, json=body(call))


def _ask(call: Call, path: str, **payload: Any) -> Completed:
    if not call.stream:
        reply = call.http.post(path, paid=True, max_bytes=MAX_BYTES, **payload)
        return answer(reply.object())
    with call.http.stream("POST", path, paid=True, **payload) as stream:
        if "json" in stream.headers.get("content-type", ""):  # a server that cannot stream
            return answer(stream.read(MAX_BYTES).object())
        with _all_or_unknown():
            return answer(_last(call, sse.events(stream.chunks())))


def _form(call: Call, fields: Mapping[str, Any]) -> Form:
    """Pictures as files, everything else as text; lists of pictures are called `image[]`."""
    pictures, masks = call.media("images"), call.media("mask")
    name = "image[]" if len(pictures) > 1 else "image"
    texts = [
        (key, str(value).lower() if isinstance(value, bool) else str(value))
        for key, value in fields.items()
    ]
    files = [(name, as_file(picture, f"image-{n}")) for n, picture in enumerate(pictures)]
    return [*texts, *files, *(("mask", as_file(mask, "mask")) for mask in masks)]


def as_file(file: Input, name: str) -> tuple[str, bytes, str]:
    """Name, content and type of a file in a form; servers go by the ending of the name."""
    ending = file.content_type.partition("/")[2].partition(";")[0].removeprefix("x-") or "bin"
    return file.filename or f"{name}.{ending}", file.bytes(), file.content_type


def answer(data: Mapping[str, Any]) -> Completed:
    """`{"data": [{"b64_json" | "url"}]}`; of several pictures the good ones count. Raises ProviderError."""
    if data.get("error"):
        raise codes.problem_of(data, 200) or faults.standard("transient")
    items = data.get("data")
    if not isinstance(items, list):
        raise faults.bad_response(paid=True)
    kind = TYPES.get(str(data.get("output_format")), "png")
    outputs = [picture for item in items if (picture := _picture(item, f"image/{kind}"))]
    if not outputs:
        raise _nothing(items)
    return Completed(outputs=outputs, usage={**tokens(data.get("usage")), "images": len(outputs)})


def _picture(item: Any, content_type: str) -> Output | None:
    if not isinstance(item, dict):
        return None
    words = item.get("revised_prompt")
    meta = {"revised_prompt": words} if isinstance(words, str) and words else {}
    if isinstance(item.get("b64_json"), str) and item["b64_json"]:
        return Output("image", data=decoded(item["b64_json"]), content_type=content_type, meta=meta)
    url = item.get("url")
    return Output("image", url=url, meta=meta) if isinstance(url, str) and url else None


def decoded(text: str) -> bytes:
    """Base64 of a paid answer. Raises ProviderError (`unknown_outcome`)."""
    try:
        return base64.b64decode(text.rpartition("base64,")[2], validate=True)
    except binascii.Error:
        raise faults.bad_response(paid=True) from None


def _nothing(items: list[Any]) -> ProviderError:
    problems = (codes.problem_of(item, 200) for item in items if isinstance(item, dict))
    return next(filter(None, problems), None) or refusals.no_output("an image")


def tokens(usage: Any) -> dict[str, float]:
    """`input_tokens` and `output_tokens` in the names of chat."""
    return jobs.amounts(usage, TOKENS)


def _last(call: Call, events: Iterator[sse.Event]) -> dict[str, Any]:
    """Show the partial pictures; the finished ones as one answer."""
    done: list[dict[str, Any]] = []
    for event in events:
        if event.data.startswith("[DONE]"):
            break
        data = sse.parsed(event.data)
        if data.get("error"):
            return data
        kind = str(data.get("type") or event.event)
        if kind.endswith(".completed"):
            done.append(data)
        elif kind.endswith(".partial_image"):
            call.emit.preview(decoded(str(data.get("b64_json"))), "image/png")
    if not done:
        raise faults.bad_response(paid=True)
    return {**done[-1], "data": done}


@contextmanager
def _all_or_unknown() -> Iterator[None]:
    """Whatever cannot be read of a paid stream leaves open what became of the work."""
    try:
        yield
    except ProviderError as problem:
        if problem.code == "bad_response":
            raise faults.bad_response(paid=True, raw=problem.raw) from None
        raise
