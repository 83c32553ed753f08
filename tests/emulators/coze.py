"""Coze as it behaves on the wire, hosted and self-hosted. Business errors are codes inside HTTP 200."""

import itertools
import json
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.base import Answer, Emulator, Request, Response, as_fixture, route

KEY = "pat_test0123456789abcdef"
FIELDS = {"workflow_id", "parameters", "ext", "is_async", "bot_id", "app_id", "workflow_version"}
USUAL = ("Running", "Success")


@dataclass
class Workflow:
    """`output`: the fields of its End node, or the text it returns."""

    output: Any = field(default_factory=lambda: {"output": "a red kite"})
    needs: tuple[str, ...] = ()
    published: bool = True
    asks: bool = False


@dataclass
class Run:
    id: str
    workflow: str
    states: deque[Any]
    body: dict[str, Any]
    seen: int = 0

    def look(self) -> Any:
        if self.seen and len(self.states) > 1:
            self.states.popleft()
        self.seen += 1
        return self.states[0]


def envelope(code: int, msg: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "msg": msg, "detail": {"logid": "2026"}, **more}


def events(*named: tuple[str, dict[str, Any]]) -> Response:
    def pieces() -> Iterator[bytes]:
        for number, (name, data) in enumerate(named):
            yield f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()

    return Response(body=pieces())


