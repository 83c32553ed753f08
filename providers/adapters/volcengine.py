"""Volcengine Ark and BytePlus ModelArk: chat, Seedream and SeedEdit images, Seedance videos.

Chat speaks OpenAI's protocol. An image is one long paid request that nobody can look up afterwards. A video is a job,
and carries a mark of ours (`safety_identifier`, which Ark gives back) by which it is found when the answer to its
create was lost. https://www.volcengine.com/docs/82379
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from genpulse.config import config
from providers import faults
from providers.base import (
    Absent,
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ErrorKind,
    ExecutorInfo,
    Health,
    Output,
    Provider,
    ProviderError,
    Update,
)
from providers.http import Reply
from providers.wire import codes, jobs, openai_chat, openai_images, refusals
from providers.wire.ark_models import IMAGE, MODELS, SIZES_1K, SIZES_2K, VIDEO

JOBS = "/contents/generations/tasks"
Query = dict[str, str | int | Sequence[str]]
PAGE, PAGES = 500, 5  # of the jobs that `find` reads
PHASES = {"queued": "waiting at the provider", "running": "in the making"}

_MORE: dict[ErrorKind, str] = {
    "content_refused": """inputtextriskdetection inputimageriskdetection outputtextriskdetection
        outputimageriskdetection""",
    "quota_exhausted": "inflightbatchsizeexceeded",
    "rate_limited": "apiaccountrpmratelimitexceeded",
    "not_available": "unsupportedmodel notfound resourcenotfound",
    "bad_input": "missingparameter oversizeimage",
}
# Compared by prefix: what follows a dot varies. Statuses mean little here, a 429 can be an empty account.
CODES = codes.CODES | {code: kind for kind, words in _MORE.items() for code in words.split()}

# Names of `input` that Ark calls otherwise; the rest goes out as it is.
TRANSLATED = openai_chat.NOT_FIELDS | {"seed", "image_role"}


class Volcengine(Provider):
    name = "volcengine"
    description = "Volcengine Ark: Doubao chat, Seedream images, Seedance videos"
    retry_submit, looks = "find", 2
    streams = True
    models = MODELS

    def submit(self, call: Call) -> Completed | Accepted:
        if call.task_type in VIDEO:
            return _create_job(call)
        if call.task_type in IMAGE:
            return _create_images(call)
        thinking = call.given().get("thinking")
        more = {"thinking": {"type": thinking}} if isinstance(thinking, str) else {}
        return openai_chat.complete(call, openai_chat.request(call, **more))

    def poll(self, calls: Sequence[Call]) -> list[Update]:
        listed = _listed(calls) if len(calls) > 1 else {}
        return jobs.each(calls, lambda call: _update(call, _job(call, listed)))

    def find(self, call: Call) -> Accepted | Absent | None:
        return _search(call) if call.task_type in VIDEO else None

    def cancel(self, call: Call) -> CancelOutcome:
        # A DELETE stops a job that waits, but erases one that is done: never without looking first.
        job = _job(call, {}) or {}
        if job.get("status") == "cancelled":
            return "canceled"
        if job.get("status") != "queued":
            return "too_late"
        try:
            call.http.delete(_address(call), timeout=config.ai_timeout)
        except ProviderError as problem:
            if problem.status in {400, 404, 409}:  # it has just begun, or ended
                return "too_late"
            raise
        return "canceled"

    def probe(self, executor: ExecutorInfo) -> Health:
        query = {"page_num": 1, "page_size": 1}
        executor.http.get(JOBS, query=query, timeout=config.ai_timeout)
        return Health("healthy", "ok")

    def explain(self, reply: Reply) -> ProviderError | None:
        problem = codes.explain(reply, CODES)
        if problem and problem.kind == "bad_input" and "download" in codes.words(reply.json())[2]:
            # The vendor could not fetch one of our links: a fresh one may do.
            return faults.standard("transient", retries=1)
        return problem


def _create_images(call: Call) -> Completed:
    # Nothing can be looked up here: after a refusal that is Ark's own (500) it is sent once more at most.
    call.http.after_unknown = "verify"
    reply = call.http.post(
        "/images/generations",
        json=_image_body(call),
        headers=_trace(call),
        paid=True,
        max_bytes=openai_images.MAX_BYTES,
    )
    return _pictures(reply)


def _trace(call: Call) -> dict[str, str]:
    """What Ark's support asks for when an answer was lost."""
    return {"X-Client-Request-Id": f"{call.submit_key}/{call.attempt}"}


