"""`POST /audio/speech` and `/audio/transcriptions`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from pydantic import Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.dialects.doors import Shown
from genpulse.dialects.openai.doors import Asked, OpenAIDoor, only, plain, refused, tokens
from genpulse.dialects.openai.failures import INVALID, Failure
from genpulse.dialects.openai.forms import FormDoor, named
from genpulse.errors import ValidationFailed
from genpulse.http.parsing import Flag
from media import services as media

Segment = Mapping[str, Any]


class SpeechIn(Asked):
    """POST /openai/v1/audio/speech."""

    input: str = Field(min_length=1, max_length=4096)
    voice: Any = None
    response_format: str | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    instructions: str | None = None
    stream_format: str | None = None

    def given(self) -> dict[str, Any]:
        return {
            "prompt": self.input,
            "voice": self.voice,
            "format": self.response_format,
            "speed": self.speed,
            "instructions": self.instructions,
        }


class Speech(OpenAIDoor):
    """A text, spoken."""

    names: ClassVar[Mapping[str, str]] = {"prompt": "input", "format": "response_format"}
    bodies = {"POST": SpeechIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Speak a text; the answer is the audio itself."""
        asked = self.parse(SpeechIn)
        only(asked.stream_format, "audio", "stream_format")
        answer = self.make(self.wish(asked, "text-to-audio", asked.given()))
        return self.finished(answer, audio)


def audio(found: Shown) -> HttpResponse:
    [asset, *_] = (found.more.output or {}).get("assets", [])
    with media.open_raw(asset["key"]) as file:
        return HttpResponse(file.read(), content_type=asset["content_type"])


class TranscriptIn(Asked):
    """POST /openai/v1/audio/transcriptions, beside `file`."""

    language: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    response_format: Literal["json", "text", "verbose_json", "srt", "vtt"] = "json"
    stream: Flag | None = None
    timestamp_granularities: Any = None  # segments are given where there are any


class Transcriptions(FormDoor, OpenAIDoor):
    """What was said."""

    names: ClassVar[Mapping[str, str]] = {"audio": "file"}
    bodies = {"POST": TranscriptIn}

    def post(self, request: Request) -> HttpResponseBase:
        """Write down what an audio file says."""
        asked = self.parse(TranscriptIn)
        only(asked.stream, False, "stream")
        files = self.files("file", 1)
        if not files:
            raise ValidationFailed.of("file", "required", "send the audio file as `file`")
        with self.keeping({"file": files}) as stored:
            given = {"audio": named(stored)[0]}
            given |= {name: getattr(asked, name) for name in ("language", "prompt", "temperature")}
            answer = self.make(self.wish(asked, "audio-to-text", given))
            if not answer.replayed:
                self.kept()
        return self.finished(answer, lambda found: transcript(found, asked.response_format))


def transcript(found: Shown, form: str) -> HttpResponseBase:
    output = found.object["output"] or {}
    text, data = output.get("text") or "", output.get("data") or {}
    if form == "text":
        return plain(text)
    said = {"text": text, "usage": heard(found.object["usage"])}
    if form == "json":
        return Response(said)
    segments = data.get("segments") or []
    if form == "verbose_json":
        return Response({**said, **verbose(data, segments)})
    if not segments:
        return refused(NO_SEGMENTS)
    return plain(subtitles(segments, srt=form == "srt"))


NO_SEGMENTS = Failure(
    status=400,
    type=INVALID,
    code="unsupported_value",
    message="response_format: this model gives no segments to make subtitles of",
    param="response_format",
)


def verbose(data: Mapping[str, Any], segments: Sequence[Segment]) -> dict[str, Any]:
    return {
        "task": "transcribe",
        "language": data.get("language"),
        "duration": data.get("duration"),
        "segments": [{"id": place, **segment} for place, segment in enumerate(segments)],
    }


def heard(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """By seconds where the provider counts those, else by tokens."""
    given = usage or {}
    if "seconds" in given:
        return {"type": "duration", "seconds": given["seconds"]}
    counted = tokens(given)
    return {
        "type": "tokens",
        "input_tokens": counted["prompt_tokens"],
        "output_tokens": counted["completion_tokens"],
        "total_tokens": counted["total_tokens"],
    }


def subtitles(segments: Sequence[Segment], *, srt: bool) -> str:
    mark = "," if srt else "."
    blocks = [] if srt else ["WEBVTT\n"]
    for place, segment in enumerate(segments, 1):
        times = " --> ".join(clock(segment[name], mark) for name in ("start", "end"))
        number = f"{place}\n" if srt else ""
        blocks.append(f"{number}{times}\n{str(segment['text']).strip()}\n")
    return "\n".join(blocks)


def clock(seconds: float, mark: str) -> str:
    """`01:02:03,456`."""
    milliseconds = round(float(seconds) * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
