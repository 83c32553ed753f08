"""The input names all models share, with their types and limits, for the `Params` of adapters.

    class KlingParams(Params):
        prompt: Prompt
        images: Images | None = None
        duration: Annotated[float, Field(ge=5, le=10)] = 5

A model whose adapter declares no schema takes `OpenParams`: these names are checked, others pass as they are.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from providers.base import Params

ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
LONGEST_TEXT = 100_000  # characters


def _message(message: dict[str, Any]) -> dict[str, Any]:
    if message.get("role") not in ROLES:
        raise PydanticCustomError("choice", "every message needs a role: user, assistant, ...")
    if any(len(text) > LONGEST_TEXT for text in _texts(message.get("content"))):
        raise PydanticCustomError("too_long", "a text has at most 100000 characters")
    return message


def _texts(content: Any) -> Iterator[str]:
    """The content of a message, or what its parts say."""
    parts = content if isinstance(content, list) else [{"text": content}]
    for part in parts:
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str):
            yield text


Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Prompt = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
Message = Annotated[dict[str, Any], AfterValidator(_message)]
Messages = Annotated[list[Message], Field(min_length=1)]
Media = Annotated[str, Field(min_length=1)]  # URL, data URI, asset:<id> or asset id
Images = Annotated[list[Media], Field(min_length=1)]
Size = Annotated[str, Field(pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")]  # WxH
Edge = Annotated[int, Field(ge=1, le=99_999)]  # pixels
Ratio = Annotated[str, Field(pattern=r"^[1-9]\d{0,3}:[1-9]\d{0,3}$")]
Count = Annotated[int, Field(ge=1, le=10)]
Seed = Annotated[int, Field(ge=-1, le=2**63 - 1)]  # -1: random
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=1, le=1000)]
Fps = Annotated[int, Field(ge=1, le=240)]
Word = Annotated[str, Field(min_length=1, max_length=200)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=256)]
Dimensions = Annotated[int, Field(ge=1, le=65_536)]
Probability = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[int, Field(ge=1)]
Stop = str | list[str]
Object = dict[str, Any]


class ChatOptions(Params):
    """What every chat model takes besides the conversation."""

    temperature: Positive | None = None
    top_p: Probability | None = None
    max_tokens: Tokens | None = None
    stop: Stop | None = None
    tools: list[Object] | None = None
    tool_choice: str | Object | None = None
    response_format: Object | None = None
    reasoning_effort: Word | None = None


class OpenParams(ChatOptions):
    """All shared names, and whatever else a vendor's model may take."""

    model_config = ConfigDict(extra="allow")

    prompt: Prompt | None = None
    negative_prompt: Text | None = None
    messages: Messages | None = None
    system: Text | None = None
    images: Images | None = None
    mask: Media | None = None
    video: Media | None = None
    audio: Media | None = None
    size: Size | None = None
    width: Edge | None = None
    height: Edge | None = None
    aspect_ratio: Ratio | None = None
    n: Count = 1
    seed: Seed | None = None
    steps: Steps | None = None
    guidance: Positive | None = None
    duration: Seconds | None = None
    fps: Fps | None = None
    quality: Word | None = None
    format: Word | None = None
    voice: Word | None = None
    speed: Positive | None = None
    language: Word | None = None
    texts: Texts | None = None
    dimensions: Dimensions | None = None
    workflow: Object | None = None
    inputs: Object | None = None
    parameters: Object | None = None
