"""`make screenshots`: the console as it looks, into docs/images. Starts an instance of its own."""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.chromium import browser

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
MOST_BYTES = 150_000
DESKTOP, PHONE = {"width": 1360, "height": 1060}, {"width": 390, "height": 844}
PROMPT = "A red kite over a calm sea at dawn, long exposure"
POEM = (
    "A red kite leans on the wind above a calm sea. The string hums, the shore is far, and the sun has not "
    "decided yet. Below it the water keeps every colour it is given, and gives none of them back before noon."
)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="genpulse-pictures-") as home:
        try:
            link, key = start(home)
            with browser() as opened:
                take_all(opened, link, key)
        finally:
            genpulse(home, "down")


def genpulse(home: str, *words: str) -> str:
    command = [sys.executable, "-m", "genpulse", *words, "--data", f"{home}/data"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def start(home: str) -> tuple[str, str]:
    """The one-time link and the key of a new instance."""
    told = genpulse(home, "up", "--port", "0", "--no-demo")
    [link] = re.findall(r"http://\S+/login-link/\S+", told)
    return link, Path(home, "data", "admin.key").read_text().strip()


def take_all(opened: Browser, link: str, key: str) -> None:
    base = link.split("/login-link/", maxsplit=1)[0]
    context = opened.new_context(viewport=DESKTOP, color_scheme="light")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{base}/console/")
    save(page, "sign-in")
    page.goto(link)
    work(page)
    submit_slow(base, key)
    page.reload()
    page.locator("progress").first.wait_for()
    page.wait_for_timeout(2500)
    page.locator("#prompt").fill(PROMPT)
    page.locator("#curl", has_text="long exposure").wait_for()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        save(page, f"console-{scheme}")
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="light")
    page.evaluate("scrollTo(0, 0)")
    save(page, "console-phone")


def work(page: Page) -> None:
    """One prompt for three models, to its end."""
    page.locator("#prompt").fill(PROMPT)
    for name in ("sandbox-image", "sandbox-text", "sandbox-audio"):
        page.locator(f'input[value="{name}"]').set_checked(True)
    page.keyboard.press("Control+Enter")
    page.locator('.run .card[data-status="succeeded"]').nth(2).wait_for()


def submit_slow(base: str, key: str) -> None:
    """Work that is still going on when the picture is taken."""
    given: dict[str, Any] = {"prompt": "A lighthouse keeper's lunch, in watercolour"}
    slow = {"latency": 12}
    items = [
        {"model": "sandbox-image", "input": {"sandbox": slow}},
        {"model": "sandbox-text", "input": {"sandbox": {"text": POEM, "chunk_delay": 0.15}}},
        {"model": "sandbox-video", "input": {"sandbox": slow}},
    ]
    body = {"items": items, "input": given, "stream": True}
    request = urllib.request.Request(  # noqa: S310
        f"{base}/api/v1/batches",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


def save(page: Page, name: str) -> None:
    path = IMAGES / f"{name}.png"
    picture = Image.open(BytesIO(page.screenshot(animations="disabled")))
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path} has {size} bytes"
    print(f"{path} {size // 1000} kB")  # noqa: T201


if __name__ == "__main__":
    main()
