"""Google's other media models: Imagen (`:predict`), Veo (long-running operations), Omni video (interactions).

All creates are paid, and a lost one cannot be looked up. What the safety filters removed is simply missing from a
success; Google says why only when asked.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from providers import faults
from providers.base import Accepted, Call, Completed, Output, OutputKind, ProviderError, Update
from providers.http import Reply
from providers.wire import codes, gemini_errors, refusals
from providers.wire.gemini_request import edges, nearest
from providers.wire.openai_images import MAX_BYTES, decoded

IMAGEN_RATIOS = ("1:1", "3:4", "4:3", "9:16", "16:9")
VIDEO_RATIOS = ("16:9", "9:16")
WORKING = frozenset({"queued", "in_progress"})


def shape(given: Mapping[str, Any], ratios: tuple[str, ...]) -> dict[str, Any]:
    """`aspectRatio` as it was asked for, or the nearest to the size that was."""
    width, height = edges(given)
    if "aspect_ratio" in given:
        return {"aspectRatio": given["aspect_ratio"]}
    return {"aspectRatio": nearest(width / height, ratios)} if width and height else {}


def resolution(given: Mapping[str, Any]) -> str | None:
    """`720p` and the like: as it was asked for, or by the shorter edge of the size."""
    short = min(edges(given))
    by_size = next((f"{lines}p" for lines in (360, 720, 1080) if short <= lines), "4k")
    return given.get("quality") or (by_size if short else None)


# Imagen


def imagine(call: Call) -> Completed:
    """Raises ProviderError."""
    given = call.given()
    count = {"sampleCount": given.get("n", 1), "includeRaiReason": True}
    body = {
        "instances": [{"prompt": given.get("prompt", "")}],
        "parameters": {**count, **shape(given, IMAGEN_RATIOS)},
    }
    path = f"/models/{quote(call.model)}:predict"
    reply = call.http.post(path, json=body, paid=True, max_bytes=MAX_BYTES)
    found = list(_objects(reply.object().get("predictions")))
    outputs = [_inline("image", one) for one in found if one.get("bytesBase64Encoded")]
    if outputs:
        return Completed(outputs, {"images": len(outputs)})
    reasons = [str(one["raiFilteredReason"]) for one in found if one.get("raiFilteredReason")]
    raise refusals.refused(reasons[0]) if reasons else refusals.no_output("an image")


def _inline(kind: OutputKind, one: Mapping[str, Any]) -> Output:
    content_type = str(one.get("mimeType") or {"image": "image/png", "video": "video/mp4"}[kind])
    return Output(kind, data=decoded(str(one["bytesBase64Encoded"])), content_type=content_type)


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


# Veo


def start_operation(call: Call) -> Accepted:
    """Raises ProviderError."""
    given = call.given()
    instance: dict[str, Any] = {"prompt": given.get("prompt", "")}
    for picture in call.media("images")[:1]:
        instance["image"] = {
            "bytesBase64Encoded": picture.base64(),
            "mimeType": picture.content_type,
        }
    names = {"duration": "durationSeconds", "negative_prompt": "negativePrompt", "seed": "seed"}
    wishes = {theirs: given[ours] for ours, theirs in names.items() if given.get(ours, -1) != -1}
    wishes |= shape(given, VIDEO_RATIOS)
    if lines := resolution(given):
        wishes["resolution"] = lines
    body = {"instances": [instance], "parameters": wishes}
    path = f"/models/{quote(call.model)}:predictLongRunning"
    return _accepted(call.http.post(path, json=body, paid=True), "name")


def look_at_operation(call: Call) -> Update:
    """Raises ProviderError."""
    reply = _look(call, f"/{quote(call.external_id or '')}")
    if reply is None:
        return Update(call, _lost())
    job = reply.object()
    if not job.get("done"):
        return Update(call, "working")
    if isinstance(job.get("error"), dict):
        return Update(call, gemini_errors.of_operation(job["error"]))
    answer = job.get("response")
    return Update(call, _videos(call, answer if isinstance(answer, dict) else {}))


def _videos(call: Call, answer: Mapping[str, Any]) -> Completed | ProviderError:
    inner = answer.get("generateVideoResponse")
    answer = inner if isinstance(inner, dict) else answer
    samples = [sample.get("video") for sample in _objects(answer.get("generatedSamples"))]
    outputs = [
        Output("video", url=video["uri"], content_type="video/mp4")
        for video in _objects(samples)
        if video.get("uri")
    ]
    listed = (one for one in _objects(answer.get("videos")) if one.get("bytesBase64Encoded"))
    outputs += [_inline("video", one) for one in listed]
    if outputs:
        return Completed(outputs, _seconds(call))
    reasons = answer.get("raiMediaFilteredReasons")
    if answer.get("raiMediaFilteredCount") or reasons:
        words = str(reasons[0]) if isinstance(reasons, list) and reasons else ""
        return refusals.refused(words or faults.MESSAGES["content_refused"])
    return _empty()


# Interactions


def start_interaction(call: Call) -> Accepted:
    """Raises ProviderError."""
    given = call.given()
    wish: dict[str, Any] = {"type": "video", "delivery": "uri"}
    if ratio := shape(given, VIDEO_RATIOS).get("aspectRatio"):
        wish["aspect_ratio"] = ratio
    if lines := resolution(given):
        wish["resolution"] = lines
    if "duration" in given:
        wish["duration"] = f"{given['duration']:g}s"
    content: list[dict[str, Any]] = [{"type": "text", "text": given.get("prompt", "")}]
    content += [
        {"type": "image", "mime_type": picture.content_type, "data": picture.base64()}
        for picture in call.media("images")
    ]
    body = {
        "model": call.model,
        "input": content,
        "background": True,
        "store": True,
        "response_format": wish,
    }
    return _accepted(call.http.post("/interactions", json=body, paid=True), "id")


def look_at_interaction(call: Call) -> Update:
    """Raises ProviderError."""
    reply = _look(call, _interaction(call), max_bytes=MAX_BYTES)
    if reply is None:
        return Update(call, _lost())
    job = reply.object()
    status = job.get("status")
    if status in WORKING:
        return Update(call, "working")
    if status != "completed":
        return Update(call, _failure(job))
    found = [item for item in _made(job) if item.get("uri") or item.get("data")]
    outputs = [_output(item) for item in found]
    return Update(call, Completed(outputs, _seconds(call)) if outputs else _empty())


def cancel_interaction(call: Call) -> None:
    """Raises ProviderError."""
    call.http.post(f"{_interaction(call)}/cancel")


def _interaction(call: Call) -> str:
    return f"/interactions/{quote(call.external_id or '', safe='')}"


def _made(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the model put out, in the short form or among its steps."""
    if isinstance(job.get("output_video"), dict):
        yield job["output_video"]
        return
    for step in _objects(job.get("steps")):
        if step.get("type") == "model_output":
            yield from (one for one in _objects(step.get("content")) if one.get("type") == "video")


