"""A browser for the tests of one file, and people who use the console with it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from genpulse.auth.login import one_time_login_url
from genpulse.config import config
from tests.browser.chromium import NoBrowser, browser
from tests.integration.conftest import _fresh_memory  # noqa: F401 - a fixture
from tests.integration.listeners import Remote, rich
from tests.integration.stack import Stack, eventually, sandbox

PATIENCE = 45_000  # milliseconds; a busy machine is slow
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def chrome(processes: Stack) -> Iterator[Browser]:
    """One file long: as long as it is open this thread seems to run an event loop."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        try:
            with browser() as opened:
                yield opened
        except NoBrowser as reason:
            pytest.skip(str(reason))


class Person:
    """Somebody with credits, a key (`remote`) and a browser of their own (`page`)."""

    def __init__(self, web: str, page: Page, name: str) -> None:
        self.web, self.page = web, page
        self.remote: Remote = rich(web, name)
        self.complaints: list[str] = []
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, kind: str, text: str) -> None:
        if kind == "error":
            self.complaints.append(text)

    @property
    def link(self) -> str:
        return self.web + one_time_login_url(self.remote.who.user).removeprefix(config.base_url)

    def enter(self) -> Page:
        """The console, signed in and connected, with the sandbox ready."""
        eventually(lambda: self.remote.get("/api/v1/models?available=true").json()["items"])
        self.page.goto(self.link)
        self.live()
        return self.page

    def live(self) -> None:
        expect(self.page.locator("#line")).to_have_attribute("data-state", "live")

    def choose(self, *models: str) -> None:
        for box in self.page.locator("input[name=models]").all():
            box.set_checked(box.get_attribute("value") in models)


@pytest.fixture
def person(chrome: Browser, web: str) -> Iterator[Callable[..., Person]]:
    """Makes them; `complain` names words that the browser's console may have. Any other error fails the test."""
    made: list[tuple[Person, tuple[str, ...]]] = []
    sandbox()

    def arrives(name: str = "alice", complain: tuple[str, ...] = (), **options: Any) -> Person:
        context = chrome.new_context(**options)
        context.set_default_timeout(PATIENCE)
        one = Person(web, context.new_page(), name)
        made.append((one, complain))
        return one

    yield arrives
    for one, _ in made:
        one.page.context.close()
    for one, allowed in made:
        assert [c for c in one.complaints if not any(word in c for word in allowed)] == []
