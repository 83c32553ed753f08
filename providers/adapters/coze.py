"""Coze workflows, hosted (api.coze.cn, api.coze.com) and self-hosted (Coze Studio).

A run is one paid request that ends with its result, streams it, or (`is_async`) becomes a job to poll. Nothing finds a
run whose answer was lost. What a run returns is JSON in text, often twice. Errors are codes inside HTTP 200; all errors
of a run carry one of the words `coze_http_<status>`, `coze_request_failed`, `coze_invalid_response`,
`coze_workflow_id_missing`, `coze_not_configured`, or `no_output`. https://www.coze.cn/open/docs/developer_guides
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, model_validator

from providers import faults
from providers.base import (
    Accepted,
    Call,
    Completed,
    ErrorKind,
    ExecutorInfo,
    Health,
    Model,
    Params,
    Provider,
    ProviderError,
    Update,
)
from providers.http import Reply
from providers.params import Object
from providers.wire import coze_results, jobs, refusals, sse

_State = Literal["working"] | Completed | ProviderError

SECONDS = 30.0  # for one exchange about a run
RUN, STREAM = "/v1/workflow/run", "/v1/workflow/stream_run"
WORKFLOW_IN_NAME = re.compile(r"coze[-:/](\d+)")
END = "900001"  # the node id of every End

_KINDS: dict[ErrorKind, tuple[int, ...]] = {
    "bad_input": (4000, 305000002, 720702001, 720702002),
    "rate_limited": (4013,),
    "overloaded": (4016, 720702222),
    "quota_exhausted": (4027, 4028, 4031),
    "bad_credentials": (4100, 700012006),
    # 6031: not published. 6039: it asks questions. 777777778: not released to the API.
    "not_available": (4015, 4101, 4200, 6031, 6039, 720702011, 720702078, 777777778),
    "transient": (5000, 720701013),
}
KINDS = {code: kind for kind, numbers in _KINDS.items() for code in numbers}
WAITS = {4013: 60.0, 720701013: 60.0}  # seconds; Coze sends no Retry-After
REFUSED = ("敏感", "审核", "content policy", "content review", "sensitive content")
NO_KEY = ("missing authorization", "api key invalid")  # Coze Studio says so with a 500


class CozeParams(Params):
    """`parameters`: of the workflow's Start node; files in it go out as addresses. `ext`: texts by name."""

    workflow_id: Annotated[str, Field(pattern=r"^\d{1,32}$")] | None = None
    parameters: Object = {}
    ext: dict[str, str] = {}
    bot_id: str | None = None
    app_id: str | None = None
    workflow_version: str | None = None
    is_async: bool | None = None

    @model_validator(mode="after")
    def _one_owner(self) -> Self:
        if self.bot_id and self.app_id:
            raise ValueError("bot_id and app_id exclude each other")
        return self


class Coze(Provider):
    name = "coze"
    description = "Coze workflows, hosted or self-hosted"
    retry_submit = "verify"
    streams = True
    poll_factor = 1.5
    models = (
        Model("coze-workflow", ("coze-workflow",), CozeParams, description="Any workflow, by id"),
        Model("coze*", ("coze-workflow",), CozeParams),
    )

    def submit(self, call: Call) -> Completed | Accepted:
        if call.credential is None or not call.http.base_url:
            words = "Coze is not configured."
            raise ProviderError("not_available", words, "coze_not_configured")
        body = _body(call)
        with _named():
            if body["is_async"]:
                return _begin(call, body)
            return _stream(call, body) if call.stream else _run(call, body)

    def poll(self, calls: Sequence[Call]) -> list[Update]:
        return jobs.each(calls, _look)

    def probe(self, executor: ExecutorInfo) -> Health:
        """Asks for a run that does not exist: whoever says so has let us in."""
        try:
            _envelope(executor.http.get(**_history(executor, "0", "0"), timeout=SECONDS))
        except ProviderError as problem:
            if problem.kind not in {"bad_input", "not_available"}:
                raise
        return Health("healthy", "ok")

    def explain(self, reply: Reply) -> ProviderError | None:
        code, message = _complaint(reply.json()) if reply.readable else (0, "")
        if _is_known(code, message):
            return _problem(code, message)
        return faults.standard("transient") if reply.status >= 500 else None


def _is_known(code: int, message: str) -> bool:
    said = message.lower()
    return code in KINDS or any(word in said for word in (*REFUSED, *NO_KEY))


