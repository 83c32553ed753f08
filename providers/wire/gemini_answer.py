"""What comes back from Google's `generateContent`, whole or in chunks.

Every refusal of content is a success with HTTP 200: a blocked prompt, a reason to finish, or a picture that is not there.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from providers import faults
from providers.base import Completed, Output
from providers.wire import gemini_errors, jobs, refusals

REFUSED = frozenset(
    {
        *("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR"),
        *("IMAGE_PROHIBITED_CONTENT", "ESCALATION", "RECITATION", "IMAGE_RECITATION"),
    }
)
REASONS = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
COUNTS = {
    "promptTokenCount": "prompt",
    "candidatesTokenCount": "said",
    "thoughtsTokenCount": "thought",
    "totalTokenCount": "total",
}
Tools = list[dict[str, Any]]


@dataclass
class Answer:
    """An answer as far as it has come. `paid`: what cannot be read of it leaves its fate unknown."""

    paid: bool = False
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    pictures: list[Output] = field(default_factory=list)
    tools: Tools = field(default_factory=list)
    finish: str | None = None
    words: str = ""  # of the vendor, about the end
    blocked: bool = False
    usage: Any = None

    def take(self, data: Mapping[str, Any]) -> tuple[str, str, Tools]:
        """A response or a chunk of one; what it adds: text, reasoning, deltas of tool calls."""
        if data.get("error"):
            raise gemini_errors.problem_of(data) or faults.standard("transient")
        self.usage = data.get("usageMetadata") or self.usage
        feedback = data.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self.blocked, self.words = True, str(feedback.get("blockReasonMessage") or "")
        return self._take(_first(data.get("candidates")))

    def _take(self, candidate: Mapping[str, Any]) -> tuple[str, str, Tools]:
        self.finish = candidate.get("finishReason") or self.finish
        self.words = str(candidate.get("finishMessage") or self.words)
        before = len(self.text), len(self.reasoning), len(self.tools)
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else ():
            self._part(part)
        text, reasoning = self.text[before[0] :], self.reasoning[before[1] :]
        tools = [{"index": n, **tool} for n, tool in enumerate(self.tools)]
        return "".join(text), "".join(reasoning), tools[before[2] :]

    def _part(self, part: Any) -> None:
        if not isinstance(part, dict):
            return
        if isinstance(part.get("text"), str):
            (self.reasoning if part.get("thought") else self.text).append(part["text"])
        elif isinstance(part.get("inlineData"), dict) and not part.get("thought"):
            self.pictures.append(self._file(part["inlineData"]))
        elif isinstance(part.get("functionCall"), dict):
            self.tools.append(_called(part, len(self.tools)))

    def _file(self, inline: Mapping[str, Any]) -> Output:
        content_type = str(inline.get("mimeType") or "image/png")
        try:
            content = base64.b64decode(str(inline.get("data")), validate=True)
        except binascii.Error:
            raise faults.bad_response(paid=self.paid) from None
        word = content_type.partition("/")[0]
        kind = word if word in {"image", "audio", "video"} else "file"
        return Output(kind, data=content, content_type=content_type)  # type: ignore[arg-type]

    def result(self, *, pictured: bool, phrases: Sequence[str]) -> Completed:
        """The finished answer. Raises ProviderError when it is a refusal or lacks what was asked for.

        `pictured`: a picture was asked for. `phrases`: what counts as a refusal in prose.
        """
        text = "".join(self.text)
        if self.blocked or self.finish in REFUSED:
            # What had come by then is withdrawn: it is the unsafe answer, not the refusal.
            raise refusals.refused(self.words or faults.MESSAGES["content_refused"])
        self._check_finish()
        if pictured and not self.pictures:
            if text and self.finish == "STOP":
                raise refusals.refused(text)
            raise refusals.no_output("an image")
        if not self.pictures and (words := refusals.refusal_in(text, phrases=phrases)):
            raise refusals.refused(words)
        bill = self._bill()
        if pictured:
            return Completed(self.pictures, bill, text=text or None)
        return Completed(self.pictures or (), bill, text=text, message=self._message(text))

    def _check_finish(self) -> None:
        if self.finish in REASONS:
            return
        if self.finish == "PUP_LIMITED_DISABLED":  # the account misbehaved, says Google
            raise faults.standard("bad_credentials")
        if self.finish == "MISSING_THOUGHT_SIGNATURE":
            raise faults.standard("bad_input")
        if self.finish is not None or not (self.text or self.pictures or self.tools):
            problem = refusals.no_output("a usable answer")
            problem.raw = f"finishReason {self.finish}"
            raise problem

    def _message(self, text: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self.tools:
            message["tool_calls"] = self.tools
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        reason = "tool_calls" if self.tools else REASONS.get(self.finish or "STOP", "stop")
        return message | {"finish_reason": reason}

    def _bill(self) -> dict[str, float]:
        """Thoughts are charged as output, and Google does not count them among the candidates."""
        count = jobs.amounts(self.usage, COUNTS)
        bill = {"images": float(len(self.pictures))} if self.pictures else {}
        if not count:
            return bill
        written = count.get("said", 0) + count.get("thought", 0)
        read = count.get("prompt", 0)
        total = count.get("total", read + written)
        return bill | {"prompt_tokens": read, "completion_tokens": written, "total_tokens": total}


def _first(candidates: Any) -> dict[str, Any]:
    found = candidates[:1] if isinstance(candidates, list) else []
    return found[0] if found and isinstance(found[0], dict) else {}


def _called(part: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A tool call in OpenAI's shape. The signature has to come back with it in the next turn."""
    function = part["functionCall"]
    arguments = json.dumps(function.get("args") or {}, ensure_ascii=False)
    found = {
        "id": str(function.get("id") or f"call_{number}"),
        "type": "function",
        "function": {"name": str(function.get("name")), "arguments": arguments},
    }
    mark = part.get("thoughtSignature")
    return found | ({"extra_content": {"google": {"thought_signature": mark}}} if mark else {})