class CozeServer(Emulator):
    """`states` of the runs to come: words, or the error of a failed one."""

    def __init__(self) -> None:
        super().__init__()
        self.workflows = {"7561161554420482088": Workflow()}
        self.runs: dict[str, Run] = {}
        self.states: deque[tuple[Any, ...]] = deque()
        self.self_hosted = False
        self.trims = False
        self.links_expired = False
        self.usage: Any = {"token_count": 98, "input_count": 90, "output_count": 8}
        self._numbers = itertools.count(1)
        self._guard = threading.Lock()

    @route("POST", "/v1/workflow/run")
    def run(self, request: Request) -> Answer:
        return self._guarded(request, self._start)

    @route("POST", "/v1/workflow/stream_run")
    def stream(self, request: Request) -> Answer:
        return self._guarded(request, self._stream)

    @route("GET", "/v1/workflows/{workflow}/run_histories/{run}")
    def history(self, request: Request, workflow: str, run: str) -> Answer:
        if self.self_hosted:
            return Response(404, "404 page not found")
        return self._guarded(request, lambda _: self._history(workflow, run))

    @route("GET", "/v1/workflow/get_run_history")
    def own_history(self, request: Request) -> Answer:
        if not self.self_hosted:
            return Response(404, "404 page not found")
        workflow, run = request.query["workflow_id"][0], request.query["execute_id"][0]
        return self._guarded(request, lambda _: self._history(workflow, run))

    @route("GET", "/v1/workflows/{workflow}/run_histories/{run}/execute_nodes/{node}")
    def node(self, request: Request, workflow: str, run: str, node: str) -> Answer:
        if node != f"uuid-of-{run}":
            return envelope(4000, "no such node")
        output = json.dumps(self.workflows[workflow].output)
        return self._guarded(
            request,
            lambda _: envelope(0, "", data={"is_finish": True, "node_output": output}),
        )

    @route("GET", "/files/{name}")
    def file(self, request: Request, name: str) -> Answer:
        if self.links_expired or "sign" not in request.query:
            return Response(403, "expired")
        return Response(body=b"the file " + name.encode())

    def _guarded(self, request: Request, serve: Any) -> Answer:
        if request.headers["authorization"] != f"Bearer {KEY}":
            if self.self_hosted:
                return Response(500, {"code": 100000, "msg": "api key invalid"})
            return Response(401, envelope(4100, "authentication is invalid"))
        with self._guard:
            return serve(request)  # type: ignore[no-any-return]

    def link(self, name: str) -> str:
        return f"{self.url}/files/{name}?sign=ab%2Bc&x-expires=1"

    def _checked(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """The refusal of a request, or None."""
        complaint = _complaint(body)
        if complaint:
            return envelope(4000, complaint)
        workflow = self.workflows.get(body.get("workflow_id", ""))
        if workflow is None:
            return envelope(4200, "Requested resource does not exist")
        missing = [name for name in workflow.needs if name not in body.get("parameters", {})]
        if missing:
            return envelope(720702002 if self.self_hosted else 4000, f"Missing {missing}")
        if not workflow.published:
            return envelope(720702011 if self.self_hosted else 6031, "workflow not published")
        return None

    def _start(self, request: Request) -> Answer:
        body = request.json
        refusal = self._checked(body)
        if refusal:
            return refusal
        workflow = self.workflows[body["workflow_id"]]
        run = self._begin(body)
        about = {"execute_id": run.id, "debug_url": f"https://www.coze.cn/?execute_id={run.id}"}
        if body.get("is_async"):
            return envelope(0, "", data="", **about)
        if workflow.asks:
            return envelope(6039, "Workflow interruption is not supported in synchronous run")
        state = run.states[-1]
        if isinstance(state, dict):
            return envelope(state["error_code"], state["error_message"], **about)
        data = self._data(workflow)
        return envelope(0, "Success", data=data, token=98, cost="0", usage=self.usage, **about)

    def _begin(self, body: dict[str, Any]) -> Run:
        number = next(self._numbers)
        states = self.states.popleft() if self.states else USUAL
        run = Run(f"741{number:06}", body["workflow_id"], deque(states), body)
        self.runs[run.id] = run
        return run

    def _data(self, workflow: Workflow) -> str:
        output = workflow.output
        return output if isinstance(output, str) else json.dumps(output)

    def _stream(self, request: Request) -> Answer:
        body = request.json
        refusal = self._checked(body)
        if refusal:
            return refusal
        workflow = self.workflows[body["workflow_id"]]
        if workflow.asks:
            asked = {"interrupt_data": {"event_id": "741/1", "type": 2}, "node_title": "Question"}
            return events(("Interrupt", asked))
        state = self._begin(body).states[-1]
        if isinstance(state, dict):
            return events(("Message", _said("well, ", "100001")), ("Error", state))
        half = len(data := self._data(workflow)) // 2
        pieces = [("Message", _said(part, "900001")) for part in (data[:half], data[half:])]
        pieces[-1][1]["usage"] = self.usage
        return events(*pieces, ("PING", {}), ("Done", {"debug_url": "https://www.coze.cn/"}))

    def _history(self, workflow: str, identity: str) -> Answer:
        run = self.runs.get(identity)
        if run is None:
            return envelope(0, "", data=[])
        state = run.look()
        word = state if isinstance(state, str) else "Fail"
        shown: dict[str, Any] = {"execute_id": run.id, "execute_status": word, "run_mode": 2}
        shown |= {"output": "", "error_code": "", "usage": self.usage, "is_output_trimmed": False}
        if isinstance(state, dict):
            shown["error_code"] = str(state["error_code"])
            name = "error_msg" if self.self_hosted else "error_message"
            shown[name] = state["error_message"]
        elif word == "Success":
            shown |= self._kept(run)
        return envelope(0, "", data=[shown])

    def _kept(self, run: Run) -> dict[str, Any]:
        if self.trims:
            node = {"node_id": "900001", "node_execute_uuid": f"uuid-of-{run.id}"}
            return {"is_output_trimmed": True, "node_execute_status": {"900001": node}}
        inner = self._data(self.workflows[run.workflow])
        return {"output": json.dumps({"Output": inner, "node_status": "{}"})}


def _complaint(body: dict[str, Any]) -> str | None:
    if set(body) - FIELDS or not isinstance(body.get("parameters", {}), dict):
        return "Invalid request parameters"
    if not all(isinstance(value, str) for value in body.get("ext", {}).values()):
        return "ext is a map of texts"
    both = body.get("bot_id") and body.get("app_id")
    return "bot_id and app_id are exclusive" if both else None


def _said(content: str, node: str) -> dict[str, Any]:
    title = "End" if node == "900001" else "Message"
    return {
        "content": content,
        "node_title": title,
        "node_type": title,
        "node_id": node,
        "node_seq_id": "0",
        "node_is_finish": False,
        "content_type": "text",
    }


coze = as_fixture(CozeServer)
