"""DashScope: what goes out, and what is refused before."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from providers.adapters.dashscope import DashScope
from providers.base import (
    Accepted,
    Completed,
    Health,
    ProviderError,
)
from providers.testing import executor_at
from tests.emulators.dashscope import KEY, Bailian, dashscope
from tests.integration.providers.dashscope_calls import (
    DIALOGUE,
    DIALOGUE_PATH,
    DRAW,
    DRAW_PATH,
    EDIT_PATH,
    FILM,
    FILM_PATH,
    FRAMES_PATH,
    JOB_DIALOGUE_PATH,
    KITE,
    TTS,
    asked,
    look,
    schema,
    with_images,
)

__all__ = ["dashscope"]


class TestRequests:
    @pytest.mark.parametrize(
        ("model", "given", "path", "inputs", "parameters"),
        [
            (
                DRAW,
                {"negative_prompt": "rain", "size": "1024x768", "n": 2, "seed": 7},
                DRAW_PATH,
                {"prompt": "a red kite", "negative_prompt": "rain"},
                {"size": "1024*768", "n": 2, "seed": 7},
            ),
            (
                DRAW,
                {"width": 800, "height": 600, "seed": -1, "prompt_extend": False},
                DRAW_PATH,
                {"prompt": "a red kite"},
                {"size": "800*600", "n": 1, "prompt_extend": False},
            ),
            (
                "qwen-image-plus",
                {"aspect_ratio": "16:9"},
                DRAW_PATH,
                {"prompt": "a red kite"},
                {"size": "1664*928", "n": 1},
            ),
            (
                "wan2.6-t2i",
                {"aspect_ratio": "1:1", "negative_prompt": "rain"},
                JOB_DIALOGUE_PATH,
                {"messages": [{"role": "user", "content": [{"text": "a red kite"}]}]},
                {"size": "1280*1280", "n": 1, "negative_prompt": "rain"},
            ),
            (
                DIALOGUE,
                {"size": "1328x1328", "watermark": True},
                DIALOGUE_PATH,
                {"messages": [{"role": "user", "content": [{"text": "a red kite"}]}]},
                {"size": "1328*1328", "n": 1, "watermark": True},
            ),
            (
                FILM,
                {"duration": 10, "aspect_ratio": "9:16", "shot_type": "multi"},
                FILM_PATH,
                {"prompt": "a red kite"},
                {"size": "720*1280", "duration": 10, "shot_type": "multi"},
            ),
            (FILM, {}, FILM_PATH, {"prompt": "a red kite"}, {"size": "1280*720", "duration": 5}),
        ],
    )
    def test_from_words(
        self,
        dashscope: Bailian,
        model: str,
        given: dict[str, Any],
        path: str,
        inputs: dict[str, Any],
        parameters: dict[str, Any],
    ) -> None:
        DashScope().submit(asked(dashscope, model, KITE | given))
        [request] = dashscope.calls("POST")
        assert request.path == path
        assert request.json == {
            "model": model,
            "input": inputs,
            "parameters": {"watermark": False} | parameters,
        }

    @pytest.mark.parametrize(
        ("model", "given", "path", "inputs"),
        [
            (
                "wan2.5-i2i-preview",
                {"images": ["a", "b"]},
                EDIT_PATH,
                {"prompt": "a red kite", "images": ["ONE", "ONE"]},
            ),
            (
                "wanx2.1-imageedit",
                {"images": ["a"]},
                EDIT_PATH,
                {"prompt": "a red kite", "function": "description_edit", "base_image_url": "ONE"},
            ),
            (
                "wanx2.1-imageedit",
                {"images": ["a"], "mask": "m"},
                EDIT_PATH,
                {
                    "prompt": "a red kite",
                    "function": "description_edit_with_mask",
                    "base_image_url": "ONE",
                    "mask_image_url": "TWO",
                },
            ),
            (
                "qwen-image-edit-plus",
                {"images": ["a"]},
                DIALOGUE_PATH,
                {
                    "messages": [
                        {"role": "user", "content": [{"image": "ONE"}, {"text": "a red kite"}]}
                    ]
                },
            ),
            (
                "wan2.6-i2v",
                {"images": ["a"], "audio": "s"},
                FILM_PATH,
                {
                    "prompt": "a red kite",
                    "img_url": "ONE",
                    "audio_url": "https://media.example/file.png",
                },
            ),
            (
                "wan2.7-i2v",
                {"images": ["a"]},
                FILM_PATH,
                {"prompt": "a red kite", "media": [{"type": "first_frame", "url": "ONE"}]},
            ),
            (
                "wan2.2-kf2v-flash",
                {"images": ["a", "b"]},
                FRAMES_PATH,
                {"prompt": "a red kite", "first_frame_url": "ONE", "last_frame_url": "ONE"},
            ),
        ],
    )
    def test_from_pictures(
        self,
        dashscope: Bailian,
        model: str,
        given: dict[str, Any],
        path: str,
        inputs: dict[str, Any],
    ) -> None:
        call = with_images(dashscope, model, KITE | given)
        answer = DashScope().submit(call)
        if isinstance(answer, Accepted):
            waiting = replace(call, external_id=answer.external_id)
            states = [look(waiting)[0].state for _ in range(3)]
            assert isinstance(states[2], Completed), "a wrong field fails late, not at once"
        [request] = dashscope.calls("POST")
        uris = {"ONE": "data:image/png;base64,b25l", "TWO": "data:image/png;base64,dHdv"}
        text = request.body.decode()
        for name, uri in uris.items():
            text = text.replace(uri, name)
        assert request.path == path
        assert replace(request, body=text.encode()).json["input"] == inputs

    def test_the_workspace_of_the_operator(self, dashscope: Bailian) -> None:
        DashScope().submit(asked(dashscope, DRAW, config={"workspace": "ws-7"}))
        headers = dashscope.calls("POST")[0].headers
        assert headers["X-DashScope-WorkSpace"] == "ws-7"
        assert headers["X-DashScope-Async"] == "enable"


class TestProbing:
    def test_a_good_key(self, dashscope: Bailian) -> None:
        executor = executor_at(DashScope(), dashscope.base_url, credential=KEY)
        assert DashScope().probe(executor) == Health("healthy", "ok")

    def test_a_wrong_key(self, dashscope: Bailian) -> None:
        executor = executor_at(DashScope(), dashscope.base_url, credential="sk-wrong-0123456789")
        with pytest.raises(ProviderError) as caught:
            DashScope().probe(executor)
        assert caught.value.kind == "bad_credentials"


class TestCatalogue:
    @pytest.mark.parametrize(
        ("asked_for", "declared_as", "task_type"),
        [
            ("wan2.6-t2v", "wan2.6-t2v", "text-to-video"),
            ("wan2.6-t2v-plus", "wan2.6-t2v*", "text-to-video"),
            ("wanx2.1-t2i-turbo", "wanx2.1-t2i*", "text-to-image"),
            ("wan9-all", "wan*", "text-to-image"),
            ("qwen-image-edit-max", "qwen-image-edit*", "image-to-image"),
            ("qwen3-tts-flash", "qwen3-tts*", "text-to-audio"),
            ("qwen-plus", "qwen*", "chat"),
        ],
    )
    def test_names(self, asked_for: str, declared_as: str, task_type: str) -> None:
        declared = DashScope().declared(asked_for)
        assert declared is not None
        assert (declared.name, declared.task_types[0]) == (declared_as, task_type)

    @pytest.mark.parametrize(
        ("model", "given"),
        [
            (DRAW, {**KITE, "size": "1024*1024"}),
            (DRAW, {**KITE, "n": 5}),
            (DRAW, {**KITE, "seed": 2**31}),
            (DRAW, {**KITE, "images": ["asset:1"]}),
            ("qwen-image-plus", {**KITE, "n": 2}),
            ("wan2.5-i2i-preview", KITE),
            ("wan2.6-i2v", KITE),
            ("wan2.6-i2v", {"images": ["a", "b"]}),
            (FILM, {**KITE, "duration": 99}),
            ("wan9-all", {"n": 1}),
            ("cosyvoice-v3-flash", KITE),
            (TTS, {**KITE, "stepps": 1}),
        ],
    )
    def test_what_the_vendor_would_refuse_is_refused_at_submit(
        self, model: str, given: dict[str, Any]
    ) -> None:
        with pytest.raises(ValidationError):
            schema(model).model_validate(given)

    def test_the_defaults_of_the_ai_service_are_taken(self) -> None:
        schema(DRAW).model_validate({**KITE, "size": "1024x1024", "seed": -1, "n": 1})
        schema(FILM).model_validate({**KITE, "duration": 5, "seed": -1, "aspect_ratio": "16:9"})
