"""Base URLs as operators write them."""

CHAT = "/chat/completions"


def trimmed(base_url: str) -> str:
    """`http://host/v1/chat/completions` -> `http://host/v1`; others without their last slash."""
    return base_url.rstrip("/").removesuffix(CHAT)


def speaks_openai(base_url: str) -> bool:
    """A base that ends in `/v1`, `/openai` or `/chat/completions` is an OpenAI-compatible server."""
    base = base_url.rstrip("/")
    return base.endswith(("/v1", "/openai", CHAT))
