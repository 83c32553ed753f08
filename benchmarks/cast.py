"""Who takes part: a service without rate limits, tenants, an executor with room."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from admin_integrations.models import Executor

RICH = 10**15  # micro-credits


def key_of(name: str, *scopes: str) -> str:
    """The text of a new key of user `name`, who is rich."""
    from genpulse.auth import services
    from wallet import services as wallet

    user = services.get_or_create_user(name)
    wallet.deposit(user.account_id, RICH, reason="bench")
    _, text = services.create_key(user, name="bench", scopes=scopes or ("tasks", "act_as"))
    return text


def headers(key: str, **more: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **named}


def executor(kind: str = "sandbox", slots: int = 512, **fields: Any) -> "Executor":
    from admin_integrations.models import Executor

    made, _ = Executor.objects.get_or_create(
        name="bench", defaults={"type": kind, "max_concurrency": slots, **fields}
    )
    return made


def text_task(**sandbox: Any) -> dict[str, Any]:
    return {"model": "sandbox-text", "input": {"prompt": "hi", "sandbox": sandbox}}
