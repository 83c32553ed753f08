"""The story of two vendor accounts that fail in turn: fail-over, an open circuit and a quota, without any key.

Both accounts are emulators of the test floor, which a checkout has and this process runs. Only tasks of the story can
reach them: they have one model, which no real vendor has.
"""

import importlib
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import genpulse
from genpulse.cli.client import ApiError, Client
from genpulse.cli.terminal import fail, out

ROOT = Path(genpulse.__file__).parents[1]
MODEL, CHAT = "gpt-demo", "/v1/chat/completions"
NAMES = ("demo-north", "demo-south")
TASKS, EXECUTORS, KEYS = "/api/v1/tasks", "/api/admin/executors", "/api/admin/api-keys"
LOOK_EVERY = 0.1  # seconds
PATIENCE = 60.0  # seconds for one task
SAID_OF = {"succeeded": "it answered", "running": "at work"}


class Account:
    """An emulated vendor account: an executor with a key of its own."""

    def __init__(self, operator: Client, name: str, vendor: Any, secret: str) -> None:
        self.operator, self.name, self.vendor = operator, name, vendor
        key = {"provider": "openai", "name": name, "key": secret}
        self.key = f"{KEYS}/{operator.post(KEYS, key)['id']}"
        body = {
            "name": name,
            "type": "openai",
            "base_url": vendor.base,
            "status": "paused",  # until it has told which models it has
            "max_concurrency": 4,
            "api_key_ids": [self.key.rpartition("/")[2]],
        }
        self.place = f"{EXECUTORS}/{operator.post(EXECUTORS, body)['id']}"
        operator.post(f"/api/v1/executors/{name}/probe", {"reason": "demo"})
        self.recover()

    def will_say(self, status: int, code: str, times: int = 1, **headers: str) -> None:
        """The coming requests are refused like that."""
        emulators = importlib.import_module("tests.emulators.base")
        body = {"error": {"message": code, "type": code, "param": None, "code": code}}
        fault = emulators.answered(status, body, **headers)
        self.vendor.next("POST", CHAT, *[fault] * times)

    def allow(self, more: int | None) -> None:
        """A daily quota of so many calls from now on; None: no quota."""
        used = self.operator.get(self.key)["used_today"]
        self.operator.put(self.key, {"daily_quota": None if more is None else used + more})

    def recover(self) -> None:
        """Forget what stood against the account."""
        self.operator.put(self.key, {"status": "active"})
        self.operator.put(self.place, {"status": "active"})


