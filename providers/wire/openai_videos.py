"""Videos as OpenAI-compatible gateways make them: create, look, list, delete.

A paid create that may have been accepted is looked for in the list; finished content is fetched by the engine.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from uuid import UUID

from providers import faults
from providers.base import (
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ErrorKind,
    Output,
    ProviderError,
    Update,
)
from providers.http import Form, Reply
from providers.wire import codes
from providers.wire.openai_images import as_file

PATH = "/videos"
LISTED = 100
CLOCKS_DIFFER = 60  # seconds
NOT_FIELDS = frozenset(
    {"images", "mask", "audio", "width", "height", "duration", "model", "stream"}
)


def create(call: Call, base: str) -> Accepted:
    """Raises ProviderError."""
    call.http.after_unknown = "find"  # this create can be looked up, the provider's others cannot
    fields = body(call)
    pictures = call.media("images")
    if pictures:
        reference = ("input_reference", as_file(pictures[0], "reference"))
        form: Form = [*((name, str(value)) for name, value in fields.items()), reference]
        reply = call.http.post(base + PATH, form=form, paid=True)
    else:
        reply = call.http.post(base + PATH, json=fields, paid=True)
    identity = reply.object().get("id")
    if not isinstance(identity, str) or not identity:
        raise faults.bad_response(paid=True, raw=reply.raw)
    return Accepted(identity, _poll_after(reply))


def body(call: Call) -> dict[str, Any]:
    """The fields of a create, without its picture."""
    given = call.given()
    fields = {name: value for name, value in given.items() if name not in NOT_FIELDS}
    if "duration" in given:
        fields["seconds"] = f"{given['duration']:g}"
    if "width" in given and "height" in given:
        fields.setdefault("size", f"{given['width']}x{given['height']}")
    return {**fields, "model": call.model}


def look_at(call: Call, base: str, table: Mapping[str, ErrorKind]) -> Update:
    """What became of an accepted video. Raises ProviderError when that cannot be told now."""
    try:
        reply = call.http.get(_path(call, base))
    except ProviderError as problem:
        if problem.status != 404:
            raise
        return Update(call, ProviderError("lost", faults.MESSAGES["lost"], "result_lost"))
    video = reply.object()
    match video.get("status"):
        case "completed":
            return Update(call, _finished(call, base, video))
        case "failed" | "cancelled" | "canceled" | "expired":
            return Update(call, _failed(video, table))
    return Update(call, "working", _share(video.get("progress")), poll_after=_poll_after(reply))


def _share(percent: Any) -> float | None:
    return min(max(percent / 100, 0.0), 1.0) if isinstance(percent, int | float) else None


def _finished(call: Call, base: str, video: Mapping[str, Any]) -> Completed:
    output = Output("video", url=f"{_path(call, base)}/content", content_type="video/mp4")
    seconds = faults.duration(f"{video.get('seconds')}s")
    return Completed([output], {"seconds": seconds} if seconds else {})


def _failed(video: Mapping[str, Any], table: Mapping[str, ErrorKind]) -> ProviderError:
    """An unknown reason is worth another executor, not another try on this one."""
    known = codes.problem_of({"error": video.get("error")}, 200, table)
    return known or ProviderError("transient", "The provider failed to make the video.", retries=0)


def find(call: Call, base: str) -> Accepted | None:
    """The one video in the list that was made of this request; None when there is none, or more than one."""
    reply = call.http.get(base + PATH, query={"order": "desc", "limit": LISTED})
    listed = reply.object().get("data")
    videos = listed if isinstance(listed, list) else []
    same = [video for video in videos if isinstance(video, dict) and _is_of(call, video)]
    return Accepted(str(same[0]["id"])) if len(same) == 1 else None


def _is_of(call: Call, video: Mapping[str, Any]) -> bool:
    """Same prompt, length and size as far as they are told, and not older than the task."""
    wanted = body(call)
    told = [name for name in ("seconds", "size") if name in wanted and video.get(name)]
    created = video.get("created_at")
    return (
        bool(video.get("id"))
        and all(video.get(name) == wanted.get(name) for name in ("prompt", *told))
        and isinstance(created, int | float)
        and created >= _asked_at(call) - CLOCKS_DIFFER
    )


def _asked_at(call: Call) -> float:
    """Unix seconds: the first 48 bits of a task's id (UUIDv7) are its milliseconds."""
    return (UUID(call.task_id).int >> 80) / 1000


def cancel(call: Call, base: str) -> CancelOutcome:
    """Delete it unless it is finished."""
    try:
        if call.http.get(_path(call, base)).object().get("status") in {"completed", "failed"}:
            return "too_late"
        call.http.delete(_path(call, base))
    except ProviderError as problem:
        if problem.status in {404, 405, 501}:
            return "unsupported"
        if problem.status in {400, 409}:
            return "too_late"
        raise
    return "canceled"


def _path(call: Call, base: str) -> str:
    return f"{base}{PATH}/{quote(call.external_id or '', safe='')}"


def _poll_after(reply: Reply) -> float | None:
    text = reply.headers.get("openai-poll-after-ms", "")
    return int(text) / 1000 if text.isdigit() else None
