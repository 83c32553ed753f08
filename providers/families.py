"""Families: routing classes, each with a queue of its own and the provider that serves it.

A model belongs to the family whose literal prefix matches the longest part of its name, without regard to case:
`qwen-image-plus` is dashscope's, `qwen-max` is qwen's.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from providers import discovery
from providers.base import Family, Provider

BUILT_IN: tuple[Family, ...] = (
    Family("gemini", ("gemini*", "imagen*", "veo*"), "gemini"),
    Family("qwen", ("qwen*", "llama*"), "qwen"),
    Family("deepseek", ("deepseek*",), "deepseek"),
    Family(
        "openai",
        (
            "gpt*",
            "chatgpt*",
            "o1*",
            "o3*",
            "o4*",
            "dall-e*",
            "sora*",
            "tts*",
            "whisper*",
            "text-embedding*",
        ),
        "openai",
    ),
    Family(
        "volcengine",
        ("doubao*", "seedream*", "seedance*", "seededit*", "jimeng*", "ep-*"),
        "volcengine",
    ),
    Family("dashscope", ("wan*", "qwen-image*", "qwen-tts*", "cosyvoice*"), "dashscope"),
    Family("sd", ("sd*", "stable*", "flux*"), "comfyui"),
    Family("coze", ("coze*",), "coze"),
    Family("comfyui", ("comfy*",), "comfyui"),
    Family("sandbox", ("sandbox*",), "sandbox"),
)


def all_families() -> tuple[Family, ...]:
    """The built-in families and those of installed providers; none of the sandbox where it is switched off."""
    return _families(tuple(discovery.providers().items()))


@lru_cache(maxsize=1)
def _families(serving: tuple[tuple[str, Provider], ...]) -> tuple[Family, ...]:
    names = {name for name, _ in serving}
    built_in = [f for f in BUILT_IN if f.provider in names or f.provider != "sandbox"]
    taken = {family.name for family in built_in}
    own = [
        replace(family, provider=name)
        for name, provider in serving
        for family in provider.families or (Family(name),)
    ]
    return (*built_in, *(family for family in own if family.name not in taken))


def family_of(model: str) -> Family | None:
    """The family that serves `model` by its name, or None."""
    return longest_match(model, all_families())


def longest_match(model: str, families: Iterable[Family]) -> Family | None:
    """The family with the longest pattern that `model` begins with; the earlier one of equals."""
    name = model.lower()
    best: Family | None = None
    length = -1
    for family in families:
        for prefix in family.prefixes:
            if name.startswith(prefix) and len(prefix) > length:
                best, length = family, len(prefix)
    return best


def families_of(provider: str) -> tuple[Family, ...]:
    """The families a provider serves, the one of its own name first."""
    mine = [family for family in all_families() if family.provider == provider]
    return tuple(sorted(mine, key=lambda family: family.name != provider))


def family_named(name: str) -> Family | None:
    return next((family for family in all_families() if family.name == name), None)
