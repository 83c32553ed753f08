"""`GET /models` of OpenAI-compatible servers: the cheapest proof of life, and what they have."""

from typing import Any

from providers.base import ExecutorInfo, Health, Inventory, ProviderError
from providers.wire import bases

SECONDS = 15.0
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
    """The ids of its models, Google's `models/` cut off. Raises ProviderError."""
    try:
        found = _list(executor, base)
    except ProviderError as problem:
        if problem.status in NO_SUCH_PATH:
            return Inventory()
        raise
    ids = (item.get("id") for item in found if isinstance(item, dict))
    return Inventory(models=[name.removeprefix("models/") for name in ids if isinstance(name, str)])


def _list(executor: ExecutorInfo, base: str) -> list[Any]:
    base = base or bases.trimmed(executor.base_url)
    reply = executor.http.get(f"{base}/models", timeout=SECONDS)
    data = reply.object().get("data")
    return data if isinstance(data, list) else []
