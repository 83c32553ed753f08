"""The first executors: the sandbox where it is switched on, and one for each vendor the environment names.

Run with every migration; what an operator has changed or removed since is left alone.
"""

from dataclasses import dataclass

from admin_integrations import vault
from admin_integrations.models import Credential, Executor
from genpulse.config import config
from genpulse.ids import new_id

SANDBOX_SLOTS = 8


@dataclass(frozen=True)
class Seed:
    """A vendor of the environment: `key` or `url` or both must be set for it to count."""

    provider: str
    key: str
    url: str
    default_url: str
    slots: int = 16
    needs_key: bool = True


def vendors() -> list[Seed]:
    return [
        Seed("openai", config.openai_api_key, config.openai_base_url, "https://api.openai.com/v1"),
        Seed(
            "volcengine",
            config.ark_api_key,
            config.ark_base_url,
            "https://ark.cn-beijing.volces.com/api/v3",
        ),
        Seed(
            "gemini",
            config.gemini_api_key,
            config.gemini_service_url,
            "https://generativelanguage.googleapis.com/v1beta",
            needs_key=not config.gemini_service_url,
        ),
        Seed(
            "deepseek",
            config.deepseek_api_key,
            config.deepseek_service_url,
            "https://api.deepseek.com",
            needs_key=not config.deepseek_service_url,
        ),
        Seed(
            "dashscope",
            config.dashscope_api_key,
            config.dashscope_base_url,
            "https://dashscope.aliyuncs.com/api/v1",
        ),
        Seed("qwen", "", config.llm_service_url, "", needs_key=False),
        Seed("comfyui", "", config.comfy_url, "", slots=1, needs_key=False),
        Seed("coze", config.coze_api_token, config.coze_base_url, ""),
    ]


def first_executors() -> list[str]:
    """Create what is missing; the names of what was made."""
    made = []
    if config.sandbox_enabled and not Executor.objects.exists():
        made.append(
            Executor.objects.create(
                name="sandbox-1", type="sandbox", max_concurrency=SANDBOX_SLOTS
            ).name
        )
    for seed in vendors():
        configured = bool(seed.key) if seed.needs_key else bool(seed.url or seed.key)
        if configured and not Executor.objects.filter(type=seed.provider).exists():
            made.append(_make(seed))
    return made


def _make(seed: Seed) -> str:
    url = seed.url or seed.default_url
    executor = Executor.objects.create(
        name=f"{seed.provider}-1", type=seed.provider, base_url=url, max_concurrency=seed.slots
    )
    if seed.key:
        id_ = new_id()
        executor.credentials.add(
            Credential.objects.create(
                id=id_,
                provider=seed.provider,
                name="environment",
                ciphertext=vault.encrypt(seed.key, owner=id_),
                last4=seed.key[-4:],
                base_url=url,
            )
        )
    return executor.name