def _image_body(call: Call) -> dict[str, Any]:
    given = call.given()
    body = {name: value for name, value in given.items() if name not in TRANSLATED}
    body |= {"model": call.model, "prompt": _prompt(given), "response_format": "url"}
    body["watermark"] = given.get("watermark", False)  # Ark's own default is to mark
    images = [file.data_uri() for file in call.media("images")]
    if images:
        body["image"] = images[0] if len(images) == 1 else images
    if size := _size_of(call.model, given):
        body["size"] = size
    if given.get("seed", -1) >= 0:
        body["seed"] = given["seed"]
    if given.get("n", 1) > 1:  # the model may still make fewer
        body["sequential_image_generation"] = "auto"
        body["sequential_image_generation_options"] = {"max_images": given["n"]}
    theirs = {"guidance": "guidance_scale", "format": "output_format"}
    return body | {theirs[name]: given[name] for name in theirs if name in given}


def _prompt(given: Mapping[str, Any]) -> str:
    """Ark has no field for what is not wanted."""
    unwanted = given.get("negative_prompt")
    prompt = str(given.get("prompt", ""))
    return f"{prompt}\nAvoid: {unwanted}" if unwanted else prompt


def _size_of(model: str, given: Mapping[str, Any]) -> str | None:
    if "size" in given:
        return str(given["size"])
    if "width" in given and "height" in given:
        return f"{given['width']}x{given['height']}"
    old = "-3-0-t2i" in model
    ratio = given.get("aspect_ratio", "1:1" if old else None)
    return (SIZES_1K if old else SIZES_2K).get(ratio)


def _pictures(reply: Reply) -> Completed:
    """Of several pictures the good ones count. Raises ProviderError."""
    data = reply.object()
    if data.get("error"):
        raise _problem(data["error"])
    items = data.get("data")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise faults.bad_response(paid=True, raw=reply.raw)
    outputs = [picture for item in items if (picture := _picture(item))]
    if not outputs:
        errors = [item["error"] for item in items if item.get("error")]
        raise _problem(errors[0]) if errors else refusals.no_output("an image")
    made = jobs.amounts(
        data.get("usage"), {"generated_images": "images", "total_tokens": "total_tokens"}
    )
    return Completed(outputs, {"images": len(outputs)} | made)


def _picture(item: Mapping[str, Any]) -> Output | None:
    width, _, height = str(item.get("size")).partition("x")
    known = width.isdigit() and height.isdigit()
    meta = {"width": int(width), "height": int(height)} if known else {}
    if isinstance(item.get("url"), str) and item["url"]:
        return Output("image", url=item["url"], meta=meta)
    if isinstance(item.get("b64_json"), str) and item["b64_json"]:
        return Output("image", data=openai_images.decoded(item["b64_json"]), meta=meta)
    return None


def _problem(error: Any) -> ProviderError:
    """An error inside a success or of a failed job; an unknown one is tried elsewhere, as a new job."""
    known = codes.problem_of({"error": error}, 200, CODES)
    return known or faults.standard("transient", retries=0)


def _mark(call: Call) -> str:
    """One for each attempt: an earlier one may have left a failed job."""
    return hashlib.sha256(f"{call.submit_key}/{call.attempt}".encode()).hexdigest()[:32]


def _create_job(call: Call) -> Accepted:
    reply = call.http.post(
        JOBS,
        json=_job_body(call),
        headers=_trace(call),
        paid=True,
        timeout=config.ai_timeout,
    )
    identity = reply.object().get("id")
    if not isinstance(identity, str) or not identity:
        raise faults.bad_response(paid=True, raw=reply.raw)
    return Accepted(identity, poll_after=3)


def _job_body(call: Call) -> dict[str, Any]:
    given = call.given()
    body = {name: value for name, value in given.items() if name not in TRANSLATED}
    body |= {"model": call.model, "content": _content(call, given)}
    body |= {"watermark": given.get("watermark", False), "safety_identifier": _mark(call)}
    body["seed"] = _seed(call)
    body["duration"] = int(given.get("duration", 5))
    if "aspect_ratio" in given:
        body["ratio"] = given["aspect_ratio"]
    return body


def _seed(call: Call) -> int:
    """The caller's, else one of our own: a second mark, for gateways that drop the first."""
    asked = int(call.given().get("seed", -1))
    return asked if asked >= 0 else int(_mark(call)[:7], 16)


