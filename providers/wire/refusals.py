"""Refusals that arrive as a success: by field in every chat, by phrase where a model only says so in prose."""

from collections.abc import Sequence

from providers import faults
from providers.base import ExecutorInfo, ProviderError

PHRASES = ("I cannot create images", "无法创建图片")


def refusal_in(
    text: str,
    finish_reason: str | None = None,
    refusal: str | None = None,
    phrases: Sequence[str] = (),
) -> str | None:
    """The words of a refusal, None when the answer is none.

    `finish_reason` content_filter and a non-empty `refusal` count always, `phrases` anywhere in the text without
    regard to case.
    """
    if refusal or finish_reason == "content_filter":
        return refusal or text or faults.MESSAGES["content_refused"]
    said = text.casefold()
    return text if any(phrase.casefold() in said for phrase in phrases if phrase) else None


def refused(words: str) -> ProviderError:
    """The error of a refusal; its message is what the vendor said, cut to 2000 characters."""
    words = words[: faults.RAW_LIMIT]
    return ProviderError("content_refused", words, refusal=words)


def phrases_of(executor: ExecutorInfo) -> tuple[str, ...]:
    """The operator's list (executor config `refusal_phrases`), else the default one; an empty list means none."""
    return tuple(executor.config.get("refusal_phrases", PHRASES))


def no_output(what: str) -> ProviderError:
    """An answer without the `what` it should hold: asked for once more, then given up."""
    return ProviderError(
        "transient", f"The provider answered without {what}.", "no_output", retries=1
    )
