"""Pictures and videos of the Gemini adapter."""

import base64
from typing import Any

import pytest

from providers.base import Accepted, Call, Completed, ErrorKind, Output, ProviderError
from providers.contract import accepted_call
from providers.testing import FakeInput, make_call
from tests.emulators.base import Fault, answered, as_fixture, drop_answer, silence
from tests.emulators.gemini import Gemini as Vendor
from tests.emulators.gemini import Says, picture
from tests.emulators.openai import PNG
from tests.emulators.openai import OpenAI as Compatible
from tests.integration.providers.gemini_calls import draw, film, provider
from tests.integration.providers.rows import Row

vendor = as_fixture(Vendor)
compatible = as_fixture(Compatible)
OMNI = "gemini-omni-1.1-flash"


def test_a_picture(vendor: Vendor) -> None:
    vendor.says = Says([{"text": "Here it is."}, picture()])
    sent: list[float] = []
    answer = provider.submit(draw(vendor, input={"aspect_ratio": "16:9"}, sent=sent))
    assert vendor.calls()[0].json == {
        "contents": [{"role": "user", "parts": [{"text": "a kite"}]}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspectRatio": "16:9"},
        },
    }
    assert answer == Completed(
        [Output("image", data=PNG, content_type="image/png")],
        {"images": 1, "prompt_tokens": 12, "completion_tokens": 43, "total_tokens": 55},
        text="Here it is.",
    )
    assert len(sent) == 1


SHAPES: list[tuple[dict[str, Any], dict[str, str] | None]] = [
    ({}, None),
    ({"size": "1024x1024"}, {"aspectRatio": "1:1"}),
    ({"size": "1920x1080"}, {"aspectRatio": "16:9", "imageSize": "2K"}),
    ({"size": "1344x768"}, {"aspectRatio": "16:9"}),
    ({"width": 3000, "height": 4000}, {"aspectRatio": "3:4", "imageSize": "4K"}),
]


@pytest.mark.parametrize(("given", "shape"), SHAPES)
def test_shapes(vendor: Vendor, given: dict[str, Any], shape: dict[str, str] | None) -> None:
    vendor.says = Says([picture()])
    provider.submit(draw(vendor, input=given))
    assert vendor.calls()[0].json["generationConfig"].get("imageConfig") == shape


def test_a_picture_from_pictures(vendor: Vendor) -> None:
    vendor.says = Says([picture()])
    inputs = {f"images.{n}": FakeInput(bytes([n]), "image/jpeg") for n in range(2)}
    given = {"images": ["asset:1", "asset:2"]}
    provider.submit(draw(vendor, input=given, inputs=inputs, task_type="image-to-image"))
    (content,) = vendor.calls()[0].json["contents"]
    assert content["parts"] == [
        {"text": "a kite"},
        {"inlineData": {"mimeType": "image/jpeg", "data": "AA=="}},
        {"inlineData": {"mimeType": "image/jpeg", "data": "AQ=="}},
    ]


NO_PICTURE: list[tuple[Says, ErrorKind, str]] = [
    (Says([{"text": "I can't draw that."}]), "content_refused", "I can't draw that."),
    (Says([{"text": "Hm."}, {"text": "No.", "thought": True}]), "content_refused", "Hm."),
    (Says([{"text": "Well"}], "MAX_TOKENS"), "transient", ""),
    (Says([]), "transient", ""),
    (Says(None), "transient", ""),
    (Says([{**picture(), "thought": True}]), "transient", ""),
    (Says(None, "NO_IMAGE"), "transient", ""),
    (Says(None, "IMAGE_OTHER"), "transient", ""),
    (Says(finish=None), "transient", ""),
]


@pytest.mark.parametrize(("says", "kind", "words"), NO_PICTURE)
def test_no_picture_in_the_answer(vendor: Vendor, says: Says, kind: ErrorKind, words: str) -> None:
    vendor.says = says
    code = "no_output" if kind == "transient" else kind
    problem = Row("", silence(), kind, code).expect(provider, draw(vendor))
    assert problem.retries == (1 if kind == "transient" else None)
    assert not words or problem.message == words


def test_words_beside_a_picture_are_no_refusal(vendor: Vendor) -> None:
    vendor.says = Says([{"text": "I cannot create images of him, so here is a kite."}, picture()])
    assert isinstance(provider.submit(draw(vendor)), Completed)


def test_a_picture_that_cannot_be_read(vendor: Vendor) -> None:
    vendor.says = Says([{"inlineData": {"mimeType": "image/png", "data": "?"}}])
    Row("", silence(), "unknown_outcome").expect(provider, draw(vendor))