def _content(call: Call, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = []
    if given.get("prompt"):
        content.append({"type": "text", "text": given["prompt"]})
    images = call.media("images")
    frames = ("first_frame", "last_frame")
    by_frame = given.get("image_role") != "reference" and len(images) <= len(frames)
    for index, file in enumerate(images):
        role = frames[index] if by_frame else "reference_image"
        content.append(_part("image_url", file.data_uri(), role))
    content += [_part("video_url", file.url(), "reference_video") for file in call.media("video")]
    content += [_part("audio_url", file.url(), "reference_audio") for file in call.media("audio")]
    return content


def _part(kind: str, url: str, role: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": url}, "role": role}


def _address(call: Call) -> str:
    return f"{JOBS}/{quote(call.external_id or '', safe='')}"


def _listed(calls: Sequence[Call]) -> dict[str, dict[str, Any]]:
    """The jobs of `calls` that one look-up knows, by id. Gateways that lack it know none."""
    query: Query = {"page_num": 1, "page_size": len(calls)}
    query["filter.task_ids"] = [call.external_id or "" for call in calls]
    try:
        reply = calls[0].http.get(JOBS, query=query, timeout=config.ai_timeout)
    except ProviderError as problem:
        if problem.status != 404:
            raise
        return {}
    return {str(job.get("id")): job for job in _items(reply)[0]}


def _items(reply: Reply) -> tuple[list[dict[str, Any]], int | None]:
    """A page of jobs, and how many there are in all, if that is said."""
    data = reply.object()
    items, total = data.get("items") or [], data.get("total")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise faults.bad_response(paid=False, raw=reply.raw)
    return items, total if isinstance(total, int) else None


def _job(call: Call, listed: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The job of a call; None: neither its own address nor the list knows it."""
    identity = call.external_id or ""
    if identity in listed:
        return listed[identity]
    try:
        reply = call.http.get(_address(call), timeout=config.ai_timeout)
    except ProviderError as problem:
        if problem.status != 404:
            raise
        return _listed([call]).get(identity)
    job = reply.object()
    if job.get("id") != identity:
        raise faults.bad_response(paid=False, raw=reply.raw)
    return job


def _update(call: Call, job: Mapping[str, Any] | None) -> Update:
    if job is None:
        words = "The provider does not know the job any more."
        return Update(call, ProviderError("lost", words, "result_lost", retries=0))
    status = job.get("status")
    if status == "succeeded":
        return Update(call, _video(job))
    if status == "failed":
        return Update(call, _problem(job.get("error")))
    if status == "expired":
        words = "The job waited too long at the provider."
        return Update(call, ProviderError("overloaded", words, retries=0))
    if status == "cancelled":
        return Update(call, ProviderError("lost", "The job was canceled at the provider."))
    return Update(call, "working", phase=PHASES.get(str(status)))


def _video(job: Mapping[str, Any]) -> Completed | ProviderError:
    content = job.get("content")
    content = content if isinstance(content, dict) else {}
    url, last = content.get("video_url"), content.get("last_frame_url")
    if not isinstance(url, str) or not url:
        return refusals.no_output("a video")
    meta = jobs.amounts(job, {"seed": "seed", "duration": "duration_seconds"})
    outputs = [Output("video", url=url, meta=meta)]
    if isinstance(last, str) and last:
        outputs.append(Output("image", url=last))
    counted = {name: name for name in ("completion_tokens", "total_tokens")}
    usage = jobs.amounts(job, {"duration": "seconds"}) | jobs.amounts(job.get("usage"), counted)
    return Completed(outputs, usage)


def _search(call: Call) -> Accepted | Absent | None:
    """Look for our mark among the newest jobs of the model. Absent only when all of them were read."""
    others: set[str] = set()
    for page in range(1, PAGES + 1):
        query: Query = {"page_num": page, "page_size": PAGE, "filter.model": call.model}
        items, total = _items(call.http.get(JOBS, query=query, timeout=config.ai_timeout))
        for job in items:
            ours = _is_ours(call, job)
            if ours:
                return Accepted(str(job.get("id")), poll_after=0)
            others |= {str(job.get("id"))} if ours is False else set()
        if not items or total is None or len(others) >= total:
            return Absent() if total == len(others) else None
    return None


def _is_ours(call: Call, job: Mapping[str, Any]) -> bool | None:
    """None: a job without marks, made through something that drops them."""
    if job.get("safety_identifier"):
        return bool(job["safety_identifier"] == _mark(call))
    if job.get("seed") is None:
        return None
    if job["seed"] != _seed(call):
        return False
    # A seed of the caller's may have been used before.
    return True if call.given().get("seed", -1) == -1 else None