class Story:
    def __init__(self, user: Client, north: Account, south: Account) -> None:
        self.user, self.north, self.south = user, north, south
        self.tasks: list[str] = []

    def tell(self) -> int:
        """Number of tasks that did not succeed."""
        chapters = (self.usual, self.slow_down, self.broken, self.no_money, self.used_up)
        return sum(chapter() != "succeeded" for chapter in chapters)

    def usual(self) -> str:
        out.print(f"[bold]Two accounts have the model {MODEL}. Tasks prefer the first one.[/bold]")
        return self.run()

    def slow_down(self) -> str:
        out.print("[bold]It is asked to slow down (429): the other account takes over.[/bold]")
        self.north.will_say(429, "rate_limit_exceeded", retry_after="60")
        return self.run()

    def broken(self) -> str:
        out.print(
            "[bold]It breaks (500): tried again, then its circuit opens and the other takes over.[/bold]"
        )
        self.north.recover()
        self.north.will_say(500, "internal_error", times=3)
        return self.run()

    def no_money(self) -> str:
        out.print("[bold]Its balance is used up (429 insufficient_quota).[/bold]")
        self.north.recover()
        self.north.will_say(429, "insufficient_quota")
        return self.run()

    def used_up(self) -> str:
        """Until the operator raises the daily quota of the second key, nobody can serve."""
        out.print("[bold]Our own daily quota of the other key allows one call more.[/bold]")
        self.south.allow(1)
        self.run()
        waiting = self.submit()
        for candidate in self.why(waiting):
            out.print(f"   {candidate['executor']}: {candidate['detail']}", markup=False)
        out.print("[bold]The operator lifts the quota: what waited goes on.[/bold]")
        self.south.allow(None)
        return self.end(waiting)

    def run(self) -> str:
        return self.end(self.submit())

    def submit(self) -> str:
        body = {
            "model": MODEL,
            "provider": "openai",
            "input": {"prompt": "Say hello."},
            "executor": {"only": list(NAMES), "prefer": [NAMES[0]]},
            "tags": ["demo"],
        }
        self.tasks.append(self.user.post(TASKS, body)["id"])
        return self.tasks[-1]

    def end(self, task: str) -> str:
        """Its status when it has ended, or patience has; and where it was tried."""
        end = time.monotonic() + PATIENCE
        while not (shown := self.user.get(f"{TASKS}/{task}"))["terminal"]:
            if time.monotonic() > end:
                break
            time.sleep(LOOK_EVERY)
        for attempt in self.user.get(f"{TASKS}/{task}/attempts")["items"]:
            out.print(f"   {attempt['executor']}: {said(attempt)}", markup=False)
        return str(shown["status"])

    def why(self, task: str) -> list[dict[str, Any]]:
        """What keeps it from each account; `explain` may lag a few seconds behind."""
        end = time.monotonic() + PATIENCE
        while True:
            candidates: list[dict[str, Any]] = self.user.get(f"{TASKS}/{task}/explain")[
                "candidates"
            ]
            if time.monotonic() > end or not any(one["eligible"] for one in candidates):
                return candidates
            time.sleep(LOOK_EVERY)

    def give_up(self) -> None:
        """Tasks that have not ended must not wait for accounts that are gone."""
        for task in self.tasks:
            if not self.user.get(f"{TASKS}/{task}")["terminal"]:
                self.user.post(f"{TASKS}/{task}/cancel", {})


def said(attempt: Mapping[str, Any]) -> str:
    problem = attempt["error"]
    status = str(attempt["status"])
    return f"{problem['kind']}: {problem['message']}" if problem else SAID_OF.get(status, status)


def play(operator: Client, user: Client) -> int:
    """Number of tasks that did not succeed. Raises ApiError and OSError."""
    emulator = emulated()
    remove(operator)
    with emulator.OpenAI() as first, emulator.OpenAI() as second:
        first.models = second.models = [MODEL]
        with accounts(operator, first, second, emulator.CREDENTIAL) as (north, south):
            story = Story(user, north, south)
            try:
                return story.tell()
            finally:
                story.give_up()


def emulated() -> Any:
    """The module with the emulated vendor; without a checkout the command ends here."""
    if not (ROOT / "tests" / "emulators" / "openai.py").exists():
        fail(f"--emulators needs a checkout of GenPulse: there is no tests/emulators in {ROOT}")
    sys.path.insert(0, str(ROOT))
    return importlib.import_module("tests.emulators.openai")


@contextmanager
def accounts(
    operator: Client, first: Any, second: Any, secret: str
) -> Iterator[tuple[Account, Account]]:
    """They are gone at the end, whatever happens in between."""
    try:
        yield (
            Account(operator, NAMES[0], first, secret),
            Account(operator, NAMES[1], second, secret),
        )
    finally:
        remove(operator)


def remove(operator: Client) -> None:
    """The accounts, also those that an earlier run left. Raises ApiError when they stay busy."""
    end = time.monotonic() + PATIENCE
    while found := named(operator, EXECUTORS):
        if time.monotonic() > end:
            raise ApiError(409, f"{NAMES} have work that does not end")
        for id_ in found:
            operator.delete(f"{EXECUTORS}/{id_}")
        time.sleep(LOOK_EVERY)
    for id_ in named(operator, KEYS):
        operator.delete(f"{KEYS}/{id_}")


def named(operator: Client, place: str) -> list[str]:
    return [row["id"] for row in operator.get(f"{place}?limit=1000") if row["name"] in NAMES]
