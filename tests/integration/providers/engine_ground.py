"""Vendors, executors and outcomes for test_through_the_engine: one row for each kind of work of a provider."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from admin_integrations import fleet, vault
from admin_integrations.models import Credential, Executor
from genpulse.events.models import Event
from genpulse.ids import new_id
from providers.testing import CREDENTIAL
from tasks.models import Attempt
from tests.emulators import coze, dashscope, deepseek, gemini, openai, volcengine
from tests.emulators.base import (
    Emulator,
    Fault,
    Request,
    Response,
    answered,
    route,
)
from tests.emulators.comfyui import ComfyUI
from tests.emulators.ollama import Ollama
from tests.integration.cast import Caller
from tests.integration.providers import dashscope_calls, gemini_calls, volcengine_calls
from tests.integration.providers.comfy_calls import node
from tests.integration.providers.coze_calls import FLOW

HTML = answered(200, "<html>502 Bad Gateway</html>")


def files(emulator: type[Emulator]) -> type[Emulator]:
    """The vendor with results that can be stored."""

    class WithFiles(emulator):  # type: ignore[misc,valid-type]
        @route("GET", "/files/{name}")
        def file(self, request: Request, name: str) -> Response:
            return Response(200, openai.MP4 if name.endswith("mp4") else openai.PNG)

    return WithFiles


@dataclass(frozen=True)
class Vendor:
    """`path`: where work is submitted; `key`: the header that carries the credential; `lost`: what becomes of a paid
    submit whose answer did not come: `found` by looking it up, or `unknown`. None: free, it is just sent again."""

    provider: str
    emulator: type[Emulator]
    base: str
    path: str
    model: str | None
    secret: str = CREDENTIAL
    key: str = "authorization"
    lost: str | None = None
    refused: Fault | None = None
    empty: Fault | None = None
    slow: Fault | None = None
    sent: dict[str, Any] = field(default_factory=dict)  # fields of the request

    def body(self, mark: str) -> dict[str, Any]:
        """A task whose submits can be told from others by `mark`."""
        if self.provider == "coze":
            given: dict[str, Any] = {"workflow_id": FLOW, "parameters": {"prompt": mark}}
            return {"provider": "coze", "task_type": "coze-workflow", "input": given}
        if self.provider == "comfyui":
            return {"provider": "comfyui", "task_type": "comfy-workflow", "input": painted(mark)}
        body = {"provider": self.provider, "model": self.model, "input": {"prompt": mark}}
        return body | ({"task_type": "text-to-image"} if "-image" in str(self.model) else {})


def painted(mark: str) -> dict[str, Any]:
    picture = node("EmptyImage", width=8, height=8, batch_size=1, color=7)
    return {
        "workflow": {"1": picture, "2": node("SaveImage", images=["1", 0], filename_prefix=mark)}
    }


def told(error: Response, **headers: str) -> Fault:
    return answered(error.status, error.body, **headers)


def of_openai(path: str, model: str, lost: str | None = None, **sent: Any) -> Vendor:
    return Vendor(
        "openai",
        openai.OpenAI,
        "/v1",
        path,
        model,
        lost=lost,
        refused=told(openai.error(400, "No.", code="content_policy_violation")),
        empty=told(openai.error(429, "No money.", code="insufficient_quota")),
        slow=told(openai.error(429, "Slow down.", code="rate_limit_exceeded"), retry_after="30"),
        sent={"model": model, **sent},
    )


class Painter(gemini.Gemini):
    """Gemini whose model draws."""

    def __init__(self) -> None:
        super().__init__()
        self.says = gemini.Says([gemini.picture()])


def of_gemini(path: str, model: str, lost: str | None = None) -> Vendor:
    per_day = gemini.quota("GenerateRequestsPerDayPerProjectPerModel")
    return Vendor(
        "gemini",
        Painter if lost else gemini.Gemini,
        "/v1beta",
        path,
        model,
        key="x-goog-api-key",
        lost=lost,
        refused=answered(200, gemini.Says(blocked="SAFETY").whole()),
        empty=told(gemini.error(429, "RESOURCE_EXHAUSTED", "No.", per_day)),
        slow=told(gemini.error(429, "RESOURCE_EXHAUSTED", "No.", gemini.wait("30s"))),
    )


def of_ark(path: str, model: str, lost: str | None = None, **sent: Any) -> Vendor:
    return Vendor(
        "volcengine",
        files(volcengine.Ark),
        "/api/v3",
        path,
        model,
        secret=volcengine.KEY,
        lost=lost,
        refused=told(volcengine.refused(400, "InputTextSensitiveContentDetected")),
        empty=told(volcengine.refused(403, "AccountOverdueError")),
        slow=told(volcengine.refused(429, "ModelAccountRpmRateLimitExceeded")),
        sent={"model": model, **sent},
    )


class Quick(files(dashscope.Bailian)):  # type: ignore[misc]
    """Jobs are done at once: one that nobody asks for would wait for ever here, and only a done one can be found."""

    def __init__(self) -> None:
        super().__init__()
        self.states.extend([("SUCCEEDED",)] * 9)


def of_dashscope(path: str, model: str, lost: str | None, error: Any) -> Vendor:
    return Vendor(
        "dashscope",
        Quick,
        "/api/v1",
        path,
        model,
        secret=dashscope.KEY,
        lost=lost,
        refused=error(400, "DataInspectionFailed"),
        empty=error(400, "Arrearage"),
        slow=error(429, "Throttling.RateQuota"),
        sent={"model": model},
    )


def in_chat(status: int, code: str) -> Fault:
    return answered(status, {"error": {"code": code, "message": code}, "request_id": "r-1"})


VENDORS = {
    "openai": of_openai("/v1/chat/completions", "gpt-5", stream=False),
    "openai-image": of_openai("/v1/images/generations", "gpt-image-2", "unknown"),
    "gemini": of_gemini(gemini_calls.CHAT, "gemini-2.5-flash"),
    "gemini-image": of_gemini(
        gemini_calls.PICTURES, "gemini-3.1-flash-image-preview", lost="unknown"
    ),
    "deepseek": Vendor(
        "deepseek",
        deepseek.DeepSeek,
        "",
        "/v1/chat/completions",
        "deepseek-v4-flash",
        refused=told(deepseek.error(400, "Content Exists Risk")),
        empty=told(deepseek.error(402, "Insufficient Balance")),
        slow=told(deepseek.error(429, "Rate limit reached")),
        sent={"model": "deepseek-v4-flash", "stream": False},
    ),
    "qwen": Vendor(
        "qwen",
        Ollama,
        "/v1",
        "/v1/chat/completions",
        "qwen3:8b",
        secret="",
        refused=told(openai.error(400, "No.", code="content_filter")),
        empty=told(openai.error(402, "Pay.", code="insufficient_quota")),
        slow=told(openai.error(429, "Slow down.", code="rate_limit_exceeded"), retry_after="30"),
        sent={"model": "qwen3:8b", "stream": False},
    ),
    "ollama": Vendor(
        "qwen",
        Ollama,
        "",
        "/api/chat",
        "qwen3:8b",
        secret="",
        empty=answered(402, {"error": "payment required"}),
        slow=answered(429, {"error": "rate limit"}),
        sent={"model": "qwen3:8b"},
    ),
    "volcengine": of_ark(volcengine_calls.CHAT_PATH, volcengine_calls.CHAT),
    "volcengine-image": of_ark(
        volcengine_calls.IMAGES_PATH, volcengine_calls.IMAGE, "unknown", watermark=False
    ),
    "volcengine-video": of_ark(
        volcengine_calls.JOBS_PATH, volcengine_calls.VIDEO, "found", duration=5, watermark=False
    ),
    "dashscope": of_dashscope(dashscope_calls.CHAT_PATH, "qwen-plus", None, in_chat),
    "dashscope-image": of_dashscope(
        dashscope_calls.DRAW_PATH, dashscope_calls.DRAW, "found", dashscope_calls.refusal
    ),
    "coze": Vendor(
        "coze",
        coze.CozeServer,
        "",
        "/v1/workflow/run",
        None,
        secret=coze.KEY,
        lost="unknown",
        refused=answered(200, coze.envelope(5000, "内容审核不通过")),
        empty=answered(200, coze.envelope(4028, "no credits")),
        slow=answered(200, coze.envelope(4013, "too many requests")),
        sent={"workflow_id": FLOW},
    ),
    "comfyui": Vendor(
        "comfyui",
        ComfyUI,
        "",
        "/prompt",
        None,
        secret="",
        lost="found",
        empty=answered(402, "Payment Required"),  # says a host of such servers
        slow=answered(429, "Too Many Requests", retry_after="30"),
    ),
}


@dataclass
class Ground:
    """Executors of one vendor: one for each case, and the spare."""

    vendor: Vendor
    alice: Caller
    stack: ExitStack
    emulators: dict[str, Emulator] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)

    def executor(self, name: str, *faults: Fault, **config: Any) -> None:
        emulator = self.stack.enter_context(self.vendor.emulator())
        emulator.next("POST", self.vendor.path, *faults)
        self.emulators[name] = emulator
        made = Executor.objects.create(
            name=name,
            type=self.vendor.provider,
            base_url=emulator.url + self.vendor.base,
            max_concurrency=8,
            config=config,
        )
        if self.vendor.secret:
            id_ = new_id()
            sealed = vault.encrypt(self.vendor.secret, owner=id_)
            key = Credential(id=id_, provider=self.vendor.provider, name=name, ciphertext=sealed)
            key.save()
            made.credentials.add(key)

    def submit(self, case: str) -> None:
        fleet.forget()
        where = {"executor": {"only": [case, "spare"], "prefer": [case]}}
        answer = self.alice.post("/api/v1/tasks", {**self.vendor.body(f"mark-{case}"), **where})
        assert answer.status_code == 201, answer.content
        self.tasks[case] = answer.json()["id"]

    def submits(self, case: str, at: str) -> list[Request]:
        """What the vendor `at` got for this case."""
        sent = self.emulators[at].calls("POST", self.vendor.path)
        return [request for request in sent if f"mark-{case}".encode() in request.body]


@dataclass
class Outcome:
    """How a case ended: what the API, the attempts and the vendors show."""

    task: dict[str, Any]
    attempts: list[tuple[str, str]]  # executor, error code or ""
    kinds: list[str]  # of their errors
    own: int  # submits the case's vendor got
    spare: int
    ends: list[str]  # events that end tasks
    possible_cost: bool


def outcome(ground: Ground, case: str) -> Outcome:
    task = ground.tasks[case]
    attempts = Attempt.objects.filter(task_id=task).order_by("number")
    ends = Event.objects.filter(task_id=task, type__regex="succeeded|failed$|canceled|expired")
    kinds = [kind for kind in ends.values_list("type", flat=True) if kind != "task.attempt_failed"]
    return Outcome(
        task=ground.alice.get(f"/api/v1/tasks/{task}").json(),
        attempts=[(one.executor, (one.error or {}).get("code", "")) for one in attempts],
        kinds=[one.error["kind"] for one in attempts if one.error],
        own=len(ground.submits(case, case)),
        spare=len(ground.submits(case, "spare")),
        ends=kinds,
        possible_cost=any(one.possible_cost for one in attempts),
    )


def paid(found: Outcome) -> bool:
    """It succeeded, once, and cost what it was quoted."""
    assert found.task["status"] == "succeeded", found
    assert found.task["price"] == {"quoted": "2", "held": "0", "charged": "2"}
    assert found.ends == ["task.succeeded"]
    return True


def unpaid(found: Outcome, kind: str) -> bool:
    """It failed with an error of `kind`, and the hold is back."""
    assert found.task["status"] == "failed", found
    assert found.task["error"]["kind"] == kind, found
    assert found.task["price"] == {"quoted": "2", "held": "0", "charged": "0"}
    assert found.ends == ["task.failed"]
    return True
