"""`GET /models` of OpenAI-compatible servers: the cheapest proof of life, and what they have."""

from collections.abc import Iterable
from typing import Any

from providers.base import ExecutorInfo, Health, Inventory, ProviderError
from providers.wire import bases

SECONDS = 15.0
STRICT = frozenset({"library", "vllm"})  # "owners" at servers that refuse every other name
NO_SUCH_PATH = frozenset({404, 405, 501})  # small servers have a chat and nothing else


def probe(executor: ExecutorInfo, base: str = "") -> Health:
    """Healthy when it answers; `login` says what became of the credential. Raises ProviderError."""
    try:
        _list(executor, base)
    except ProviderError as problem:
        if problem.kind == "bad_credentials":
            return Health("down", "expired", problem.message)
        if problem.status in NO_SUCH_PATH:
            return Health("healthy", "not_applicable", "It answers, without a list of its models.")
        raise
    return Health("healthy", "ok" if executor.credential else "not_applicable")


def inventory(executor: ExecutorInfo, base: str = "") -> Inventory:
    """The ids of its models, Google's `models/` cut off. Raises ProviderError.

    A server of one model (llama.cpp and its kin) answers whatever name it is called by: `*`.
    """
    try:
        found = _list(executor, base)
    except ProviderError as problem:
        if problem.status in NO_SUCH_PATH:
            return Inventory()
        raise
    listed = [item for item in found if isinstance(item, dict) and isinstance(item.get("id"), str)]
    names = with_short_names(item["id"].removeprefix("models/") for item in listed)
    alone = len(listed) == 1 and listed[0].get("owned_by") not in STRICT
    return Inventory(models=[*names, "*"] if alone else names)


def with_short_names(names: Iterable[str]) -> list[str]:
    """Names as they are listed, and without the tag that may be left out."""
    found = list(names)
    return [*found, *(name.removesuffix(":latest") for name in found if name.endswith(":latest"))]


def _list(executor: ExecutorInfo, base: str) -> list[Any]:
    base = base or bases.trimmed(executor.base_url)
    reply = executor.http.get(f"{base}/models", timeout=SECONDS)
    data = reply.object().get("data")
    return data if isinstance(data, list) else []
