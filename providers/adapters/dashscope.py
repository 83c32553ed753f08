"""Alibaba DashScope (Model Studio): wan and qwen-image pictures, wan videos, speech, chat.

Pictures and videos are jobs: created with the header `X-DashScope-Async`, listed and read for 24 hours. A job carries
nothing of ours, so one whose create was cut off is known again by its prompt only. Newer qwen-image models and speech
answer in the same exchange. https://www.alibabacloud.com/help/en/model-studio/manage-asynchronous-tasks
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote
from uuid import UUID

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
    OutputKind,
    Provider,
    ProviderError,
    Update,
)
from providers.http import Reply
from providers.wire import codes, jobs, openai_chat, openai_images, refusals
from providers.wire import dashscope_requests as requests
from providers.wire.dashscope_models import DRAW, EDIT, I2V, MODELS, SPEECH, T2V

SECONDS = 30.0  # for one exchange about a job
CHAT = "/compatible-mode/v1/chat/completions"
BEIJING = timezone(timedelta(hours=8))  # of all times on the wire
KEPT = timedelta(hours=24)
DRIFT = timedelta(minutes=5)
PAGE, PAGES, LOOKS = 100, 5, 100  # of what `find` reads
WAITING = {"PENDING": "waiting at the provider", "RUNNING": "in the making", "SUSPENDED": None}

_MORE: dict[ErrorKind, str] = {
    "transient": "requesttimeout systemerror modelservicefailed",
    "overloaded": "modelunavailable serviceunavailable",
    "rate_limited": "limitrequests",
    "not_available": "notfound workspacenotfound",
}
CODES = codes.CODES | {code: kind for kind, words in _MORE.items() for code in words.split()}
QUOTA = ("throttling.allocationquota", "insufficient_quota")
SYNCHRONOUS = re.compile(r"qwen-image-(?!plus)|z-image")
KINDS: tuple[OutputKind, ...] = ("image", "video", "audio")


class DashScope(Provider):
    name = "dashscope"
    description = "Alibaba DashScope: wan and qwen-image pictures, wan videos, speech, chat"
    retry_submit = "find"
    streams = True
    models = MODELS

    def submit(self, call: Call) -> Completed | Accepted:
        if _is_job(call):
            make = requests.video if call.task_type in (*T2V, *I2V) else requests.picture
            return _create(call, make(call))
        if call.task_type in SPEECH:
            return _ask(call, requests.speech(call))
        if call.task_type in (*DRAW, *EDIT):
            return _ask(call, requests.dialogue(call))
        root = call.http.base_url.removesuffix("/api/v1")
        return openai_chat.complete(call, openai_chat.request(call), root + CHAT)

    def poll(self, calls: Sequence[Call]) -> list[Update]:
        states = _states(calls[0]) if len(calls) > 1 else {}
        return jobs.each(calls, lambda call: _look(call, states))

    def find(self, call: Call) -> Accepted | Absent | None:
        return _search(call) if _is_job(call) else None

    def cancel(self, call: Call) -> CancelOutcome:
        try:
            call.http.post(f"{_address(call.external_id)}/cancel", timeout=SECONDS)
        except ProviderError as problem:
            if problem.status in {400, 404}:  # only what waits can be canceled
                return "too_late"
            raise
        return "canceled"

    def probe(self, executor: ExecutorInfo) -> Health:
        query = {"page_no": 1, "page_size": 1}
        executor.http.get("/tasks/", query=query, timeout=SECONDS)
        return Health("healthy", "ok")

    def explain(self, reply: Reply) -> ProviderError | None:
        problem = _problem(reply.json(), reply.status) if reply.readable else None
        if problem and problem.kind in {"rate_limited", "overloaded"}:
            problem.retry_after = faults.retry_after(reply.headers)
        return problem


def _is_job(call: Call) -> bool:
    if call.task_type in (*DRAW, *EDIT):
        return not SYNCHRONOUS.match(call.model)
    return call.task_type in (*T2V, *I2V)


def _problem(body: Any, status: int) -> ProviderError | None:
    """What an error says. Some codes mean two things, and the message tells which."""
    code, _, message = codes.words(body)
    said = message.lower()
    if code.lower().startswith(QUOTA) and not ("free" in said or "increase your quota" in said):
        return faults.standard("rate_limited")  # tokens per minute
    if code.startswith("InvalidURL") or "download the media" in said:
        # The vendor could not fetch one of our links: a fresh one may do.
        return faults.standard("transient", retries=1)
    return codes.problem_of(body, status, CODES)


def _headers(call: Call) -> dict[str, str]:
    workspace = call.executor.config.get("workspace")
    return {"X-DashScope-WorkSpace": str(workspace)} if workspace else {}


def _body(call: Call, ask: requests.Ask) -> dict[str, Any]:
    body = {"model": call.model, "input": ask.inputs}
    return body | {"parameters": ask.options} if ask.options else body


def _create(call: Call, ask: requests.Ask) -> Accepted:
    reply = call.http.post(
        ask.path,
        json=_body(call, ask),
        headers=_headers(call) | {"X-DashScope-Async": "enable"},
        paid=True,
        timeout=SECONDS,
    )
    identity = _output(reply).get("task_id")
    if not isinstance(identity, str) or not identity:
        raise faults.bad_response(paid=True, raw=reply.raw)
    return Accepted(identity, poll_after=3)


def _ask(call: Call, ask: requests.Ask) -> Completed:
    # Nothing can be looked up here: after a refusal that is the vendor's own (500) it is sent once more at most.
    call.http.after_unknown = "verify"
    reply = call.http.post(ask.path, json=_body(call, ask), headers=_headers(call), paid=True)
    _output(reply)
    result = _result(reply.object())
    if isinstance(result, ProviderError):
        raise result
    return result


def _output(reply: Reply) -> dict[str, Any]:
    output = reply.object().get("output")
    if not isinstance(output, dict):
        raise _problem(reply.object(), 200) or faults.bad_response(paid=reply.paid, raw=reply.raw)
    return output


def _states(call: Call) -> dict[str, Any]:
    """Id -> state of the newest jobs of the account."""
    return _page(call, datetime.now(UTC) - KEPT, 1)[0]


def _page(call: Call, since: datetime, page: int, **more: str) -> tuple[dict[str, Any], int | None]:
    """A page of jobs, id -> state, and the number of all, if it is said."""
    until = datetime.now(UTC) + DRIFT
    query: dict[str, str | int | Sequence[str]] = {"page_no": page, "page_size": PAGE, **more}
    query["start_time"], query["end_time"] = (
        moment.astimezone(BEIJING).strftime("%Y%m%d%H%M%S") for moment in (since, until)
    )
    reply = call.http.get("/tasks/", query=query, timeout=SECONDS)
    data = reply.object()
    items, total = data.get("data") or [], data.get("total")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise faults.bad_response(paid=False, raw=reply.raw)
    states = {str(item.get("task_id")): item.get("status") for item in items}
    return states, total if isinstance(total, int) else None


def _address(identity: str | None) -> str:
    return f"/tasks/{quote(identity or '', safe='')}"


def _job(call: Call, identity: str) -> dict[str, Any]:
    """The whole answer about one job. Raises ProviderError."""
    reply = call.http.get(_address(identity), timeout=SECONDS)
    if _output(reply).get("task_id", identity) != identity:
        raise faults.bad_response(paid=False, raw=reply.raw)
    return reply.object()


def _look(call: Call, states: Mapping[str, Any]) -> Update | None:
    identity = call.external_id or ""
    if states.get(identity) in WAITING:
        return Update(call, "working", phase=WAITING[states[identity]])
    answer = _job(call, identity)
    output = answer["output"]
    state = output.get("task_status")
    if state == "SUCCEEDED":
        return Update(call, _result(answer))
    if state == "FAILED":
        unknown = faults.standard("transient", retries=0)  # tried elsewhere, as a new job
        return Update(call, _problem(output, 200) or unknown)
    if state == "CANCELED":
        return Update(call, ProviderError("lost", "The job was canceled at the provider."))
    if state == "UNKNOWN":
        return _vanished(call, states or _states(call))
    return Update(call, "working", phase=WAITING.get(str(state)))


def _vanished(call: Call, states: Mapping[str, Any]) -> Update | None:
    """`UNKNOWN` is said of jobs of yesterday, of other regions and of other accounts. The list decides."""
    if call.external_id in states:
        return None
    words = "The provider does not know the job any more."
    return Update(call, ProviderError("lost", words, "result_lost", retries=0))


def _result(answer: Mapping[str, Any]) -> Completed | ProviderError:
    """What was made. Of several pictures the good ones count."""
    output = answer["output"]
    items = list(_items(output))
    made = [file for item in items if (file := _file(item))]
    if not made:
        problems = (_problem(item, 200) for item in items)
        return next(filter(None, problems), None) or refusals.no_output("a file")
    names = {"duration": "seconds", "characters": "characters", "image_count": "images"}
    usage = jobs.amounts(answer.get("usage"), names)
    if made[0].kind == "image":
        usage = {"images": len(made)} | usage
    return Completed(made, usage)


def _items(output: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each file or its error, wherever this protocol puts it, as `{image | video | audio: ...}` or `{code, message}`."""
    for result in _dicts(output.get("results")):
        yield {"image": result["url"]} if result.get("url") else result
    for choice in _dicts(output.get("choices")):
        message = choice.get("message")
        yield from _dicts(message.get("content") if isinstance(message, dict) else None)
    yield {"video": output.get("video_url")}
    yield {"audio": output.get("audio")}


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _file(item: Mapping[str, Any]) -> Output | None:
    for kind in KINDS:
        place = item.get(kind)
        url = place.get("url") if isinstance(place, dict) else place
        if isinstance(url, str) and url:
            return Output(kind, url=url)
        data = place.get("data") if isinstance(place, dict) else None
        if isinstance(data, str) and data:
            return Output(kind, data=openai_images.decoded(data))
    return None


