"""From an adapter's answer to rows: usage, cost, the kept result, the output of the task."""

from collections.abc import Mapping, Sequence
from typing import Any

from media import services as media
from providers.base import Completed, Output
from tasks.policy import Fault
from tasks.work import Work
from wallet import pricing
from wallet.rules import Target

USAGE = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "images",
    "seconds",
    "characters",
    "calls",
    "megapixels",
)
LARGEST_USAGE = 10**12
FILES = frozenset(
    {
        "text-to-image",
        "image-to-image",
        "text-to-video",
        "image-to-video",
        "video-to-video",
        "text-to-audio",
    }
)


def usage_of(answer: Completed) -> dict[str, float]:
    """The known units with sane numbers; what a vendor garbled is left out."""
    given = {name: answer.usage[name] for name in USAGE if name in answer.usage}
    return {name: value for name, value in given.items() if sane(value)}


def sane(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return (
        0 <= value <= LARGEST_USAGE
    )  # false for NaN and infinity, and safe for integers of any size


def vendor_cost(work: Work, answer: Completed, usage: Mapping[str, float]) -> int | None:
    """What the vendor says it charged, else by our cost rules; micro-credits."""
    cost = answer.vendor_cost
    if isinstance(cost, int) and 0 <= cost < 2**62:
        return cost
    target = Target(task_type=work.task_type, model=work.model or "", provider=work.provider)
    return pricing.vendor_cost(target, usage)


def empty(work: Work, answer: Completed) -> Fault | None:
    """A success without the file that was asked for is no success."""
    if work.task_type in FILES and not answer.outputs:
        return Fault(
            kind="transient",
            code="no_output",
            message="The provider answered without a result.",
            provider=work.provider,
        )
    return None


def output_of(answer: Completed, assets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The output of the task; assets are persistable references, signed when read."""
    return {
        "text": answer.text,
        "message": dict(answer.message) if answer.message else _message(answer.text),
        "data": answer.data,
        "assets": list(assets),
    }


def _message(text: str | None) -> dict[str, Any] | None:
    return None if text is None else {"role": "assistant", "content": text, "refusal": None}


def keep(work: Work, answer: Completed, usage: Mapping[str, float]) -> dict[str, Any]:
    """The vendor's answer as JSON; inline bytes are written first, so that the row can point at them."""
    return {
        "outputs": [_kept(work, index, output) for index, output in enumerate(answer.outputs)],
        "usage": dict(usage),
        "text": answer.text,
        "message": dict(answer.message) if answer.message else None,
        "data": answer.data,
    }


def _kept(work: Work, index: int, output: Output) -> dict[str, Any]:
    key = None
    if output.data is not None:
        key = media.write_raw(
            work.task_id, work.attempt, index, output.data, output.content_type or ""
        )
    return {
        "kind": output.kind,
        "url": output.url,
        "key": key,
        "content_type": output.content_type,
        "filename": output.filename,
        "meta": dict(output.meta),
    }


def answer_of(result: Mapping[str, Any]) -> Completed:
    """What was kept, without its files."""
    return Completed(
        text=result.get("text"), message=result.get("message"), data=result.get("data")
    )
