"""What the sandbox answers: text, pictures, films, sounds, vectors."""

import hashlib
import re
import time
from typing import Any

from providers.base import Aborted, Call, Completed, Output, ProviderError
from providers.sandbox import media
from providers.sandbox.params import (
    AudioParams,
    Controls,
    EmbeddingParams,
    ImageParams,
    PictureParams,
    SandboxParams,
    TextParams,
    TranscribeParams,
    VideoParams,
)

NAP = 0.05  # seconds between two looks at whether the call was taken back


def controls(call: Call) -> Controls:
    return call.params.sandbox if isinstance(call.params, SandboxParams) else Controls()


def check(call: Call) -> None:
    """Raises Aborted for a call that was taken back, ProviderError for one out of time."""
    if call.cancelled():
        raise Aborted(call.http.aborted or "canceled")
    if time.monotonic() >= call.deadline:
        raise ProviderError(
            "transient",
            "The sandbox did not finish in time.",
            "upstream_timeout",
            blames_executor=False,
        )


def pause(call: Call, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        check(call)
        time.sleep(min(left, NAP, max(call.deadline - time.monotonic(), 0)))


def result(call: Call) -> Completed:
    match call.params:
        case TextParams():
            return _chat(call, call.params)
        case ImageParams():
            return _images(call, call.params)
        case VideoParams():
            return _videos(call, call.params)
        case AudioParams():
            return _sound(call, call.params)
        case TranscribeParams():
            return _transcript(call, call.params)
        case EmbeddingParams():
            return _vectors(call.params)
    raise ProviderError("not_available", "The sandbox has no such model.", blames_executor=False)


def _chat(call: Call, params: TextParams) -> Completed:
    tool = _tool_call(call, params)
    text = params.sandbox.text
    if text is None:
        text = "" if tool else f"[sandbox] {call.model}: {_last_words(params)}"
    if call.stream and call.external_id is None:  # nobody streams from a poll
        _stream(call, text, tool)
    elif _cut(call) is not None:
        raise _broken(call)
    return Completed(text=text, message=_message(text, tool), usage=_spent(_asked(params), text))


def _message(text: str, tool: dict[str, Any] | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if tool:
        message |= {"content": text or None, "tool_calls": [tool]}
    return message | {"finish_reason": "tool_calls" if tool else "stop"}


def _asked(params: TextParams) -> str:
    said = [str(message.get("content")) for message in params.messages or ()]
    return " ".join([params.system or "", *said, params.prompt or ""]).strip()


def _spent(asked: str, answered: str = "") -> dict[str, float]:
    prompt, completion = _tokens(asked), _tokens(answered)
    usage: dict[str, float] = {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "calls": 1,
    }
    return usage | {"completion_tokens": completion} if answered else usage


def _last_words(params: TextParams) -> str:
    """What the user said last."""
    if params.prompt is not None:
        return params.prompt
    said = [m.get("content") for m in params.messages or () if m.get("role") == "user"]
    last = said[-1] if said else ""
    if isinstance(last, list):
        return " ".join(
            str(part["text"]) for part in last if isinstance(part, dict) and "text" in part
        )
    return str(last or "")


def _tokens(text: str) -> int:
    """About four characters a token."""
    return -(-len(text) // 4)


def _tool_call(call: Call, params: TextParams) -> dict[str, Any] | None:
    """With tools and a choice that demands one: a call of the named one, or of the first, without arguments."""
    names = [tool.get("function", {}).get("name") for tool in params.tools or ()]
    choice = params.tool_choice
    if isinstance(choice, dict):
        wanted = choice.get("function", {}).get("name")
    else:
        wanted = names[0] if names and choice == "required" else None
    if wanted is None or wanted not in names:
        return None
    identity = hashlib.sha256(f"{call.task_id} {wanted}".encode()).hexdigest()[:24]
    function = {"name": wanted, "arguments": "{}"}
    return {"id": f"call_{identity}", "type": "function", "function": function}


def _cut(call: Call) -> int | None:
    asked = controls(call)
    return asked.cut_after if asked.faulty(call.attempt) else None


def _broken(call: Call) -> ProviderError:
    return ProviderError(
        "transient",
        "The sandbox broke its answer off, as it was told to.",
        "upstream_cut",
        blames_executor=controls(call).health,
    )


def _stream(call: Call, text: str, tool: dict[str, Any] | None) -> None:
    cut, words = _cut(call), re.findall(r"\S+\s*|\s+", text)
    for word in words[:cut]:
        call.emit.delta(word)
        pause(call, controls(call).chunk_delay)
    if cut is not None and cut <= len(words):
        raise _broken(call)
    if tool:
        call.emit.delta(tool_calls=[{"index": 0, **tool}])


def _images(call: Call, params: ImageParams) -> Completed:
    outputs = [
        Output(
            "image",
            data=media.png(
                _lines(call, params, index), params.pixels, _digest(call, params, index)
            ),
            content_type="image/png",
            meta=_measures(params),
        )
        for index in range(params.n)
    ]
    return Completed(outputs, usage={"images": params.n, "calls": 1})


def _videos(call: Call, params: VideoParams) -> Completed:
    outputs = [
        Output(
            "video",
            data=media.webm(
                _lines(call, params, index),
                params.pixels,
                _digest(call, params, index),
                seconds=params.duration,
                fps=params.fps,
            ),
            content_type="video/webm",
            meta=_measures(params) | {"duration_seconds": params.duration},
        )
        for index in range(params.n)
    ]
    return Completed(outputs, usage={"seconds": params.duration * params.n, "calls": 1})


def _lines(call: Call, params: ImageParams | VideoParams, index: int) -> list[str]:
    seed = "random" if params.seed in {None, -1} else str(params.seed)
    which = [f"{index + 1} of {params.n}"] * (params.n > 1)
    return [params.prompt or "", f"seed {seed}", call.model, *which]


def _measures(params: PictureParams) -> dict[str, Any]:
    width, height = params.pixels
    return {"width": width, "height": height, "seed": params.seed}


def _digest(call: Call, params: SandboxParams, index: int = 0) -> bytes:
    files = [hashlib.sha256(call.inputs[name].bytes()).digest() for name in sorted(call.inputs)]
    return media.digest_of(call.model, params.subject, files, index)


def _sound(call: Call, params: AudioParams) -> Completed:
    seconds = params.duration or min(max(len(params.prompt) / 15, 0.5), 30) / params.speed
    sound = media.wav(_digest(call, params), seconds=seconds)
    output = Output(
        "audio", data=sound, content_type="audio/wav", meta={"duration_seconds": seconds}
    )
    usage = {"seconds": round(seconds, 3), "characters": len(params.prompt), "calls": 1}
    return Completed([output], usage=usage)


def _transcript(call: Call, params: TranscribeParams) -> Completed:
    if "audio" not in call.inputs:
        raise ProviderError("bad_input", "There is no audio to listen to.", blames_executor=False)
    seconds = media.seconds_of(call.inputs["audio"].bytes())
    text = params.sandbox.text
    if text is None:
        text = f"[sandbox] {seconds:g} s of audio"
    data = {
        "language": params.language or "en",
        "duration": seconds,
        "segments": [{"start": 0.0, "end": seconds, "text": text}],
    }
    return Completed(text=text, data=data, usage={"seconds": seconds, "calls": 1})


def _vectors(params: EmbeddingParams) -> Completed:
    vectors = [media.vector(text, params.dimensions) for text in params.all_texts]
    return Completed(data={"embeddings": vectors}, usage=_spent(" ".join(params.all_texts)))