def test_large_pictures(vendor: Vendor) -> None:
    vendor.says = Says([picture(bytes(13_000_000))])
    answer = provider.submit(draw(vendor))
    assert isinstance(answer, Completed)
    assert [len(output.data or b"") for output in answer.outputs] == [13_000_000]


def test_one_picture_at_a_time(vendor: Vendor) -> None:
    Row("", silence(), "bad_input").expect(provider, draw(vendor, "gemini-x-image", input={"n": 2}))
    assert vendor.count() == 0


def test_a_compatible_server(compatible: Compatible) -> None:
    call = make_call(
        provider,
        "gemini-2.5-flash",
        {"prompt": "a kite", "n": 2},
        base_url=compatible.base,
        task_type="text-to-image",
    )
    answer = provider.submit(call)
    assert isinstance(answer, Completed)
    assert answer.outputs == [Output("image", data=PNG, content_type="image/png")] * 2


# Imagen


def test_imagen(vendor: Vendor) -> None:
    answer = provider.submit(draw(vendor, "imagen-4", input={"n": 2, "size": "1280x720"}))
    assert vendor.calls()[0].json == {
        "instances": [{"prompt": "a kite"}],
        "parameters": {"sampleCount": 2, "aspectRatio": "16:9", "includeRaiReason": True},
    }
    picture = Output("image", data=PNG, content_type="image/png")
    assert answer == Completed([picture, picture], {"images": 2})


def test_imagen_filters(vendor: Vendor) -> None:
    vendor.predictions = [{"raiFilteredReason": "No people."}, *vendor.predictions]
    answer = provider.submit(draw(vendor, "imagen-4"))
    assert isinstance(answer, Completed)
    assert len(answer.outputs) == 1
    vendor.predictions = vendor.predictions[:1]
    problem = Row("", silence(), "content_refused").expect(provider, draw(vendor, "imagen-4"))
    assert problem.refusal == "No people."
    vendor.predictions = []
    row = Row("", silence(), "transient", "no_output", retries=1)
    row.expect(provider, draw(vendor, "imagen-4"))


# Veo


def started(vendor: Vendor, model: str = "veo-3.1-generate-001", **more: Any) -> Call:
    call = film(vendor, model, **more)
    accepted = provider.submit(call)
    assert isinstance(accepted, Accepted)
    return accepted_call(call, accepted)


def ended(vendor: Vendor, call: Call) -> Completed | ProviderError:
    vendor.polls_until_done = 1
    (update,) = provider.poll([call])
    assert not isinstance(update.state, str)
    return update.state


def test_veo(vendor: Vendor) -> None:
    given = {
        "images": ["asset:1"],
        "duration": 8,
        "size": "1920x1080",
        "negative_prompt": "rain",
        "seed": -1,
    }
    call = started(vendor, input=given, inputs={"images.0": FakeInput(b"png")})
    encoded = base64.b64encode(b"png").decode()
    instance = {
        "prompt": "a kite",
        "image": {"bytesBase64Encoded": encoded, "mimeType": "image/png"},
    }
    assert vendor.calls()[0].json == {
        "instances": [instance],
        "parameters": {
            "durationSeconds": 8,
            "negativePrompt": "rain",
            "aspectRatio": "16:9",
            "resolution": "1080p",
        },
    }
    assert [update.state for update in provider.poll([call])] == ["working"]
    url = f"{vendor.base}/files/x:download?alt=media"
    output = Output("video", url=url, content_type="video/mp4")
    assert ended(vendor, call) == Completed([output], {"seconds": 8.0})
    assert provider.cancel(call) == "unsupported"


OPERATIONS: list[tuple[dict[str, Any], ErrorKind, str]] = [
    ({"error": {"code": 3, "message": "Bad."}}, "bad_input", "bad_input"),
    (
        {"response": {"generateVideoResponse": {"raiMediaFilteredCount": 1}}},
        "content_refused",
        "content_refused",
    ),
    ({"response": {"raiMediaFilteredReasons": ["No."]}}, "content_refused", "content_refused"),
    ({"response": {}}, "lost", "no_output"),
]


@pytest.mark.parametrize(("operation", "kind", "code"), OPERATIONS)
def test_operations_that_fail(
    vendor: Vendor, operation: dict[str, Any], kind: ErrorKind, code: str
) -> None:
    vendor.operation = operation
    problem = ended(vendor, started(vendor))
    assert isinstance(problem, ProviderError)
    assert (problem.kind, problem.code) == (kind, code)


def test_an_operation_with_bytes(vendor: Vendor) -> None:
    vendor.operation = {"response": {"videos": [{"bytesBase64Encoded": "aGk="}]}}
    output = Output("video", data=b"hi", content_type="video/mp4")
    assert ended(vendor, started(vendor)) == Completed([output])


# Interactions