def _problem(code: int, message: str, raw: str | None = None) -> ProviderError:
    """What an error of a run or of the API means. An unknown one is tried once more."""
    said = message.lower()
    if any(word in said for word in REFUSED):
        return ProviderError(
            "content_refused", message, "coze_request_failed", refusal=message, raw=raw
        )
    kind = "bad_credentials" if any(word in said for word in NO_KEY) else KINDS.get(code)
    retries: Literal[1] | None = None if kind else 1
    kind = kind or "transient"
    wait = WAITS.get(code)
    words = faults.MESSAGES[kind]
    return ProviderError(
        kind, words, "coze_request_failed", retry_after=wait, retries=retries, raw=raw
    )


def _complaint(data: Any) -> tuple[int, str]:
    """Code and message of an envelope; 0 for none. Codes come as numbers and as texts."""
    if not isinstance(data, dict):
        return 0, ""
    code = data.get("code") or data.get("error_code")
    message = data.get("msg") or data.get("error_message") or data.get("error_msg") or ""
    number = int(str(code)) if str(code).isdecimal() else 0
    return number, str(message)


def _envelope(reply: Reply) -> dict[str, Any]:
    """The whole answer. Raises ProviderError for one that carries an error, or is none."""
    try:
        data = reply.object()
    except ProviderError as problem:
        problem.code = "coze_invalid_response"
        raise
    if not str(data.get("code")).isdecimal():
        raise _unreadable(reply)
    code, message = _complaint(data)
    if code:
        raise _problem(code, message, reply.raw)
    return data


def _unreadable(reply: Reply) -> ProviderError:
    problem = faults.bad_response(paid=reply.paid, raw=reply.raw)
    problem.code = "coze_invalid_response"
    return problem


@contextmanager
def _named() -> Iterator[None]:
    """Give every failure of a run its word."""
    try:
        yield
    except ProviderError as problem:
        if problem.status is not None:
            _by_status(problem, problem.status)
        elif problem.code == "bad_response":  # in the middle of a stream
            problem.kind, problem.code = "unknown_outcome", "coze_invalid_response"
        elif not problem.code.startswith("coze_") and problem.code != "no_output":
            problem.code = "coze_request_failed"
        raise


def _by_status(problem: ProviderError, status: int) -> None:
    problem.code = f"coze_http_{status}"
    # Coze's own 5xx are promised three tries, whatever they look like. A gateway knows nothing of the run.
    if (
        status >= 500
        and status not in {502, 504}
        and problem.kind in {"unknown_outcome", "transient"}
    ):
        problem.kind, problem.message = "transient", faults.MESSAGES["transient"]
        problem.retries = None


def _body(call: Call) -> dict[str, Any]:
    data = call.filled(lambda file: file.url())
    names = ("bot_id", "app_id", "workflow_version")
    body = {name: data[name] for name in names if name in data}
    asked = data.get("is_async", call.executor.config.get("is_async", False))
    return body | {
        "workflow_id": _workflow_id(call),
        "parameters": data.get("parameters", {}),
        "ext": data.get("ext", {}) | {"task_id": call.task_id},
        "is_async": bool(asked),
    }


def _workflow_id(call: Call) -> str:
    """From the input, from a name such as `coze-7561161554420482088`, or the executor's own."""
    in_name = WORKFLOW_IN_NAME.fullmatch(call.model)
    given = call.given().get("workflow_id") or (in_name and in_name[1])
    identity = str(given or call.executor.config.get("workflow_id") or "")
    if not identity.isdecimal():
        words = "The request names no Coze workflow."
        raise ProviderError("bad_input", words, "coze_workflow_id_missing")
    return identity


def _begin(call: Call, body: Mapping[str, Any]) -> Accepted:
    reply = call.http.post(RUN, json=body, paid=True, timeout=SECONDS)
    identity = _envelope(reply).get("execute_id")
    if not isinstance(identity, str) or not identity:
        raise _unreadable(reply)
    return Accepted(identity, poll_after=3)


def _run(call: Call, body: Mapping[str, Any]) -> Completed:
    return _completed(_envelope(call.http.post(RUN, json=body, paid=True)))


