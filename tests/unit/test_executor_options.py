"""What the environment says for a family reaches its adapter; an executor's own word wins."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from genpulse.config import config
from tasks.runner import options
from tasks.work import Work


def of(family: str, **own: Any) -> dict[str, Any]:
    return options(cast("Work", SimpleNamespace(family=family, config=own)))


def test_time_for_a_chat_by_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "gemini_timeout", 120.0)
    monkeypatch.setattr(config, "qwen_timeout", 200.0)
    monkeypatch.setattr(config, "deepseek_timeout", 300.0)
    assert [of(name)["chat_timeout"] for name in ("gemini", "qwen", "deepseek")] == [120, 200, 300]
    assert "chat_timeout" not in of("openai")
    assert of("gemini", chat_timeout=5)["chat_timeout"] == 5


def test_phrases_of_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "refusal_phrases", ["no way"])
    assert of("gemini")["refusal_phrases"] == ["no way"]
    assert of("gemini", refusal_phrases=[])["refusal_phrases"] == []
