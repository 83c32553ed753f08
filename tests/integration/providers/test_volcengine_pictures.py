"""Volcengine: pictures."""

from typing import Any

import pytest

from providers.adapters.volcengine import Volcengine
from providers.base import (
    Completed,
    ProviderError,
)
from providers.testing import FakeInput, executor_at
from tests.emulators.volcengine import Ark, ark
from tests.integration.providers.volcengine_calls import IMAGE, KITE, asked, failure

__all__ = ["ark"]


class TestPictures:
    @pytest.mark.parametrize(
        ("model", "given", "sent"),
        [
            (IMAGE, {}, {"size": "1024x1024"}),
            (IMAGE, {"size": "864x1152", "seed": 7}, {"size": "864x1152", "seed": 7}),
            (IMAGE, {"width": 640, "height": 800, "seed": -1}, {"size": "640x800"}),
            (
                IMAGE,
                {"aspect_ratio": "21:9", "guidance": 4},
                {"size": "1512x648", "guidance_scale": 4},
            ),
            (
                IMAGE,
                {"negative_prompt": "rain"},
                {"prompt": "a red kite\nAvoid: rain", "size": "1024x1024"},
            ),
            ("doubao-seedream-4-0-250828", {"size": "4K", "n": 1}, {"size": "4K"}),
            ("doubao-seedream-4-0-250828", {}, {}),
            (
                "doubao-seedream-4-5-251128",
                {"n": 3, "aspect_ratio": "16:9", "watermark": True},
                {
                    "size": "2560x1440",
                    "watermark": True,
                    "sequential_image_generation": "auto",
                    "sequential_image_generation_options": {"max_images": 3},
                },
            ),
            ("doubao-seedream-5-0-260128", {"format": "png"}, {"output_format": "png"}),
        ],
    )
    def test_what_goes_out(
        self, ark: Ark, model: str, given: dict[str, Any], sent: dict[str, Any]
    ) -> None:
        answer = Volcengine().submit(asked(ark, model, KITE | given))
        assert isinstance(answer, Completed)
        assert len(answer.outputs) == given.get("n", 1)
        usual = {**KITE, "model": model, "response_format": "url", "watermark": False}
        assert ark.calls()[0].json == usual | sent

    def test_what_comes_back(self, ark: Ark) -> None:
        answer = Volcengine().submit(asked(ark, IMAGE, {**KITE, "size": "864x1152"}))
        assert isinstance(answer, Completed)
        assert answer.usage == {"images": 1, "total_tokens": 16384}
        [picture] = answer.outputs
        assert picture.kind == "image"
        assert str(picture.url).startswith(f"{ark.url}/files/")
        assert "X-Tos-Signature=" in str(picture.url), "the query is part of the link"
        assert picture.meta == {"width": 864, "height": 1152}

    def test_pictures_go_in_as_data(self, ark: Ark) -> None:
        one, two = FakeInput(b"one"), FakeInput(b"two", content_type="image/jpeg")
        for model, files in (
            ("doubao-seededit-3-0-i2i-250628", [one]),
            ("doubao-seedream-4-0-250828", [one, two]),
        ):
            given = {**KITE, "images": ["asset:1", "asset:2"][: len(files)]}
            inputs = {f"images.{index}": file for index, file in enumerate(files)}
            Volcengine().submit(asked(ark, model, given, inputs=inputs, task_type="image-to-image"))
        edit, mix = (request.json["image"] for request in ark.calls())
        assert edit == "data:image/png;base64,b25l"
        assert mix == ["data:image/png;base64,b25l", "data:image/jpeg;base64,dHdv"]

    def test_of_several_pictures_the_good_ones_count(self, ark: Ark) -> None:
        bad = {"error": {"code": "OutputImageSensitiveContentDetected", "message": "no"}}
        ark.items = [{"b64_json": "aGk="}, bad]
        answer = Volcengine().submit(asked(ark, IMAGE))
        assert isinstance(answer, Completed)
        assert [picture.data for picture in answer.outputs] == [b"hi"]
        assert answer.usage["images"] == 1

        ark.items = [bad, bad]
        assert failure(asked(ark, IMAGE)).refusal == "no"
        ark.items = [{"error": {"code": "Whatever"}}]
        unknown = failure(asked(ark, IMAGE))
        assert (unknown.kind, unknown.retries) == ("transient", 0)

    @pytest.mark.parametrize("garbled", [-1, "many", True, None, 10**30])
    def test_a_garbled_count_is_not_believed(self, ark: Ark, garbled: Any) -> None:
        ark.usage = {"generated_images": garbled, "total_tokens": "x"}
        answer = Volcengine().submit(asked(ark, IMAGE))
        assert isinstance(answer, Completed)
        assert answer.usage == {"images": 1}


def test_links_die_after_their_time(ark: Ark) -> None:
    answer = Volcengine().submit(asked(ark, IMAGE))
    assert isinstance(answer, Completed)
    executor = executor_at(Volcengine(), ark.url, credential=None)
    address = str(answer.outputs[0].url)
    assert executor.http.get(address).content.startswith(b"the file")
    ark.links_expired = True
    with pytest.raises(ProviderError):
        executor.http.get(address)
