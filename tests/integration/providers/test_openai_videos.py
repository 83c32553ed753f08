"""Videos of the OpenAI adapter: polled, found again, never guessed."""

from typing import Any

import pytest

from providers.base import (
    Accepted,
    Call,
    Completed,
    ErrorKind,
    Output,
    ProviderError,
)
from providers.contract import accepted_call
from providers.testing import FakeInput, make_call
from tests.emulators.base import (
    Fault,
    answered,
    as_fixture,
    cut_answer,
    drop_answer,
    garbage,
    silence,
)
from tests.emulators.forms import form_of
from tests.emulators.openai import PNG
from tests.emulators.openai import OpenAI as Vendor
from tests.integration.providers.openai_calls import draw, film, provider, refused
from tests.integration.providers.rows import Row, table

vendor = as_fixture(Vendor)


def started(vendor: Vendor, **more: Any) -> Call:
    call = film(vendor, **more)
    accepted = provider.submit(call)
    assert isinstance(accepted, Accepted)
    assert accepted.poll_after == 0.05
    return accepted_call(call, accepted)


def test_a_video_is_polled_to_its_end(vendor: Vendor) -> None:
    call = started(vendor)
    (first,) = provider.poll([call])
    assert (first.state, first.progress, first.poll_after) == ("working", 0.5, 0.05)
    (second,) = provider.poll([call])
    url = f"{vendor.base}/videos/{call.external_id}/content"
    output = Output("video", url=url, content_type="video/mp4")
    assert second.state == Completed([output], {"seconds": 4.0})


def test_a_video_from_a_picture(vendor: Vendor) -> None:
    given = {"prompt": "a kite", "images": ["asset:1"], "duration": 8, "size": "1280x720"}
    inputs = {"images.0": FakeInput(PNG)}
    call = make_call(provider, "sora-2", given, inputs=inputs, base_url=vendor.base)
    assert isinstance(provider.submit(call), Accepted)
    form = form_of(vendor.calls()[0])
    assert (form["seconds"][0].text, form["input_reference"][0].content) == ("8", PNG)


FAILED = [
    ({"code": "image_content_policy_violation", "message": "No"}, "content_refused", None),
    ({"code": "invalid_prompt", "message": "No"}, "bad_input", None),
    ({"code": "rate_limit_exceeded", "message": "No"}, "rate_limited", None),
    ({"code": "server_error", "message": "No"}, "transient", None),
    ({"code": "cosmic_rays", "message": "No"}, "transient", 0),
]


@pytest.mark.parametrize(
    ("error", "kind", "retries"), FAILED, ids=[row[0]["code"] for row in FAILED]
)
def test_a_video_that_fails(
    vendor: Vendor, error: dict[str, str], kind: ErrorKind, retries: int | None
) -> None:
    vendor.polls_until_done, vendor.video_error = 1, error
    (update,) = provider.poll([started(vendor)])
    assert isinstance(update.state, ProviderError)
    assert (update.state.kind, update.state.retries) == (kind, retries)


@pytest.mark.parametrize("fault", [answered(500), drop_answer(), garbage(), answered(200, "{")])
def test_a_poll_that_fails_delays_its_own_video(vendor: Vendor, fault: Fault) -> None:
    call = started(vendor)
    vendor.next("GET", f"/v1/videos/{call.external_id}", fault)
    other = started(vendor)
    assert [update.call for update in provider.poll([call, other])] == [other]
    vendor.next("GET", f"/v1/videos/{call.external_id}", fault)
    with pytest.raises(ProviderError):
        provider.poll([call])


def test_a_video_that_vanished(vendor: Vendor) -> None:
    call = started(vendor)
    vendor.videos.clear()
    (update,) = provider.poll([call])
    assert isinstance(update.state, ProviderError)
    assert (update.state.kind, update.state.code) == ("lost", "result_lost")


@pytest.mark.parametrize("fault", [drop_answer(), cut_answer(5), garbage()])
def test_a_lost_create_is_found(vendor: Vendor, fault: Fault) -> None:
    vendor.next("POST", "/v1/videos", fault)
    call = film(vendor)
    Row("", silence(), "unknown_outcome").expect(provider, call)
    assert provider.find(call) == Accepted("video_1")


def test_a_lost_create_is_not_guessed(vendor: Vendor) -> None:
    call = film(vendor)
    assert provider.find(call) is None
    vendor.add_video("another kite")
    assert provider.find(call) is None
    old = vendor.add_video("a kite")
    vendor.videos[old["id"]]["created_at"] = 1_600_000_000
    assert provider.find(call) is None
    vendor.add_video("a kite")
    vendor.add_video("a kite")
    assert provider.find(call) is None
    assert provider.find(draw(vendor)) is None


@table(
    [
        Row("500", refused(500, "Oops", "server_error"), "unknown_outcome"),
        Row("502", answered(502), "unknown_outcome"),
        Row("no id", answered(200, {"status": "queued"}), "unknown_outcome"),
        Row("refused", refused(400, "No", "x", "moderation_blocked"), "content_refused"),
    ]
)
def test_failures_of_video_creates(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", "/v1/videos", row.fault)
    row.expect(provider, film(vendor))


def test_cancel(vendor: Vendor) -> None:
    call = started(vendor)
    assert provider.cancel(call) == "canceled"
    assert vendor.videos == {}
    assert provider.cancel(call) == "unsupported"
    vendor.polls_until_done = 1
    done = started(vendor)
    assert provider.cancel(done) == "too_late"
    assert vendor.count("DELETE") == 1


@pytest.mark.parametrize(("status", "outcome"), [(409, "too_late"), (405, "unsupported")])
def test_a_cancel_that_is_refused(vendor: Vendor, status: int, outcome: str) -> None:
    call = started(vendor)
    vendor.next("DELETE", f"/v1/videos/{call.external_id}", answered(status))
    assert provider.cancel(call) == outcome


def test_a_cancel_that_fails(vendor: Vendor) -> None:
    call = started(vendor)
    vendor.next("DELETE", f"/v1/videos/{call.external_id}", answered(503))
    with pytest.raises(ProviderError):
        provider.cancel(call)


def test_a_size_in_two_numbers(vendor: Vendor) -> None:
    """A gateway with a model nobody declared takes what it is given."""
    given = {"prompt": "a kite", "width": 640, "height": 360}
    call = make_call(provider, "clip-1", given, base_url=vendor.base, task_type="text-to-video")
    provider.submit(call)
    assert vendor.calls()[0].json == {"model": "clip-1", "prompt": "a kite", "size": "640x360"}