def _search(call: Call) -> Accepted | Absent | None:
    """Look for the prompt among the jobs of the model since the task was made.

    Only finished jobs tell their prompt: None until then, and when two of them have the same one. Absent when there is
    no job at all.
    """
    states: dict[str, Any] = {}
    since = _birth(call) - DRIFT
    for page in range(1, PAGES + 1):
        more, total = _page(call, since, page, model_name=call.model)
        states |= more
        if not more or total is None or len(states) >= total:
            break
    if len(states) != total:  # not all of them were read
        return None
    if not states:
        return Absent()
    ended = [identity for identity, state in states.items() if state == "SUCCEEDED"]
    ours = [i for i in ended if _is_ours(call, i)] if len(ended) <= LOOKS else []
    return Accepted(ours[0], poll_after=0) if len(ours) == 1 else None


def _is_ours(call: Call, identity: str) -> bool:
    output = _job(call, identity)["output"]
    prompts = [result.get("orig_prompt") for result in (output, *_dicts(output.get("results")))]
    return call.given().get("prompt") in prompts and bool(call.given().get("prompt"))


def _birth(call: Call) -> datetime:
    """When the task was made, which its id tells (UUIDv7)."""
    oldest = datetime.now(UTC) - KEPT
    try:
        identity = UUID(call.task_id)
    except ValueError:
        return oldest
    if identity.version != 7:
        return oldest
    return max(oldest, datetime.fromtimestamp((identity.int >> 80) / 1000, UTC))
