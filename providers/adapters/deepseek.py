"""DeepSeek: chat whose reasoning comes apart from its answer.

Contract: api-docs.deepseek.com. Codes in its errors say little, so the status decides and then the message. Under load
it holds a request open instead of refusing it; only the call's deadline ends the wait.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from providers import faults
from providers.base import (
    Call,
    Completed,
    ExecutorInfo,
    Health,
    Inventory,
    Model,
    Provider,
    ProviderError,
)
from providers.http import Reply
from providers.wire import bases, codes, openai_chat, openai_models, refusals


class DeepSeek(Provider):
    """Executor config: `chat_timeout` (s)."""

    name: ClassVar[str] = "deepseek"
    description: ClassVar[str] = "DeepSeek, and hosts of its models that speak like it"
    streams: ClassVar[bool] = True
    models: ClassVar[Sequence[Model]] = (
        Model("deepseek*", ("chat",)),
        Model(
            "deepseek-v4-flash",
            ("chat",),
            aliases=("deepseek-flash",),
            description="Fast; `thinking: false` switches its reasoning off",
        ),
        Model("deepseek-v4-pro", ("chat",), description="The stronger one"),
    )

    def submit(self, call: Call) -> Completed:
        if call.task_type != "chat":
            raise ProviderError("not_available", f"This provider has no {call.task_type}.")
        body = openai_chat.request(call, messages=history(call), **thinking(call.given()))
        done = _ask(call, body)
        if not done.text and _wants_json(body) and _stopped(done):
            raise refusals.no_output("an object")  # it happens now and then, says its manual
        return done

    def probe(self, executor: ExecutorInfo) -> Health:
        """The balance where there is one: without money every call would be refused."""
        path = base_of(executor).removesuffix("/v1") + "/user/balance"
        try:
            balance = executor.http.get(path, timeout=openai_models.SECONDS).object()
        except ProviderError as problem:
            if problem.kind == "bad_credentials":
                return Health("down", "expired", problem.message)
            if problem.status in openai_models.NO_SUCH_PATH:
                return openai_models.probe(executor, base_of(executor))
            raise
        if balance.get("is_available") is False:
            raise faults.standard("quota_exhausted")
        return Health("healthy", "ok")

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        return openai_models.inventory(executor, base_of(executor))

    def explain(self, reply: Reply) -> ProviderError | None:
        _, _, message = codes.words(reply.json() if reply.readable else None)
        kind = codes.by_phrase(message)
        if reply.status != 400 or kind is None:
            return None
        if kind == "content_refused":
            return refusals.refused(message)
        return faults.standard(kind)


def base_of(executor: ExecutorInfo) -> str:
    """Its root works with and without `/v1`, other hosts only with it."""
    base = bases.trimmed(executor.base_url)
    return base if urlsplit(base).path else f"{base}/v1"


def _ask(call: Call, body: Mapping[str, Any]) -> Completed:
    try:
        return openai_chat.complete(call, body, base_of(call.executor) + openai_chat.PATH)
    except ProviderError as problem:
        if problem.kind == "bad_input" and problem.status is None:
            # An error in a stream that had begun: its code is a habit, the request was good.
            raise faults.standard("transient") from None
        raise


def history(call: Call) -> list[dict[str, Any]]:
    """It knows no role `developer`, and wants reasoning back only with the tool calls it led to."""
    found = openai_chat.messages(call, reasoning=True)
    for message in found:
        if message.get("role") == "developer":
            message["role"] = "system"
        if not message.get("tool_calls"):
            message.pop("reasoning_content", None)
    return found


def thinking(given: Mapping[str, Any]) -> dict[str, Any]:
    """`thinking` true, false or DeepSeek's object; `reasoning_effort: none` switches it off too."""
    wish = given.get("thinking")
    if given.get("reasoning_effort") == "none":
        return {"thinking": {"type": "disabled"}, "reasoning_effort": None}
    if isinstance(wish, bool):
        return {"thinking": {"type": "enabled" if wish else "disabled"}}
    return {}


def _wants_json(body: Mapping[str, Any]) -> bool:
    form = body.get("response_format")
    return isinstance(form, Mapping) and form.get("type") == "json_object"


def _stopped(done: Completed) -> bool:
    return done.message is not None and done.message["finish_reason"] == "stop"
