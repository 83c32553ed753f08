"""The values that pass between engine and adapter."""

import copy
import json
import pickle

import pytest
from pydantic import ValidationError

from providers.base import (
    ERROR_KINDS,
    Call,
    Completed,
    Family,
    Input,
    Model,
    Output,
    Params,
    Provider,
    ProviderError,
    Secret,
)
from providers.params import OpenParams
from providers.testing import FakeInput, make_call


class Kite(Params):
    prompt: str
    seed: int | None = None


class Acme(Provider):
    name = "acme"
    families = (Family("acme", ("acme-*",)),)
    models = (
        Model("acme-kite-1", ("text-to-image",), Kite, aliases=("acme-kite",)),
        Model("acme-*", ("chat",)),
        Model("acme-video-*", ("text-to-video",)),
    )

    def submit(self, call: Call) -> Completed:
        return Completed(text=call.model)


def test_a_bare_provider_only_submits():
    assert Acme().capabilities == ()
    assert Acme().submit(make_call(Acme(), "acme-1")).text == "acme-1"


def test_capabilities_are_the_methods_an_adapter_has():
    class Full(Acme):
        streams = True

        def poll(self, calls):
            return ()

        def probe(self, executor):
            raise ProviderError("transient", "down")

    assert Full().capabilities == ("poll", "probe", "stream")


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("acme-kite-1", "acme-kite-1"),
        ("ACME-Kite", "acme-kite-1"),
        ("acme-kite-2", "acme-*"),
        ("acme-video-9", "acme-video-*"),
        ("other", None),
    ],
)
def test_the_closest_declaration_counts(name, declared):
    found = Acme().declared(name)

    assert (found.name if found else None) == declared


def test_parameters_are_closed_strict_and_frozen():
    params = Kite(prompt="a kite")

    with pytest.raises(ValidationError, match="extra_forbidden"):
        Kite.model_validate({"prompt": "a kite", "color": "red"})
    with pytest.raises(ValidationError, match="int_type"):
        Kite.model_validate({"prompt": "a kite", "seed": "7"})
    with pytest.raises(ValidationError, match="frozen"):
        params.prompt = "another"  # type: ignore[misc]


def test_given_is_what_the_caller_sent():
    params = OpenParams.model_validate({"prompt": "a kite", "seed": None, "style": {"mood": None}})

    assert params.given() == {"prompt": "a kite", "style": {"mood": None}}


def test_media_keep_the_callers_order():
    files = {f"images.{n}": FakeInput(address=f"https://x/{n}") for n in (10, 2, 0)}
    call = make_call(inputs={**files, "mask": FakeInput(address="https://x/mask")})

    assert [file.url() for file in call.media("images")] == [
        "https://x/0",
        "https://x/2",
        "https://x/10",
    ]
    assert [file.url() for file in call.media("mask")] == ["https://x/mask"]
    assert call.media("video") == []


def test_filled_puts_files_where_their_names_were():
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "asset:1"}},
        {"type": "image_url", "image_url": "asset:2"},
    ]
    given = {"messages": [{"role": "user", "content": content}], "images": ["asset:3"]}
    call = make_call(
        input=given,
        inputs={
            "messages.0.content.1.image_url": FakeInput(b"one"),
            "messages.0.content.2.image_url": FakeInput(b"two"),
            "images.0": FakeInput(b"three", "image/webp"),
        },
    )

    filled = call.filled(Input.data_uri)

    parts = filled["messages"][0]["content"]
    assert parts[1]["image_url"] == {"url": "data:image/png;base64,b25l"}
    assert parts[2]["image_url"] == "data:image/png;base64,dHdv"
    assert filled["images"] == ["data:image/webp;base64,dGhyZWU="]
    assert call.given()["images"] == ["asset:3"], "the call itself is untouched"


def test_an_output_is_an_address_or_bytes():
    assert Output("image", url="https://x/1.png").data is None
    for wrong in ({}, {"url": "https://x", "data": b"x"}):
        with pytest.raises(ValueError, match="either"):
            Output("image", **wrong)  # type: ignore[arg-type]


def test_a_secret_is_shown_nowhere():
    secret = Secret("hunter2-hunter2")

    assert secret.reveal() == "hunter2-hunter2"
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}"):
        assert "hunter2" not in shown
    for write in (pickle.dumps, copy.copy, json.dumps):
        with pytest.raises(TypeError):
            write(secret)
    assert secret == Secret("hunter2-hunter2") != Secret("other")
    assert len({secret, Secret("hunter2-hunter2")}) == 1


def test_a_call_shows_no_credential():
    assert "test-credential" not in repr(make_call(Acme(), "acme-1"))


def test_the_code_of_an_error_is_its_kind_unless_said():
    assert {ProviderError(kind, "x").code for kind in ERROR_KINDS} == set(ERROR_KINDS)
    assert ProviderError("transient", "x", "upstream_cut").code == "upstream_cut"