def test_an_interaction(vendor: Vendor) -> None:
    given = {"images": ["asset:1"], "duration": 8, "aspect_ratio": "9:16", "quality": "720p"}
    call = started(vendor, OMNI, input=given, inputs={"images.0": FakeInput(b"png")})
    picture = {
        "type": "image",
        "mime_type": "image/png",
        "data": base64.b64encode(b"png").decode(),
    }
    assert vendor.calls()[0].json == {
        "model": OMNI,
        "input": [{"type": "text", "text": "a kite"}, picture],
        "background": True,
        "store": True,
        "response_format": {
            "type": "video",
            "delivery": "uri",
            "aspect_ratio": "9:16",
            "resolution": "720p",
            "duration": "8s",
        },
    }
    assert [update.state for update in provider.poll([call])] == ["working"]
    output = Output("video", url=f"{vendor.base}/files/y", content_type="video/mp4")
    assert ended(vendor, call) == Completed([output], {"seconds": 8.0})
    assert provider.cancel(call) == "too_late"


def test_the_long_form_of_an_interaction(vendor: Vendor) -> None:
    content = [{"type": "text"}, {"type": "video", "mime_type": "video/webm", "data": "aGk="}]
    steps = [{"type": "user_input"}, {"type": "model_output", "content": content}]
    vendor.interaction = {"status": "completed", "steps": steps}
    output = Output("video", data=b"hi", content_type="video/webm")
    assert ended(vendor, started(vendor, OMNI)) == Completed([output])


INTERACTIONS: list[tuple[dict[str, Any], ErrorKind, str, int | None]] = [
    ({"status": "completed", "steps": [{"type": "user_input"}]}, "lost", "no_output", 0),
    ({"status": "failed"}, "transient", "transient", 0),
    ({"status": "a_new_word"}, "transient", "transient", 0),
    (
        {"status": "failed", "errors": [{"code": "rate_limit_exceeded", "message": "x"}]},
        "rate_limited",
        "rate_limited",
        None,
    ),
    (
        {"status": "failed", "errors": [{"code": "x", "message": "Blocked by safety filters"}]},
        "content_refused",
        "content_refused",
        None,
    ),
    (
        {"status": "failed", "steps": [{"error": {"code": "server_error", "message": "x"}}]},
        "transient",
        "transient",
        None,
    ),
]


@pytest.mark.parametrize(("interaction", "kind", "code", "retries"), INTERACTIONS)
def test_interactions_that_fail(
    vendor: Vendor, interaction: dict[str, Any], kind: ErrorKind, code: str, retries: int | None
) -> None:
    vendor.interaction = interaction
    problem = ended(vendor, started(vendor, OMNI))
    assert isinstance(problem, ProviderError)
    assert (problem.kind, problem.code, problem.retries) == (kind, code, retries)


def test_cancel_an_interaction(vendor: Vendor) -> None:
    assert provider.cancel(started(vendor, OMNI)) == "canceled"
    call = started(vendor, OMNI)
    vendor.next("POST", f"/v1beta/interactions/{call.external_id}/cancel", answered(503))
    with pytest.raises(ProviderError):
        provider.cancel(call)


# Both


@pytest.mark.parametrize("model", ["veo-3.1-generate-001", OMNI])
@pytest.mark.parametrize("fault", [answered(500), drop_answer(), answered(200, "{")])
def test_a_poll_that_fails_delays_its_own_job(vendor: Vendor, model: str, fault: Fault) -> None:
    broken, fine = started(vendor, model), started(vendor, model)
    operations = f"/v1beta/{broken.external_id}"
    path = (
        operations
        if "/" in str(broken.external_id)
        else f"/v1beta/interactions/{broken.external_id}"
    )
    vendor.next("GET", path, fault)
    assert [update.call for update in provider.poll([broken, fine])] == [fine]


@pytest.mark.parametrize("model", ["veo-3.1-generate-001", OMNI])
def test_a_job_that_vanished(vendor: Vendor, model: str) -> None:
    call = started(vendor, model)
    path = (
        f"/v1beta/{call.external_id}"
        if "veo" in model
        else f"/v1beta/interactions/{call.external_id}"
    )
    vendor.next("GET", path, answered(404))
    (update,) = provider.poll([call])
    assert isinstance(update.state, ProviderError)
    assert (update.state.kind, update.state.code) == ("lost", "result_lost")


@pytest.mark.parametrize("model", ["veo-3.1-generate-001", OMNI])
def test_a_create_without_an_id(vendor: Vendor, model: str) -> None:
    path = (
        f"/v1beta/models/{model}:predictLongRunning" if "veo" in model else "/v1beta/interactions"
    )
    vendor.next("POST", path, answered(200, {"status": "queued"}))
    Row("", silence(), "unknown_outcome").expect(provider, film(vendor, model))
