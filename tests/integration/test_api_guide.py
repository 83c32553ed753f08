"""Every example of docs/api.md is sent to the running service, and answers what the guide prints."""

import json
import re
from dataclasses import dataclass
from typing import Any

import requests

from tests.integration.cast import caller
from tests.integration.listeners import Remote
from tests.integration.stack import ROOT, eventually, sandbox
from wallet import services as wallet

EXAMPLE = re.compile(r"```http\n(.*?)```\n```json (\d{3})\n(.*?)```", re.DOTALL)
NAME = re.compile(r"<(\w+)>")
SOMETHING = "…"


@dataclass(frozen=True)
class Example:
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    answer: Any


def examples() -> list[Example]:
    guide = (ROOT / "docs" / "api.md").read_text()
    assert guide.count("```http") == guide.count("```json") == len(EXAMPLE.findall(guide))
    return [parsed(*found) for found in EXAMPLE.findall(guide)]


def parsed(request: str, status: str, answer: str) -> Example:
    head, _, body = request.strip().partition("\n\n")
    first, *lines = head.splitlines()
    method, path = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    return Example(method, path, headers, body, int(status), json.loads(answer))


def filled(text: str, known: dict[str, str]) -> str:
    return NAME.sub(lambda found: known[found[1]], text)


def fits(shown: Any, real: Any, known: dict[str, str]) -> bool:
    """Whether an answer has what the guide shows; names in angle brackets are remembered."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(
            name in real and fits(value, real[name], known) for name, value in shown.items()
        )
    if isinstance(shown, list):
        return (
            isinstance(real, list)
            and len(real) >= len(shown)
            and all(fits(one, other, known) for one, other in zip(shown, real, strict=False))
        )
    if isinstance(shown, str) and (name := NAME.fullmatch(shown)):
        known[name[1]] = real
        return isinstance(real, str)
    return bool(shown == SOMETHING or (shown == real and type(shown) is type(real)))


def run(base: str, example: Example, known: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {known['service']}", "Content-Type": "application/json"}
    headers |= {name: filled(value, known) for name, value in example.headers.items()}
    url, body = base + filled(example.path, known), filled(example.body, known)

    def sent() -> Any:
        return requests.request(
            example.method, url, data=body.encode() or None, headers=headers, timeout=60
        )

    def as_shown() -> bool:
        answer = sent()
        good = answer.status_code == example.status and fits(example.answer, answer.json(), known)
        assert good or example.method == "GET", (example, answer.status_code, answer.text)
        return good

    eventually(as_shown)


def test_the_guide_tells_the_truth(web):
    sandbox(slots=16)
    service = caller("shop", "act_as", "tasks", "media", "wallet", "webhooks")
    admin = caller("root", "admin")
    for name in ("shop", "alice"):
        wallet.deposit(caller(name).user.account_id, 100_000_000, reason="test")
    secrets = {"service": service, "admin": admin}
    known = {name: who.headers["Authorization"].split()[1] for name, who in secrets.items()}
    shop = Remote(web, service)
    eventually(lambda: shop.get("/api/v1/models?available=true").json()["items"])
    for example in examples():
        run(web, example, known)
