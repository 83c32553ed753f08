"""Requests for files, in the several protocols that DashScope's models speak."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from providers.base import Call
from providers.wire.openai_chat import NOT_FIELDS

AIGC = "/services/aigc/"
DIALOGUE = AIGC + "multimodal-generation/generation"
SPEECH = "/services/audio/tts/SpeechSynthesizer"
TRANSLATED = NOT_FIELDS | {"seed"}
VERSION = re.compile(r"wanx?(\d+)\.(\d+)")

# WxH with a star, by aspect ratio.
IMAGE_SIZES = {
    "1:1": "1280*1280",
    "4:3": "1472*1104",
    "3:4": "1104*1472",
    "16:9": "1696*960",
    "9:16": "960*1696",
}
QWEN_SIZES = {
    "1:1": "1328*1328",
    "4:3": "1472*1104",
    "3:4": "1104*1472",
    "16:9": "1664*928",
    "9:16": "928*1664",
}
VIDEO_SIZES = {
    "1:1": "960*960",
    "4:3": "1088*832",
    "3:4": "832*1088",
    "16:9": "1280*720",
    "9:16": "720*1280",
}


class Ask(NamedTuple):
    """Where a request goes, its `input` and its `parameters`."""

    path: str
    inputs: dict[str, Any]
    options: dict[str, Any]


def picture(call: Call) -> Ask:
    """A job for pictures."""
    given = call.given()
    images = [file.data_uri() for file in call.media("images")]
    options = _options(given, n=given.get("n", 1), size=_size(given, _table(call)))
    if _at_least(call.model, 2, 6):
        return dialogue(call)._replace(path=AIGC + "image-generation/generation")
    if "imageedit" in call.model:
        return Ask(AIGC + "image2image/image-synthesis", _retouch(call, images), options)
    if images:
        inputs = {**_words(given), "images": images}
        return Ask(AIGC + "image2image/image-synthesis", inputs, options)
    return Ask(AIGC + "text2image/image-synthesis", _words(given), options)


def _retouch(call: Call, images: Sequence[str]) -> dict[str, Any]:
    masks = [file.data_uri() for file in call.media("mask")]
    inputs: dict[str, Any] = {**_words(call.given()), "base_image_url": "".join(images[:1])}
    if not masks:
        return inputs | {"function": "description_edit"}
    return inputs | {"function": "description_edit_with_mask", "mask_image_url": masks[0]}


def dialogue(call: Call) -> Ask:
    """The newest protocol: a picture is asked for like an answer."""
    given = call.given()
    content = [{"image": file.data_uri()} for file in call.media("images")]
    content.append({"text": str(given.get("prompt", ""))})
    more = {"n": given.get("n", 1), "negative_prompt": given.get("negative_prompt")}
    options = _options(given, size=_size(given, _table(call)), **more)
    return Ask(DIALOGUE, {"messages": [{"role": "user", "content": content}]}, options)


def video(call: Call) -> Ask:
    """A wrong field would be accepted, and the job fail later: each kind of model has its own."""
    given, inputs = call.given(), _words(call.given())
    images = [file.data_uri() for file in call.media("images")]
    if sounds := call.media("audio"):
        inputs["audio_url"] = sounds[0].url()
    options = _options(given, duration=int(given.get("duration", 5)))
    if "kf2v" in call.model:
        frames = zip(("first_frame_url", "last_frame_url"), images, strict=False)
        return Ask(AIGC + "image2video/video-synthesis", inputs | dict(frames), options)
    if not images:
        options["size"] = _size(given, VIDEO_SIZES) or VIDEO_SIZES["16:9"]
    elif _at_least(call.model, 2, 7):
        inputs["media"] = [{"type": "first_frame", "url": images[0]}]
    else:
        inputs["img_url"] = images[0]
    return Ask(AIGC + "video-generation/video-synthesis", inputs, options)


def speech(call: Call) -> Ask:
    given = call.given()
    inputs = {"text": given.get("prompt", ""), "voice": given.get("voice", "Cherry")}
    if call.model.startswith("cosyvoice"):
        inputs |= {"format": given.get("format", "mp3"), "sample_rate": 24000}
        inputs |= {"rate": given["speed"]} if "speed" in given else {}
        return Ask(SPEECH, inputs, {})
    inputs |= {"language_type": given["language"]} if "language" in given else {}
    return Ask(DIALOGUE, inputs, {})


def _options(given: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """`parameters`: the vendor's own names as they came, and `more` without its Nones."""
    options = {name: value for name, value in given.items() if name not in TRANSLATED}
    options["watermark"] = given.get("watermark", False)
    if given.get("seed", -1) >= 0:
        options["seed"] = given["seed"]
    return options | {name: value for name, value in more.items() if value is not None}


def _words(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("prompt", "negative_prompt") if given.get(name)}


def _table(call: Call) -> Mapping[str, str]:
    return QWEN_SIZES if call.model.startswith("qwen") else IMAGE_SIZES


def _size(given: Mapping[str, Any], table: Mapping[str, str]) -> str | None:
    if "size" in given:
        return str(given["size"]).replace("x", "*")
    if "width" in given and "height" in given:
        return f"{given['width']}*{given['height']}"
    return table.get(given.get("aspect_ratio", ""))


def _at_least(model: str, major: int, minor: int) -> bool:
    match = VERSION.match(model)
    return match is not None and (int(match[1]), int(match[2])) >= (major, minor)
