"""How much a task will probably use, judged from its input before it runs."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

Units = Mapping[str, Decimal]

MOST = Decimal(10**9)  # of anything: nonsense must not overflow a bigint
DEFAULT_MAX_TOKENS = Decimal(1024)
DEFAULT_SECONDS = Decimal(5)
DEFAULT_AREA = Decimal(1024 * 1024)
BYTES_PER_TOKEN = 3  # English has about 4, Chinese 3 to a letter; a little too much is given back


def estimate(task_type: str, given: Mapping[str, Any], media_seconds: float | None = None) -> Units:
    """Quantities for every unit a price may have, under the names of `usage`.

    `given` is the task's input; `media_seconds` the length of its audio or video, where known.
    """
    many = number(given.get("n"), Decimal(1))
    text = "".join(texts(given))
    answer = (
        Decimal(0)
        if task_type == "embedding"
        else number(given.get("max_tokens"), DEFAULT_MAX_TOKENS)
    )
    return {
        "calls": Decimal(1),
        "images": many,
        "seconds": number(given.get("duration"), number(media_seconds, DEFAULT_SECONDS)),
        "prompt_tokens": Decimal(-(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)),
        "completion_tokens": min(answer * many, MOST),
        "characters": Decimal(len(text)),
        "megapixels": min(area(given) * many / 10**6, MOST),
    }


def quantity(value: Any) -> Decimal | None:
    """A number from 0 to 10^9 (more counts as that), or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return min(exact, MOST) if exact.is_finite() and exact >= 0 else None


def number(value: Any, default: Decimal) -> Decimal:
    """As `quantity`, also from text; 0 and what cannot be read count as `default`."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except InvalidOperation:
            return default
    return quantity(value) or default


def texts(given: Mapping[str, Any]) -> Iterator[str]:
    """Every piece of text the model will read."""
    yield from strings([given.get("system"), given.get("prompt"), given.get("negative_prompt")])
    yield from strings(given.get("texts"))
    for message in listed(given.get("messages")):
        content = message.get("content") if isinstance(message, Mapping) else None
        yield from strings(content if isinstance(content, list) else [content])


def strings(parts: Any) -> Iterator[str]:
    """The texts among `parts`, also those of OpenAI's `{"type": "text", "text": ...}`."""
    for part in listed(parts):
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            yield text


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def area(given: Mapping[str, Any]) -> Decimal:
    """Pixels of one picture."""
    size = re.fullmatch(r"(\d{1,5})[xX*](\d{1,5})", str(given.get("size", "")))
    sides = size.groups() if size else (given.get("width"), given.get("height"))
    width, height = (number(side, Decimal(0)) for side in sides)
    return width * height or DEFAULT_AREA
