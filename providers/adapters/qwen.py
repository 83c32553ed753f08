"""Open models on servers of one's own: Ollama by its native API, everything else as an OpenAI-compatible server.

A base that ends in `/v1` (or names `/chat/completions`) is OpenAI-compatible, any other one the root of an Ollama.
Calls are free and without side effects; closing the socket is what stops them.
Contract: docs/api.md of github.com/ollama/ollama.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from providers import faults
from providers.base import (
    Call,
    Completed,
    Emit,
    ErrorKind,
    ExecutorInfo,
    Health,
    Inventory,
    Model,
    Provider,
    ProviderError,
)
from providers.http import Reply
from providers.wire import bases, codes, openai_chat, openai_models, refusals, sse

CONTEXT = 8192  # tokens; Ollama's own default cuts longer conversations without a word
OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "max_tokens": "num_predict",
    "repeat_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
# Ollama's errors are a sentence and a status, and the status is 500 for nearly everything.
SENTENCES: dict[str, ErrorKind] = {
    "server busy": "overloaded",
    "system memory": "overloaded",
    "out of memory": "overloaded",
    "llama runner": "overloaded",
    "not found, try pulling": "not_available",
    "does not support": "bad_input",
    "unauthorized": "bad_credentials",
}
THINKS_NOT = "does not support thinking"


class Qwen(Provider):
    """Executor config: `chat_timeout` (s); for Ollama `num_ctx` (tokens of context = 8192), `keep_alive` ("10m")."""

    name: ClassVar[str] = "qwen"
    description: ClassVar[str] = (
        "Qwen, Llama and other open models on Ollama or any compatible server"
    )
    streams: ClassVar[bool] = True
    models: ClassVar[Sequence[Model]] = (
        Model("qwen*", ("chat",)),
        Model("llama*", ("chat",)),
        Model("qwen3:8b", ("chat",), description="Qwen 3 on an Ollama that has pulled it"),
    )

    def submit(self, call: Call) -> Completed:
        if call.task_type != "chat":
            raise ProviderError("not_available", f"This provider has no {call.task_type}.")
        base = call.executor.base_url
        if bases.speaks_openai(base):
            path = bases.trimmed(base) + openai_chat.PATH
            return unopened(openai_chat.complete(call, openai_chat.request(call), path))
        return unopened(ask(call, request(call)))

    def probe(self, executor: ExecutorInfo) -> Health:
        if bases.speaks_openai(executor.base_url):
            return openai_models.probe(executor)
        _get(executor, "/api/version")
        return Health("healthy")

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        if bases.speaks_openai(executor.base_url):
            return openai_models.inventory(executor)
        loaded = _names(_get(executor, "/api/ps"))
        return Inventory(
            models=_names(_get(executor, "/api/tags")),
            version=str(_get(executor, "/api/version").get("version", "")),
            loaded_model=loaded[0] if loaded else None,
        )

    def explain(self, reply: Reply) -> ProviderError | None:
        body = reply.json() if reply.readable else None
        if not isinstance(body, dict) or not isinstance(body.get("error"), str):
            return codes.explain(reply)
        if reply.status == 499:  # it thinks that we hung up
            return faults.standard("transient")
        return problem_of(body["error"])


def problem_of(sentence: str) -> ProviderError | None:
    """What an error of Ollama means, None when it says nothing known."""
    said = sentence.lower()
    kind = next((kind for words, kind in SENTENCES.items() if words in said), None)
    return faults.standard(kind) if kind else None


def root_of(executor: ExecutorInfo) -> str:
    return executor.base_url.rstrip("/").removesuffix("/api")


def _get(executor: ExecutorInfo, path: str) -> dict[str, Any]:
    return executor.http.get(root_of(executor) + path, timeout=openai_models.SECONDS).object()


def _names(listing: Mapping[str, Any]) -> list[str]:
    items = listing.get("models")
    found = [item for item in items or () if isinstance(item, dict)]
    return openai_models.with_short_names(str(i.get("name") or i.get("model")) for i in found)


def request(call: Call) -> dict[str, Any]:
    """The body of a native chat."""
    given, config = call.given(), call.executor.config
    options = {theirs: given[ours] for ours, theirs in OPTIONS.items() if ours in given}
    if options.get("seed") == -1:
        del options["seed"]
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    body = {
        "model": call.model,
        "messages": messages(call),
        "stream": call.stream,
        "options": {"num_ctx": config.get("num_ctx", CONTEXT), **options},
        "format": form_of(given.get("response_format")),
        "think": thinking(call.model, given),
        "tools": given.get("tools"),
        "keep_alive": config.get("keep_alive"),
    }
    return {name: value for name, value in body.items() if value is not None}


def form_of(wish: Any) -> Any:
    """OpenAI's `response_format` in Ollama's words: `json` or a schema."""
    kind = wish.get("type") if isinstance(wish, dict) else None
    if kind == "json_schema":
        return wish.get("json_schema", {}).get("schema", "json")
    return "json" if kind == "json_object" else None


def thinking(model: str, given: Mapping[str, Any]) -> bool | str | None:
    """What was asked for; nothing leaves it to the model. Only gpt-oss thinks in degrees."""
    wish = given.get("think", given.get("thinking"))
    if isinstance(wish, bool | str):
        return wish
    effort = given.get("reasoning_effort")
    if effort is None:
        return None
    return str(effort) if model.startswith("gpt-oss") else effort != "none"


def messages(call: Call) -> list[dict[str, Any]]:
    """OpenAI's messages in Ollama's shape: pictures beside the text, arguments as objects. Raises ProviderError."""
    names: dict[str, str] = {}
    try:
        return [_message(message, names) for message in openai_chat.messages(call)]
    except (LookupError, TypeError, AttributeError, ValueError):
        raise ProviderError("bad_input", "The messages cannot be read.") from None


def _message(message: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """`names`: of the tools by the id of their call, filled on the way."""
    text, pictures = _content(message.get("content"))
    role = {"developer": "system", "function": "tool"}.get(message["role"], message["role"])
    found: dict[str, Any] = {"role": role, "content": text}
    if pictures:
        found["images"] = pictures
    if calls := message.get("tool_calls"):
        names |= {made.get("id", ""): made["function"]["name"] for made in calls}
        found["tool_calls"] = [{"function": _native(made["function"])} for made in calls]
    if role == "tool":
        found["tool_name"] = names.get(message.get("tool_call_id", ""), message.get("name", ""))
    return found


def _native(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": function["name"], "arguments": json.loads(function.get("arguments") or "{}")}


def _content(content: Any) -> tuple[str, list[str]]:
    """Text and base64 pictures of a message; Ollama fetches nothing."""
    if not isinstance(content, list):
        return content or "", []
    if not {part.get("type") for part in content} <= {"text", "image_url"}:
        raise ProviderError("bad_input", "This model reads texts and pictures only.")
    texts = [part["text"] for part in content if part.get("type") == "text"]
    urls = [part["image_url"]["url"] for part in content if part.get("type") == "image_url"]
    return "\n".join(texts), [url.split("base64,", 1)[1] for url in urls]


def ask(call: Call, body: Mapping[str, Any]) -> Completed:
    """One chat. A model that cannot think is asked again without: the first request was refused, not lost."""
    try:
        return _ask(call, body)
    except ProviderError as problem:
        if "think" not in body or THINKS_NOT not in (problem.raw or ""):
            raise
    return _ask(call, {name: value for name, value in body.items() if name != "think"})


def _ask(call: Call, body: Mapping[str, Any]) -> Completed:
    path, seconds = root_of(call.executor) + "/api/chat", openai_chat.patience(call)
    if not body["stream"]:
        return collect([call.http.post(path, json=body, timeout=seconds).object()], None)
    with call.http.stream("POST", path, json=body, timeout=seconds) as stream:
        return collect(sse.records(stream.chunks()), call.emit)


def collect(lines: Iterable[dict[str, Any]], emit: Emit | None) -> Completed:
    """The lines of an answer, told to `emit` as they come. Raises ProviderError, `upstream_cut` when the last is missing."""
    whole = openai_chat.Piece()
    for line in lines:
        if "error" in line:
            raise problem_of(str(line["error"])) or faults.standard("transient")
        delta = _delta(line.get("message"), len(whole.tools))
        text, reasoning, tools = whole.take(delta, _reason(line))
        if emit and (text or reasoning or tools):
            emit.delta(text, reasoning, tools or None)
        whole.usage = _usage(line)
    if whole.finish_reason is None:
        raise ProviderError("transient", "The provider's answer broke off.", "upstream_cut")
    rest = whole.flush()
    if emit and any(rest):
        emit.delta(*rest)
    if whole.finish_reason in {"load", "unload"}:
        raise refusals.no_output("a word")
    if whole.tools:
        whole.finish_reason = "tool_calls"
    return whole.result()


def _reason(line: Mapping[str, Any]) -> str | None:
    return str(line.get("done_reason") or "stop") if line.get("done") else None


def _delta(message: Any, tools: int) -> dict[str, Any]:
    """A message in OpenAI's shape; the calls of tools get the ids they lack."""
    if not isinstance(message, dict):
        return {}
    calls = [call for call in message.get("tool_calls") or () if isinstance(call, dict)]
    return {
        "content": message.get("content"),
        "reasoning": message.get("thinking"),
        "tool_calls": [
            {
                "index": index,
                "id": call.get("id") or f"call_{index}",
                "type": "function",
                "function": {"arguments": {}, **(call.get("function") or {})},
            }
            for index, call in enumerate(calls, tools)
        ],
    }


def _usage(line: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of the last line; a cached prompt may go uncounted."""
    read, written = line.get("prompt_eval_count") or 0, line.get("eval_count") or 0
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def unopened(done: Completed) -> Completed:
    """Some templates swallow `<think>` and leave `</think>`: all before it was thought, not said."""
    thought, found, said = (done.text or "").rpartition(openai_chat.CLOSE)
    if not found or done.message is None or done.message.get("reasoning_content"):
        return done
    said = said.lstrip("\n")
    message = {**done.message, "content": said, "reasoning_content": thought}
    return replace(done, text=said, message=message)
