"""Images, speech, transcripts and embeddings of the OpenAI adapter."""

import base64

from providers.base import (
    Call,
    Completed,
    Output,
)
from providers.testing import FakeInput, Recorder, make_call
from tests.emulators import openai
from tests.emulators.base import (
    Fault,
    answered,
    as_fixture,
    cut_answer,
    drop_answer,
    silence,
    sse,
)
from tests.emulators.forms import form_of
from tests.emulators.openai import MP3, PNG
from tests.emulators.openai import OpenAI as Vendor
from tests.integration.providers.openai_calls import (
    EDITS,
    IMAGES,
    draw,
    provider,
    refused,
)
from tests.integration.providers.rows import Row, table

vendor = as_fixture(Vendor)


def test_images(vendor: Vendor) -> None:
    given = {"n": 2, "size": "512x768", "quality": "low", "format": "webp", "background": "opaque"}
    answer = provider.submit(draw(vendor, input=given))
    assert vendor.calls()[0].json == {
        "model": "gpt-image-2",
        "prompt": "a kite",
        "n": 2,
        "size": "512x768",
        "quality": "low",
        "background": "opaque",
        "output_format": "webp",
    }
    assert answer == Completed(
        [Output("image", data=PNG, content_type="image/webp")] * 2,
        {"prompt_tokens": 10, "completion_tokens": 1056, "total_tokens": 1066, "images": 2},
    )


def test_pictures_as_addresses_and_partly(vendor: Vendor) -> None:
    """A gateway with another model, which refuses one of two pictures."""
    vendor.pictures = [
        {"url": "https://cdn.example/1.png", "revised_prompt": "A kite."},
        {"url": None},
    ]
    given = {"width": 640, "height": 480}
    answer = provider.submit(draw(vendor, "dall-e-9", input=given))
    assert vendor.calls()[0].json["size"] == "640x480"
    assert isinstance(answer, Completed)
    url, meta = "https://cdn.example/1.png", {"revised_prompt": "A kite."}
    assert answer.outputs == [Output("image", url=url, meta=meta)]
    assert answer.usage["images"] == 1


def test_edits(vendor: Vendor) -> None:
    inputs = {
        "images.0": FakeInput(PNG),
        "images.1": FakeInput(b"jpg", "image/jpeg"),
        "mask": FakeInput(b"mask"),
    }
    given = {"images": ["asset:1", "asset:2"], "mask": "asset:3", "n": 1}
    sent: list[float] = []
    call = draw(vendor, input=given, inputs=inputs, task_type="image-to-image", sent=sent)
    assert isinstance(provider.submit(call), Completed)
    form = form_of(vendor.calls("POST", EDITS)[0])
    assert {name: [part.content for part in parts] for name, parts in form.items()} == {
        "model": [b"gpt-image-2"],
        "prompt": [b"a kite"],
        "n": [b"1"],
        "image[]": [PNG, b"jpg"],
        "mask": [b"mask"],
    }
    assert [part.content_type for part in form["image[]"]] == ["image/png", "image/jpeg"]
    assert len(sent) == 1


def test_partial_pictures(vendor: Vendor) -> None:
    emit = Recorder()
    answer = provider.submit(draw(vendor, stream=True, emit=emit))
    assert vendor.calls()[0].json["partial_images"] == 1
    assert emit.previews == [(PNG, "image/png")]
    assert isinstance(answer, Completed)
    assert [output.data for output in answer.outputs] == [PNG]


def test_a_server_that_cannot_stream_pictures(vendor: Vendor) -> None:
    picture = {"b64_json": base64.b64encode(PNG).decode()}
    vendor.next("POST", IMAGES, answered(200, {"data": [picture]}))
    answer = provider.submit(draw(vendor, stream=True))
    assert isinstance(answer, Completed)
    assert [output.data for output in answer.outputs] == [PNG]


def test_a_random_seed_is_none(vendor: Vendor) -> None:
    provider.submit(draw(vendor, "dall-e-9", input={"seed": -1}))
    assert "seed" not in vendor.calls()[0].json


PARTIAL = {"type": "image_generation.partial_image", "b64_json": base64.b64encode(PNG).decode()}


