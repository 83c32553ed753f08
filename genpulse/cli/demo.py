"""The demo: one batch of everything the sandbox makes, sent over HTTP and watched as it happens."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genpulse.cli import vendors
from genpulse.cli.client import ApiError, Client
from genpulse.cli.instance import Instance
from genpulse.cli.terminal import DEFAULT_DATA, Data, django, err, fail, running

if TYPE_CHECKING:
    from rich.progress import Progress

commands = typer.Typer()

USER = "demo"
CREDITS = 100
LOOK_EVERY = 0.2  # seconds
GIVE_UP_AFTER = 120  # seconds
BATCH: dict[str, Any] = {
    "title": "GenPulse demo",
    "tags": ["demo"],
    "items": [
        {"model": "sandbox-text", "input": {"prompt": "Say hello to the queue."}},
        *(
            {"model": "sandbox-image", "input": {"prompt": "a red kite", "seed": seed}}
            for seed in range(1, 5)
        ),
        {"model": "sandbox-audio", "input": {"prompt": "wind over a field"}},
        {"model": "sandbox-video", "input": {"prompt": "a kite that climbs"}},
    ],
}


@commands.command("demo")
def command(
    data: Data = DEFAULT_DATA,
    *,
    emulators: Annotated[
        bool,
        typer.Option("--emulators", help="Fail-over and quotas, on emulated vendor accounts."),
    ] = False,
) -> None:
    """Run the demo batch as user `demo`, with its progress."""
    instance = running(data)
    try:
        failed = play_with_vendors(instance) if emulators else play(instance)
    except (ApiError, OSError) as error:
        fail(f"the demo could not run: {error}")
    if failed:
        fail(f"{failed} tasks of the demo did not succeed")


def first(instance: Instance) -> None:
    """Once for each instance; a demo that fails is told, and does not stop `up`."""
    try:
        failed = play(instance)
    except (ApiError, OSError) as error:
        err.print(f"genpulse: the demo could not run: {error}", markup=False)
        return
    if not failed:
        instance.demo_mark.touch()


def play(instance: Instance) -> int:
    """Number of tasks that did not succeed. Raises ApiError and OSError."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    _give_credits(instance)
    api = Client(instance.base_url, instance.admin_key, user=USER)
    batch = api.post("/api/v1/batches", BATCH)
    columns = (TextColumn("{task.description:28}"), BarColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeElapsedColumn(), console=err) as progress:
        return _watch(api, batch, progress)


def play_with_vendors(instance: Instance) -> int:
    """The same for the story of two emulated accounts; a checkout is needed, a key is not."""
    _give_credits(instance)
    operator = Client(instance.base_url, instance.admin_key)
    user = Client(instance.base_url, instance.admin_key, user=USER)
    return vendors.play(operator, user)


def _watch(api: Client, batch: dict[str, Any], progress: "Progress") -> int:
    bars = {
        task["id"]: progress.add_task(task["model"], total=100, state=task["status"])
        for task in batch["tasks"]
    }
    end = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < end:
        for task in batch["tasks"]:
            progress.update(bars[task["id"]], completed=task["progress"], state=task["status"])
        if batch["terminal"]:
            break
        time.sleep(LOOK_EVERY)
        batch = api.get(f"/api/v1/batches/{batch['id']}")
    return sum(task["status"] != "succeeded" for task in batch["tasks"])


def _give_credits(instance: Instance) -> None:
    """What the demo costs is given once; after that it spends what is left."""
    with django(instance.home):
        from genpulse.auth.services import get_or_create_user
        from genpulse.money import MICRO
        from wallet import services

        account = get_or_create_user(USER).account_id
        services.deposit(account, CREDITS * MICRO, reason="demo", reference="demo")
