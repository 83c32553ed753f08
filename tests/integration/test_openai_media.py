"""Images, sound, vectors, films and files through the official client."""

import asyncio
import base64
import io
import json
import struct

import openai
import pytest
from PIL import Image

from media.models import Asset
from tasks.models import Task
from tests.integration.openai_client import HELLO, House, client, house, sandboxed
from tests.integration.stack import eventually

__all__ = ["client", "house"]
PNG = b"\x89PNG\r\n\x1a\n"
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API")  # their servers' end, not ours
SMALL = {"model": "sandbox-image", "prompt": "a red kite", "size": "64x48"}


def test_images(client, house):
    drawn = client.images.generate(**SMALL, n=2, extra_body=sandboxed())
    assert len(drawn.data) == 2
    assert [drawn.size, drawn.output_format] == ["64x48", "png"]
    for picture in drawn.data:
        data = base64.b64decode(picture.b64_json)
        assert data.startswith(PNG)
        assert house.native.session.get(picture.url, timeout=30).content == data
    linked = client.images.generate(**SMALL, response_format="url", extra_body=sandboxed())
    assert linked.data[0].url
    assert "b64_json" not in linked.data[0].model_fields_set
    inline = client.images.generate(**SMALL, response_format="b64_json", extra_body=sandboxed())
    assert "url" not in inline.data[0].model_fields_set
    *_, last = client.images.generate(**SMALL, stream=True, extra_body=sandboxed())
    assert last.type == "image_generation.completed"
    assert base64.b64decode(last.b64_json).startswith(PNG)
    refused = sandboxed(fail="content_refused")
    with pytest.raises(openai.BadRequestError) as no:
        client.images.generate(**SMALL, extra_body=refused)
    assert [no.value.type, no.value.code] == [
        "image_generation_user_error",
        "content_policy_violation",
    ]


def test_images_of_images(client):
    kite = client.images.generate(**SMALL, response_format="b64_json", extra_body=sandboxed())
    file = ("kite.png", base64.b64decode(kite.data[0].b64_json), "image/png")
    edited = client.images.edit(
        model="sandbox-image",
        prompt="bluer",
        image=[file, file],
        mask=file,
        size="64x64",
        extra_body=sandboxed(),
    )
    assert edited.size == "64x64"
    task = Task.objects.get(task_type="image-to-image")
    assert Asset.objects.filter(origin="input", deleted_at=None).count() == 3
    once = {"Idempotency-Key": "edit"}
    urls = [
        client.images.with_raw_response.edit(
            model="sandbox-image",
            prompt="bluer",
            image=file,
            extra_headers=once,
            extra_body=sandboxed(),
        ).headers["x-genpulse-task-id"]
        for _ in range(2)
    ]
    assert len({*urls, str(task.id)}) == 2  # a replay is the same task, and keeps no second file
    assert Asset.objects.filter(origin="input", deleted_at=None).count() == 4


def test_speech_and_back(client):
    spoken = client.audio.speech.create(
        model="sandbox-audio",
        input="a red kite",
        voice="coral",
        instructions="cheerfully",
        extra_body=sandboxed(),
    )
    assert spoken.response.headers["content-type"] == "audio/wav"
    assert spoken.response.headers["x-genpulse-task-id"]
    assert spoken.content.startswith(b"RIFF")

    def heard(form):
        return client.audio.transcriptions.create(
            model="sandbox-transcribe",
            file=("kite.wav", spoken.content),
            response_format=form,
            language="en",
            extra_body=sandboxed(),
        )

    plain = heard("json")
    assert plain.text.startswith("[sandbox] ")
    assert plain.usage.type == "duration"
    whole = heard("verbose_json")
    assert [whole.language, whole.text] == ["en", plain.text]
    assert whole.segments[0].end == whole.duration > 0
    assert heard("text").strip() == plain.text
    assert heard("srt").startswith("1\n00:00:00,000 --> 00:00:00,")
    assert heard("vtt").startswith("WEBVTT\n\n00:00:00.000 --> ")


def test_embeddings(client):
    asked = {"model": "sandbox-embedding", "input": ["kite", "sea", "kite"], "dimensions": 8}
    floats = client.embeddings.create(**asked, encoding_format="float", extra_body=sandboxed())
    packed = client.embeddings.create(**asked, encoding_format="base64", extra_body=sandboxed())
    assert [one.index for one in floats.data] == [0, 1, 2]
    first, other, again = (one.embedding for one in floats.data)
    assert first == again != other
    unpacked = struct.unpack("<8f", base64.b64decode(packed.data[0].embedding))
    assert list(unpacked) == pytest.approx(first)
    by_default = client.embeddings.create(**{**asked, "input": "kite"}, extra_body=sandboxed())
    assert by_default.data[0].embedding == pytest.approx(first)
    assert floats.usage.total_tokens > 0


