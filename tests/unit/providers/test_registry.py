"""From the words of a request to provider, family, model, task type and input."""

import pytest

from genpulse.config import config
from genpulse.errors import UnknownModel, UnknownProvider, ValidationFailed
from providers import discovery, families, registry
from providers.adapters.sandbox import Sandbox
from providers.base import Family, Model, Params, Provider, ProviderError
from providers.params import OpenParams, Prompt

SAID = {"role": "user", "content": "hi"}
LONG = "x" * 100_001
PART, TOO_LONG = {"type": "text", "text": "hi"}, {"type": "text", "text": LONG}


class KlingParams(Params):
    prompt: Prompt
    images: list[str] | None = None


class Kling(Provider):
    """What somebody else's package brings."""

    name = "kling"
    families = (Family("kling", ("kling*", "gpt-kling*")),)
    models = (
        Model("kling-v2", ("text-to-video", "image-to-video"), KlingParams, aliases=("kling",)),
        Model("kling-edit-*", ("video-to-video", "text-to-video")),
        Model("kling-still", ("text-to-image",)),
    )


class Nameless(Provider):
    """A provider without patterns: asked for by name, or by its declared models."""

    name = "nameless"
    models = (Model("odd-one", ("embedding",)),)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    found = {provider.name: provider for provider in (Sandbox(), Kling(), Nameless())}
    monkeypatch.setattr(discovery, "_all", lambda: found)
    monkeypatch.setattr(config, "sandbox_enabled", True)
    monkeypatch.setattr(config, "default_family", "")


@pytest.mark.parametrize(
    ("model", "family", "provider"),
    [
        ("gemini-3.5-flash", "gemini", "gemini"),
        ("veo-3.1-fast", "gemini", "gemini"),
        ("qwen3:8b", "qwen", "qwen"),
        ("QWEN-Image-Plus", "dashscope", "dashscope"),
        ("qwen-tts-latest", "dashscope", "dashscope"),
        ("wan2.6-t2v", "dashscope", "dashscope"),
        ("llama3", "qwen", "qwen"),
        ("deepseek-v4-pro", "deepseek", "deepseek"),
        ("o3-mini", "openai", "openai"),
        ("gpt-image-2", "openai", "openai"),
        ("text-embedding-3-small", "openai", "openai"),
        ("doubao-seedream-3.0-t2i", "volcengine", "volcengine"),
        ("ep-20250101-abcde", "volcengine", "volcengine"),
        ("stable-diffusion-3", "sd", "comfyui"),
        ("flux-dev", "sd", "comfyui"),
        ("comfy-anything", "comfyui", "comfyui"),
        ("coze-bot", "coze", "coze"),
        ("sandbox-text", "sandbox", "sandbox"),
        ("kling-v9", "kling", "kling"),
        ("gpt-kling-9", "kling", "kling"),
    ],
)
def test_the_longest_prefix_names_the_family(model, family, provider):
    found = families.family_of(model)

    assert found is not None
    assert (found.name, found.provider) == (family, provider)


def test_no_prefix_no_family():
    assert families.family_of("mystery-1") is None
    assert families.family_of("") is None


def test_the_sandbox_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(config, "sandbox_enabled", False)

    assert "sandbox" not in {family.name for family in registry.families()}
    assert registry.find_model("sandbox-text") is None
    with pytest.raises(UnknownModel):
        registry.resolve("sandbox-text")
    with pytest.raises(UnknownProvider):
        registry.get("sandbox")