@table(
    [
        Row("no end", Fault(reply=sse(PARTIAL, done=False)), "unknown_outcome"),
        Row("no JSON", Fault(reply=sse("{")), "unknown_outcome"),
        Row("cut", cut_answer(20), "unknown_outcome"),
        Row(
            "refused",
            Fault(reply=sse(openai.error(400, "x", "x", "moderation_blocked").body)),
            "content_refused",
        ),
    ]
)
def test_image_streams_that_break(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", IMAGES, row.fault)
    row.expect(provider, draw(vendor, stream=True))


def test_large_pictures(vendor: Vendor) -> None:
    large = base64.b64encode(bytes(12_000_000)).decode()
    vendor.pictures = [{"b64_json": large}]
    answer = provider.submit(draw(vendor))
    assert isinstance(answer, Completed)
    assert [len(output.data or b"") for output in answer.outputs] == [12_000_000]


def test_speech(vendor: Vendor) -> None:
    given = {"prompt": "Good evening", "voice": "sage", "speed": 1.5, "instructions": "Whisper."}
    answer = provider.submit(make_call(provider, "gpt-4o-mini-tts", given, base_url=vendor.base))
    assert vendor.calls()[0].json == {
        "model": "gpt-4o-mini-tts",
        "input": "Good evening",
        "voice": "sage",
        "speed": 1.5,
        "instructions": "Whisper.",
        "response_format": "mp3",
    }
    output = Output("audio", data=MP3, content_type="audio/mpeg", filename="speech.mp3")
    assert answer == Completed([output], {"characters": 12})


@table(
    [
        Row("json", answered(200, {"hm": 1}), "unknown_outcome"),
        Row("empty", answered(200), "unknown_outcome"),
        Row("dropped", drop_answer(), "unknown_outcome"),
        Row("bad voice", refused(400, "No", "x", "invalid_value"), "bad_input"),
    ]
)
def test_failures_of_speech(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", "/v1/audio/speech", row.fault)
    row.expect(provider, make_call(provider, "tts-1", {"prompt": "Hi"}, base_url=vendor.base))


def test_a_transcript_needs_a_file(vendor: Vendor) -> None:
    call = make_call(provider, "whisper-1", {"audio": "asset:1"}, base_url=vendor.base)
    Row("", silence(), "bad_input").expect(provider, call)


def test_a_transcript_without_text(vendor: Vendor) -> None:
    vendor.next("POST", "/v1/audio/transcriptions", answered(200, {"text": None}))
    Row("", silence(), "transient", "bad_response").expect(provider, hear(vendor, "whisper-1"))


def hear(vendor: Vendor, model: str) -> Call:
    audio = {"audio": FakeInput(b"RIFF", "audio/wav")}
    given = {"audio": "asset:1", "language": "en", "temperature": 0.0}
    return make_call(provider, model, given, inputs=audio, base_url=vendor.base)


def test_transcripts_with_segments(vendor: Vendor) -> None:
    answer = provider.submit(hear(vendor, "whisper-1"))
    segments = [{"start": 0.0, "end": 1.5, "text": "hello"}]
    data = {"language": "english", "duration": 1.5, "segments": segments}
    assert answer == Completed(text="hello", data=data, usage={"seconds": 1.5})
    form = form_of(vendor.calls()[0])
    assert (form["language"][0].text, form["file"][0].filename) == ("en", "audio.wav")


def test_transcripts_without_segments(vendor: Vendor) -> None:
    answer = provider.submit(hear(vendor, "gpt-4o-transcribe"))
    tokens = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert answer == Completed(text="hello", usage=tokens)


def test_embeddings(vendor: Vendor) -> None:
    given = {"texts": ["a", "bb"], "dimensions": 2}
    answer = provider.submit(
        make_call(provider, "text-embedding-3-small", given, base_url=vendor.base)
    )
    assert vendor.calls()[0].json["input"] == ["a", "bb"]
    vectors = {"embeddings": [[1.0, 1.0], [2.0, 1.0]]}
    assert answer == Completed(data=vectors, usage={"prompt_tokens": 3, "total_tokens": 3})


@table(
    [
        Row("too few", answered(200, {"data": []}), "transient", "bad_response"),
        Row("dropped", drop_answer(), "transient"),
    ]
)
def test_failures_of_embeddings(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", "/v1/embeddings", row.fault)
    call = make_call(provider, "text-embedding-3-small", {"prompt": "a"}, base_url=vendor.base)
    row.expect(provider, call)


def test_what_it_does_not_do(vendor: Vendor) -> None:
    call = draw(vendor, task_type="video-to-video")
    Row("", silence(), "not_available").expect(provider, call)