def test_a_film(client, house):
    asked = {"model": "sandbox-video", "prompt": "a kite that climbs", "size": "64x64"}
    raw = client.videos.with_raw_response.create(**asked, extra_body=sandboxed(latency=1))
    begun = raw.parse()
    task = Task.objects.get(pk=raw.headers["x-genpulse-task-id"])
    assert begun.id == f"video_{task.id.hex}"
    assert [begun.status, begun.seconds, begun.size] == ["queued", "4", "64x64"]
    with pytest.raises(openai.NotFoundError):
        client.videos.download_content(begun.id)
    film = client.videos.poll(begun.id)
    assert [film.status, film.progress, film.prompt] == ["completed", 100, asked["prompt"]]
    assert film.completed_at >= film.created_at
    content = client.videos.download_content(film.id).content
    path = f"/openai/v1/videos/{film.id}/content"
    part = house.native.get(path, headers={"Range": "bytes=2-5"})
    assert [part.status_code, part.content] == [206, content[2:6]]
    with pytest.raises(openai.NotFoundError):
        client.videos.download_content(film.id, variant="spritesheet")
    poster = client.videos.download_content(film.id, variant="thumbnail")
    assert poster.response.headers["Content-Type"] == "image/webp"
    assert Image.open(io.BytesIO(poster.content)).size == (64, 64)
    Asset.objects.filter(task_id=task.id).update(thumbnail_key="")
    with pytest.raises(openai.NotFoundError, match="no poster frame"):
        client.videos.download_content(film.id, variant="thumbnail")

    remixed = client.videos.remix(film.id, prompt="a kite that falls")
    assert [remixed.remixed_from_video_id, remixed.size] == [film.id, "64x64"]
    assert [one.id for one in client.videos.list()] == [remixed.id, film.id]
    page = client.videos.list(limit=1, order="asc")
    assert [[one.id for one in page.data], page.has_more] == [[film.id], True]
    for video in (film, remixed):
        assert client.videos.delete(video.id).deleted
    assert list(client.videos.list()) == []
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(film.id)


def test_a_film_of_a_picture_and_one_that_fails(client, house):
    kite = client.images.generate(**SMALL, response_format="b64_json", extra_body=sandboxed())
    file = client.files.create(
        file=("kite.png", base64.b64decode(kite.data[0].b64_json)), purpose="vision"
    )
    asked = {"model": "sandbox-video", "prompt": "it climbs", "size": "64x64", "seconds": "8"}
    named = {"input_reference": {"file_id": file.id}, **sandboxed(latency=60)}
    pictured = house.native.post("/openai/v1/videos", {**asked, **named}).json()
    assert pictured["seconds"] == "8"
    task = Task.objects.get(task_type="image-to-video")
    assert client.videos.delete(pictured["id"]).deleted
    sent = client.videos.create(
        **asked,
        input_reference=("kite.png", base64.b64decode(kite.data[0].b64_json)),
        extra_body=sandboxed(fail="content_refused"),
    )
    failed = client.videos.poll(sent.id)
    assert [failed.status, failed.error.code] == ["failed", "content_policy_violation"]
    assert Task.objects.filter(task_type="image-to-video").exclude(pk=task.id).count() == 1


def test_files(client, house):
    file = client.files.create(file=("notes.txt", b"fly high"), purpose="user_data")
    assert [file.filename, file.bytes, file.purpose] == ["notes.txt", 8, "user_data"]
    other = client.files.create(file=("more.txt", b"higher"), purpose="assistants")
    assert [one.id for one in client.files.list()] == [other.id, file.id]
    assert [one.id for one in client.files.list(purpose="user_data")] == [file.id]
    assert client.files.content(file.id).content == b"fly high"
    assert client.files.retrieve(file.id).id == file.id
    part = {"type": "file", "file": {"file_id": file.id}}
    asked = client.chat.completions.create(
        model="sandbox-text",
        messages=[{"role": "user", "content": [{"type": "text", "text": "read"}, part]}],
        extra_body=sandboxed(),
    )
    assert asked.choices[0].message.content == "[sandbox] sandbox-text: read"
    stranger = House.of(house.native.base, "bob").client(max_retries=0)
    with stranger, pytest.raises(openai.NotFoundError):
        stranger.files.retrieve(file.id)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_models(client):
    listed = eventually(lambda: {model.id: model for model in client.models.list()})
    assert "sandbox-text" in listed
    assert "gpt-4o-mini-tts" not in listed  # no executor serves it now
    assert listed["sandbox-text"].owned_by == "sandbox"
    assert client.models.retrieve("gpt-4o-mini-tts").owned_by == "openai"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("nope")
    assert unknown.value.code == "model_not_found"


def test_the_async_client(client, house):
    eventually(lambda: client.models.list().data)  # it may be a second old: of another test

    async def all_at_once():
        async with house.eager(max_retries=0) as eager:
            return await asyncio.gather(
                eager.chat.completions.create(
                    model="sandbox-text", messages=HELLO, extra_body=sandboxed()
                ),
                eager.images.generate(**SMALL, extra_body=sandboxed()),
                eager.embeddings.create(
                    model="sandbox-embedding", input="kite", extra_body=sandboxed()
                ),
                eager.models.list(),
            )

    chat, images, vectors, models = asyncio.run(all_at_once())
    assert chat.choices[0].message.content
    assert json.loads(images.to_json())["data"][0]["url"]
    assert len(vectors.data[0].embedding) == 256
    assert models.data