def test_two_providers_of_one_name_are_refused(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(
        discovery, "_installed", lambda: iter([type("X", (Kling,), {"name": "sandbox"})])
    )
    discovery._all.cache_clear()

    with pytest.raises(RuntimeError, match="two providers are called 'sandbox'"):
        discovery._all()
    discovery._all.cache_clear()


def test_an_unknown_provider_is_told_the_known_ones():
    with pytest.raises(UnknownProvider) as caught:
        registry.get("klang")

    assert {"kling", "sandbox"} <= set(caught.value.extra["known"])
    assert caught.value.errors[0].field == "provider"


def test_an_unknown_model_is_told_the_families():
    with pytest.raises(UnknownModel) as caught:
        registry.resolve("mystery-1")

    assert {"kling", "nameless", "gemini", "sd"} <= set(caught.value.extra["known"])
    assert (caught.value.errors[0].field, caught.value.errors[0].code) == ("model", "unknown_model")


@pytest.mark.parametrize(
    ("name", "declared"),
    [("Kling-V2", "kling-v2"), ("kling", "kling-v2"), ("kling-edit-3", "kling-edit-*")],
)
def test_models_are_found_by_name_alias_and_prefix(name, declared):
    found = registry.find_model(name)

    assert found is not None
    assert (found[0].name, found[1].name) == ("kling", declared)


def test_a_model_nobody_declares():
    assert registry.find_model("kling-v9") is None


def test_an_alias_is_shown_and_the_vendors_id_goes_out():
    target = registry.resolve("kling")

    assert (target.model, target.vendor_model) == ("kling", "kling-v2")
    assert registry.resolve("kling-edit-3").vendor_model == "kling-edit-3"
    assert registry.resolve("gpt-5").vendor_model == "gpt-5"


class TestOrderOfChoice:
    def test_an_explicit_provider_comes_first(self):
        target = registry.resolve("gpt-5", provider="kling", task_type="chat", bound="sd")

        assert (target.provider, target.family, target.bound) == ("kling", "kling", False)

    def test_of_a_providers_families_the_matching_one(self):
        discovery._all()["comfyui"] = type("Comfy", (Provider,), {"name": "comfyui"})()

        assert registry.resolve("flux-dev", provider="comfyui").family == "sd"
        assert registry.resolve("my-graph", provider="comfyui").family == "comfyui"

    def test_a_binding_beats_the_pattern(self):
        target = registry.resolve("gpt-5", bound="sd", task_type="image")

        assert (target.provider, target.family, target.bound) == ("comfyui", "sd", True)

    def test_a_pattern_beats_an_inventory(self):
        assert registry.resolve("gpt-oss", listed="kling").family == "openai"

    def test_an_inventory_beats_the_default(self, monkeypatch):
        monkeypatch.setattr(config, "default_family", "qwen")

        assert registry.resolve("mystery-1", listed="kling").family == "kling"

    def test_a_declared_model_needs_no_pattern(self):
        target = registry.resolve("odd-one")

        assert (target.provider, target.family, target.task_type) == (
            "nameless",
            "nameless",
            "embedding",
        )

    def test_the_default_family_takes_the_rest(self, monkeypatch):
        monkeypatch.setattr(config, "default_family", "qwen")

        assert registry.resolve("mystery-1").family == "qwen"


class TestTaskTypes:
    @pytest.mark.parametrize(
        ("word", "task_type"),
        [
            ("text", "chat"),
            ("image", "text-to-image"),
            ("video", "text-to-video"),
            ("audio", "text-to-audio"),
            ("speech", "text-to-audio"),
            ("transcription", "audio-to-text"),
            ("embeddings", "embedding"),
            ("comfyui", "comfy-workflow"),
            ("coze", "coze-workflow"),
            ("video-to-video", "video-to-video"),
        ],
    )
    def test_words(self, word, task_type):
        assert registry.task_type_of(word) == task_type

    def test_unknown_words(self):
        with pytest.raises(ValidationFailed) as caught:
            registry.task_type_of("poem")

        assert (caught.value.errors[0].field, caught.value.errors[0].code) == (
            "task_type",
            "choice",
        )

    @pytest.mark.parametrize(
        ("model", "given", "task_type"),
        [
            ("kling-v2", {"prompt": "x"}, "text-to-video"),
            ("kling-v2", {"prompt": "x", "images": ["asset:1"]}, "image-to-video"),
            ("kling-v2", {"prompt": "x", "images": []}, "text-to-video"),
            ("kling-v2", {"prompt": "x", "video": "asset:1"}, "text-to-video"),
            ("kling-still", {"prompt": "x", "images": ["asset:1"]}, "text-to-image"),
            ("kling-edit-1", {"prompt": "x", "video": "asset:1"}, "video-to-video"),
            ("sandbox-image", {"prompt": "x", "images": ["asset:1"]}, "image-to-image"),
            ("sandbox-video", {"video": "asset:1", "images": ["asset:2"]}, "video-to-video"),
            ("sandbox-text", {"prompt": "x", "images": ["asset:1"]}, "chat"),
            ("stable-diffusion-3", {"prompt": "x"}, "text-to-image"),
            ("flux-dev", {"prompt": "x", "images": ["asset:1"]}, "image-to-image"),
            ("comfy-x", {}, "comfy-workflow"),
            ("kling-v9", {"prompt": "x"}, "chat"),
        ],
    )
    def test_inferred_from_model_and_input(self, model, given, task_type):
        assert registry.resolve(model, input=given).task_type == task_type

    def test_a_word_of_the_caller_wins(self):
        target = registry.resolve("kling-v2", task_type="video", input={"images": ["asset:1"]})

        assert target.task_type == "text-to-video"

    def test_a_model_refuses_what_it_is_not_for(self):
        with pytest.raises(ValidationFailed, match="kling-v2 takes text-to-video, image-to-video"):
            registry.resolve("kling-v2", task_type="chat")


class TestDefaults:
    def test_the_first_model_of_a_provider_that_fits(self):
        assert registry.resolve(provider="kling", task_type="image").model == "kling-still"
        assert registry.resolve(provider="sandbox", task_type="speech").model == "sandbox-audio"

    def test_a_workflow_needs_no_model(self):
        discovery._all()["comfyui"] = type("Comfy", (Provider,), {"name": "comfyui"})()

        target = registry.resolve(provider="comfyui", task_type="comfyui")

        assert (target.model, target.family, target.vendor_model) == (None, "comfyui", "")

    @pytest.mark.parametrize(
        ("words", "field"),
        [
            ({}, "model"),
            ({"task_type": "chat"}, "model"),
            ({"provider": "kling"}, "task_type"),
            ({"provider": "kling", "task_type": "embedding"}, "model"),
        ],
    )
    def test_too_few_words(self, words, field):
        with pytest.raises(ValidationFailed) as caught:
            registry.resolve(**words)

        assert (caught.value.errors[0].field, caught.value.errors[0].code) == (field, "required")


def refused(model, given, **words):
    with pytest.raises(ValidationFailed) as caught:
        registry.validate_input(registry.resolve(model, input=given, **words), given)
    return {(error.field, error.code) for error in caught.value.errors}


class TestInput:
    def test_what_was_sent_is_what_is_kept(self):
        given = {"prompt": "a kite", "seed": 7, "n": None, "size": "512x512", "duration": 5}
        target = registry.resolve("sandbox-video", input=given)

        kept = registry.validate_input(target, given)

        assert kept == {"prompt": "a kite", "seed": 7, "size": "512x512", "duration": 5}
        assert isinstance(kept["duration"], int), "no number changes its form"

    def test_a_closed_schema_names_the_field(self):
        given = {"prompt": "", "images": "asset:1", "color": "red"}

        assert refused("kling-v2", given, task_type="video") == {
            ("input.prompt", "empty"),
            ("input.images", "type"),
            ("input.color", "unknown"),
        }

    def test_an_open_model_checks_the_shared_names_only(self):
        target = registry.resolve("kling-v9")
        given = {"prompt": "hi", "verbosity": {"level": 3}, "temperature": 1, "n": 10}

        assert registry.validate_input(target, given) == given

    @pytest.mark.parametrize(
        ("given", "field", "code"),
        [
            ({"prompt": "x" * 100_001}, "input.prompt", "too_long"),
            ({"prompt": 7}, "input.prompt", "type"),
            ({"n": 0}, "input.n", "too_small"),
            ({"n": 11}, "input.n", "too_large"),
            ({"n": "3"}, "input.n", "type"),
            ({"n": True}, "input.n", "type"),
            ({"seed": -2}, "input.seed", "too_small"),
            ({"size": "512"}, "input.size", "format"),
            ({"size": "0x512"}, "input.size", "format"),
            ({"aspect_ratio": "16/9"}, "input.aspect_ratio", "format"),
            ({"images": []}, "input.images", "empty"),
            ({"images": ["ok", ""]}, "input.images.1", "empty"),
            ({"texts": ["x"] * 257}, "input.texts", "too_long"),
            ({"messages": []}, "input.messages", "empty"),
            ({"messages": [{"content": "x"}]}, "input.messages.0", "choice"),
            ({"messages": [{"role": "robot"}]}, "input.messages.0", "choice"),
            ({"messages": [SAID, {**SAID, "content": LONG}]}, "input.messages.1", "too_long"),
            ({"messages": [{**SAID, "content": [PART, TOO_LONG]}]}, "input.messages.0", "too_long"),
            ({"top_p": 1.5}, "input.top_p", "too_large"),
            ({"temperature": float("nan")}, "input.temperature", "format"),
            ({"workflow": []}, "input.workflow", "type"),
        ],
    )
    def test_shared_names_have_limits(self, given, field, code):
        assert refused("kling-v9", given) == {(field, code)}

    @pytest.mark.parametrize(
        ("model", "task_type", "field"),
        [
            ("sandbox-image", "image-to-image", "input.images"),
            ("sandbox-video", "image-to-video", "input.images"),
            ("sandbox-video", "video-to-video", "input.video"),
            ("kling-v9", "audio-to-text", "input.audio"),
        ],
    )
    def test_a_task_type_needs_its_medium(self, model, task_type, field):
        assert refused(model, {"prompt": "x"}, task_type=task_type) == {(field, "required")}

    def test_a_bound_workflow_has_its_own_inputs(self):
        target = registry.resolve("sd-turbo", task_type="image-to-image", bound="sd")

        assert registry.validate_input(target, {"portrait": "asset:1"}) == {"portrait": "asset:1"}


class TestStoredTasks:
    def test_parameters_for_a_call(self):
        model, params = registry.params_for("kling", "kling", {"prompt": "x"})

        assert (model, params) == ("kling-v2", KlingParams(prompt="x"))

    def test_an_open_model(self):
        model, params = registry.params_for("kling", "kling-v9", {"prompt": "x", "mood": 1})

        assert model == "kling-v9"
        assert isinstance(params, OpenParams)
        assert params.given() == {"prompt": "x", "mood": 1}

    def test_an_input_that_a_newer_schema_refuses(self):
        with pytest.raises(ProviderError) as caught:
            registry.params_for("kling", "kling-v2", {"style": "old"})

        assert caught.value.kind == "bad_input"

    def test_a_job_the_vendor_has_is_polled_whatever_became_of_its_input(self):
        model, params = registry.params_for("kling", "kling-v2", {}, sent=True)

        assert (model, params.given()) == ("kling-v2", {})