def _completed(data: Mapping[str, Any], output: Any = None) -> Completed:
    """`output` of a run, else its `data`. Raises ProviderError when there is none."""
    result = coze_results.read(output if output is not None else data.get("data"))
    if result is None:
        raise refusals.no_output("a result")
    names = {
        "token_count": "total_tokens",
        "input_count": "prompt_tokens",
        "output_count": "completion_tokens",
    }
    about = {name: data[name] for name in ("execute_id", "debug_url") if data.get(name)}
    return Completed(
        result.files,
        {"calls": 1} | jobs.amounts(data.get("usage"), names),
        text=result.text,
        data={"output": result.output, **about},
    )


def _stream(call: Call, body: Mapping[str, Any]) -> Completed:
    with call.http.stream("POST", STREAM, json=body, paid=True) as answer:
        if "json" in answer.headers.get("content-type", ""):  # an error before the first event
            reply = answer.read()
            _envelope(reply)
            raise _unreadable(reply)
        return _told(call, sse.events(answer.chunks()))


def _told(call: Call, events: Iterator[sse.Event]) -> Completed:
    """Follow a streamed run to its end. Raises ProviderError."""
    told: list[str] = []
    ending: list[str] = []
    last: dict[str, Any] = {}
    for event in events:
        kind, data = event.event.lower(), _read(event)
        if kind == "message":
            content = str(data.get("content") or "")
            told.append(content)
            ending += [content] if _is_end(data) else []
            last |= {"usage": data["usage"]} if data.get("usage") else {}
            if content:
                call.emit.delta(content)
        elif kind == "error":
            raise _problem(*_complaint(data), event.data)
        elif kind == "interrupt":
            words = "The workflow asks a question in the middle of its run."
            raise ProviderError("not_available", words, "coze_request_failed")
        elif kind == "done":
            done = _completed(last | data, "".join(ending or told))
            return replace(done, text="".join(told))
    raise faults.standard("unknown_outcome")


def _read(event: sse.Event) -> dict[str, Any]:
    return sse.parsed(event.data) if event.data.startswith("{") else {}


def _is_end(data: Mapping[str, Any]) -> bool:
    return data.get("node_id") == END or str(data.get("node_type")).lower() == "end"


def _history(executor: ExecutorInfo, workflow: str, run: str) -> dict[str, Any]:
    """Where a run is looked up: Coze Studio has a way of its own (executor config `self_hosted`)."""
    if executor.config.get("self_hosted"):
        query = {"workflow_id": workflow, "execute_id": run}
        return {"path": "/v1/workflow/get_run_history", "query": query}
    return {"path": f"/v1/workflows/{workflow}/run_histories/{quote(run, safe='')}"}


def _look(call: Call) -> Update | None:
    place = _history(call.executor, _workflow_id(call), call.external_id or "")
    reply = call.http.get(**place, timeout=SECONDS)
    runs = _envelope(reply).get("data")
    runs = runs if isinstance(runs, list) else [runs]
    for run in runs:
        if isinstance(run, dict) and str(run.get("execute_id")) == call.external_id:
            return Update(call, _state(call, run, reply.raw))
    return None


def _state(call: Call, run: Mapping[str, Any], raw: str) -> _State:
    word = str(run.get("execute_status")).lower()
    if word == "fail":
        return _problem(*_complaint(run), raw)
    if word == "cancel":
        words = "The run was canceled at the provider."
        return ProviderError("lost", words, "coze_request_failed")
    if word != "success":
        return "working"
    output = _output(call, run)
    try:
        return _completed(run, output)
    except ProviderError as empty:
        return empty


def _output(call: Call, run: Mapping[str, Any]) -> Any:
    """The End node's fields: in `Output` of the `output` of a run, or with the node when they were cut."""
    if run.get("is_output_trimmed"):
        return _of_node(call, run)
    output = coze_results.decoded(run.get("output"))
    return output["Output"] if isinstance(output, dict) and "Output" in output else output or ""


def _of_node(call: Call, run: Mapping[str, Any]) -> Any:
    nodes = run.get("node_execute_status")
    node = nodes.get(END) if isinstance(nodes, dict) else None
    identity = node.get("node_execute_uuid") if isinstance(node, dict) else ""
    place = _history(call.executor, _workflow_id(call), call.external_id or "")["path"]
    reply = call.http.get(f"{place}/execute_nodes/{quote(str(identity), safe='')}", timeout=SECONDS)
    data = _envelope(reply).get("data")
    return data.get("node_output") if isinstance(data, dict) else ""