def _output(item: Mapping[str, Any]) -> Output:
    content_type = str(item.get("mime_type") or "video/mp4")
    if item.get("uri"):
        return Output("video", url=str(item["uri"]), content_type=content_type)
    return Output("video", data=decoded(str(item["data"])), content_type=content_type)


def _failure(job: Mapping[str, Any]) -> ProviderError:
    """An unknown reason is worth another executor, not another try on this one."""
    told = [
        *_objects(job.get("errors")),
        *_objects([s.get("error") for s in _objects(job.get("steps"))]),
    ]
    for fault in told:
        message = str(fault.get("message") or "")
        if gemini_errors.UNSAFE.search(message):
            return refusals.refused(message)
        if problem := codes.problem_of({"error": fault}, 200):
            return problem
    return ProviderError("transient", "The provider failed to make the video.", retries=0)


# All jobs


def _accepted(reply: Reply, name: str) -> Accepted:
    identity = reply.object().get(name)
    if not isinstance(identity, str) or not identity:
        raise faults.bad_response(paid=True, raw=reply.raw)
    return Accepted(identity)


def _look(call: Call, path: str, max_bytes: int = 10_000_000) -> Reply | None:
    """The job, None when it is gone. Raises ProviderError."""
    try:
        return call.http.get(path, max_bytes=max_bytes)
    except ProviderError as problem:
        if problem.status == 404:
            return None
        raise


def _lost() -> ProviderError:
    return ProviderError("lost", faults.MESSAGES["lost"], "result_lost")


def _empty() -> ProviderError:
    """Finished and charged, without a result: making it again here would be charged again."""
    return ProviderError("lost", "The provider finished without a video.", "no_output", retries=0)


def _seconds(call: Call) -> dict[str, float]:
    duration = call.given().get("duration")
    return {"seconds": duration} if duration else {}
