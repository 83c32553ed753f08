"""The console as people use it, in a real browser, against real processes."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, Page, Route, WebSocketRoute, expect

from tests.browser.conftest import Person
from tests.integration.stack import eventually

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]  # the first one may install a browser
People = Callable[..., Person]
NASTY = "<script>window.hacked = true</script><img src=x onerror=\"hacked = true\"> & 'quotes'"


def card(page: Page, status: str = "") -> Any:
    return page.locator("#runs .card" + (f'[data-status="{status}"]' if status else ""))


def test_from_the_link_to_the_results_of_two_models(person: People) -> None:
    alice = person(complain=("401",))
    link = alice.link
    page = alice.enter()
    expect(page.locator("#balance")).to_contain_text("1000 credits")

    alice.choose("sandbox-text", "sandbox-image")
    page.locator("#prompt").fill(NASTY)
    expect(page.locator("#curl")).to_contain_text("/api/v1/batches")
    expect(page.locator("#price")).to_contain_text("1.1 credits for 2")
    page.locator("#prompt").press("Control+Enter")

    # Side by side, live, and what was typed stays text.
    expect(card(page)).to_have_count(2)
    expect(card(page, "succeeded")).to_have_count(2)
    expect(page.locator("#runs .text")).to_contain_text(NASTY)
    expect(page.locator("#runs .shot img")).to_have_js_property("naturalWidth", 512)
    assert page.evaluate("window.hacked") is None
    expect(page.locator("#balance")).to_contain_text("998.9 credits")
    expect(page.locator("#tasks .rows li")).to_have_count(2)
    expect(page.locator("#said")).to_contain_text("Done")

    # A task of the list opens where it is; the filter leaves out what does not match.
    page.locator("#tasks summary").first.click()
    expect(page.locator("#tasks .card")).to_have_count(1)
    page.get_by_label("Show").select_option("Failed")
    expect(page.locator("#tasks")).to_contain_text("No such tasks")

    # Sign out; the way in is there again. A link works once.
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="With an API key")).to_be_visible()
    page.goto(link)
    expect(page.locator("#line")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.goto(link)
    expect(page.get_by_role("alert")).to_contain_text("was used before")


def test_progress_cancel_and_retry(person: People) -> None:
    alice = person()
    alice.remote.submit({"latency": 600}, model="sandbox-image")
    page = alice.enter()
    bar = card(page).locator("progress")
    expect(card(page, "running")).to_have_count(1)
    expect(page.locator("#balance")).to_contain_text("1 held")

    page.get_by_role("button", name="Cancel sandbox-image").click()
    expect(card(page, "canceled")).to_have_count(1)
    expect(bar).to_have_count(0)
    expect(page.locator("#balance")).not_to_contain_text("held")
    expect(page.locator(":focus")).to_have_text("Retry")  # the focus stays where the button was

    page.keyboard.press("Enter")
    expect(card(page)).to_have_count(1)
    expect(card(page, "running")).to_have_count(1)
    page.get_by_role("button", name="Cancel sandbox-image").click()
    expect(card(page, "canceled")).to_have_count(1)


def test_a_click_while_the_card_renews_itself_counts(person: People) -> None:
    alice = person(complain=("htmx:afterRequest", "htmx:sendAbort"))
    alice.remote.submit({"latency": 600})
    page = alice.enter()
    expect(card(page, "running")).to_have_count(1)
    late: list[Route] = []

    def hold(route: Route) -> None:
        late.append(route)

    page.route("**/console/tasks/*", hold)
    with page.expect_request("**/console/tasks/*"):
        page.evaluate("htmx.trigger('.card', 'refresh')")
    page.get_by_role("button", name="Cancel sandbox-text").click()
    page.unroute_all()
    with suppress(Error):  # the click took its place
        late[0].continue_()
    expect(card(page, "canceled")).to_have_count(1)


def test_what_happens_before_a_new_card_is_there_is_shown_on_it(person: People) -> None:
    """Its task runs before the answer to the click arrives, and another part loads while it settles."""
    alice = person()
    task = alice.remote.submit({"latency": 600})
    alice.remote.post(f"/api/v1/tasks/{task['id']}/cancel")
    page = alice.enter()
    expect(card(page, "canceled")).to_have_count(1)

    def answer_late(route: Route) -> None:
        response = route.fetch()
        eventually(lambda: alice.remote.get("/api/v1/tasks?status=running").json()["items"])
        page.wait_for_timeout(1000)  # its events come
        route.fulfill(response=response)

    page.route("**/console/tasks/*/retry", answer_late)
    page.evaluate(
        "document.body.addEventListener('htmx:afterSwap', () => htmx.trigger('#balance', 'htmx:load'))"
    )
    page.get_by_role("button", name="Retry sandbox-text").click()
    expect(card(page, "running")).to_have_count(1)


def test_text_appears_while_it_is_written(person: People) -> None:
    alice = person()
    slow = {"text": "Ein Drachen 🪁 " + "steigt " * 400, "chunk_delay": 0.3}
    alice.remote.submit(slow, stream=True)
    page = alice.enter()
    expect(card(page, "running").locator(".text")).to_contain_text("🪁 steigt steigt")
    page.get_by_role("button", name="Cancel sandbox-text").click()
    expect(card(page, "canceled")).to_have_count(1)


def test_what_is_told_again_does_not_cut_a_text_short(person: People) -> None:
    """A resume may tell once more that the task was queued, after its first words have come."""
    alice = person()
    slow = {"text": "steigt " * 400, "chunk_delay": 0.3}
    task = alice.remote.submit(slow, stream=True)
    [queued] = alice.remote.get(f"/api/v1/tasks/{task['id']}/events?limit=1").json()["items"]
    told: list[str] = []

    def tell_again(wire: WebSocketRoute) -> None:
        server = wire.connect_to_server()

        def hear(message: str | bytes) -> None:
            wire.send(message)
            if not told and json.loads(message).get("event", {}).get("type") == "task.delta":
                told.append(queued["type"])
                wire.send(json.dumps({"type": "event", "channel": "user", "event": queued}))

        server.on_message(hear)

    alice.page.route_web_socket("**/ws/**", tell_again)
    page = alice.enter()
    expect(card(page, "running").locator(".text")).to_contain_text("steigt " * 8)
    assert told == ["task.queued"]


def test_a_cut_connection_is_shown_and_made_good(person: People) -> None:
    alice = person(complain=("ERR_INTERNET_DISCONNECTED",))
    task = alice.remote.submit({"latency": 600})
    page = alice.enter()
    expect(card(page, "running")).to_have_count(1)
    page.context.set_offline(True)
    expect(page.locator("#line")).to_contain_text("Offline")
    alice.remote.post(f"/api/v1/tasks/{task['id']}/cancel")
    page.context.set_offline(False)
    alice.live()
    expect(card(page, "canceled")).to_have_count(1)


def test_with_the_keyboard_alone(person: People) -> None:
    page = person().enter()
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the prompt")
    page.keyboard.press("Enter")
    expect(page.locator("#prompt")).to_be_focused()
    page.keyboard.type("a red kite")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_attribute("name", "models")
    if not page.locator(":focus").is_checked():
        page.keyboard.press("Space")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.locator("#go:focus").count():
            break
    page.keyboard.press("Enter")
    expect(card(page, "succeeded")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_and_for_a_screen_reader(person: People, scheme: str) -> None:
    alice = person(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    alice.page.goto(f"{alice.web}/console/")
    seen_well(alice.page, scheme)
    alice.remote.submit({"fail": "bad_input"})
    alice.remote.submit(model="sandbox-image")
    page = alice.enter()
    expect(card(page, "failed")).to_contain_text("Change the prompt.")
    expect(card(page, "succeeded")).to_have_count(1)
    expect(page.locator("#curl")).to_contain_text("curl")
    page.locator("#tasks summary").first.click()
    expect(page.locator("#tasks .card")).to_have_count(1)
    seen_well(page, scheme)


def seen_well(page: Page, scheme: str) -> None:
    """Nothing is cut off at the side, the colours are those of the scheme, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    red = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0]")
    assert (int(red) > 128) is (scheme == "light")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


def test_a_key_may_do_no_more_here_than_elsewhere(person: People) -> None:
    bob = person("bob", complain=("403",))
    looking = bob.remote.who.user
    from genpulse.auth import services

    _, text = services.create_key(looking, name="looking", scopes=("tasks:read",))
    bob.page.goto(f"{bob.web}/console/")
    bob.page.get_by_label("API key").fill(text)
    bob.page.get_by_role("button", name="Use this key").click()
    bob.live()
    expect(bob.page.locator("#balance")).to_have_count(0)
    bob.page.locator("#prompt").fill("a red kite")
    bob.page.locator("#prompt").press("Control+Enter")
    expect(bob.page.get_by_role("alert")).to_contain_text("scope tasks")
    bob.page.keyboard.press("Escape")
    expect(bob.page.locator("#problem")).to_be_empty()
