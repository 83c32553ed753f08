"""A shop's page listens to one user's tasks and points in the platform's words, and comes back after a cut."""

import json
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.client import connect

from genpulse.config import config
from genpulse.events.cursors import Cursor
from tests.integration.cast import caller
from tests.integration.listeners import Remote, rich
from tests.integration.stack import eventually, sandbox
from tests.integration.test_sockets import code_of, refused
from wallet import services as wallet

STREAM = "/api/notify/v1/stream"


class Page:
    """What one open page was told."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.seen: list[dict[str, Any]] = []

    def receive(self, timeout: float = 30) -> dict[str, Any]:
        self.seen.append(json.loads(self.raw.recv(timeout=timeout)))
        return self.seen[-1]

    def until(self, kind: str, **payload: Any) -> list[dict[str, Any]]:
        """Everything up to the first message of that type and with that in its payload."""
        while True:
            message = self.receive()
            if message["type"] == kind and payload.items() <= message["payload"].items():
                return self.seen


@contextmanager
def page(who: Remote, query: str = "", **headers: str):
    url = who.base.replace("http", "ws") + STREAM + query
    with connect(url, additional_headers=headers or who.who.headers) as raw:
        yield Page(raw)


@pytest.fixture
def shop(web):
    sandbox(slots=16)
    who = Remote(web, caller("shop", "act_as", "tasks", "wallet"))
    wallet.deposit(who.who.user.account_id, 100_000_000, reason="test")
    return who


def freeze(who: Remote, task: str, points: int = 5) -> dict[str, Any]:
    body = {"userId": who.who.user.name, "taskId": task, "action": "draw", "points": points}
    made: dict[str, Any] = who.post("/api/wallet/v1/freeze", body).json()
    return made


def told(seen: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [message["payload"] for message in seen if message["type"] == kind]


def test_tasks_and_points_of_the_own_user_only(shop, web):
    other = rich(web, "other")
    with page(shop) as mine, page(other) as theirs:
        mine.raw.send("anybody there?")
        held = freeze(shop, "order-1")
        shop.post("/api/wallet/v1/confirm", {"holdId": held["holdId"]})
        mine.until("wallet.points", status="deducted")
        assert told(mine.seen, "wallet.points") == [
            {"taskId": "order-1", "status": "frozen", "balance": 95},
            {"taskId": "order-1", "status": "deducted", "balance": 95},
        ]
        mine.seen.clear()
        body = {"userId": "shop", "taskId": "order-2", "action": "unbound", "points": 3}
        assert shop.post("/api/tasks/v1/submit", body).status_code == 200
        mine.until("task.status", status="blocked")
        shop.post("/api/tasks/v1/order-2/cancel?userId=shop")
        mine.until("wallet.points", status="released")
        statuses = told(mine.seen, "task.status")
        assert {"taskId": "order-2", "status": "blocked", "progress": 0, "points": 3} in statuses
        assert {"taskId": "order-2", "status": "cancelled", "progress": 0, "points": 3} in statuses
        assert told(mine.seen, "wallet.points")[-1] == {
            "taskId": "order-2",
            "status": "released",
            "balance": 95,
        }
        assert all(set(message) == {"id", "type", "payload", "at"} for message in mine.seen)
        task = other.submit({"latency": 0.5})["id"]
        seen = theirs.until("task.status", status="completed")
        assert {one["taskId"] for one in told(seen, "task.status")} == {task}
        assert told(seen, "task.status")[-1]["progress"] == 100
        assert "anybody" not in json.dumps(seen)


def test_who_may_listen(shop, web):
    assert refused(shop, STREAM) == 403
    assert refused(shop, STREAM, Authorization="Bearer gp_live_nonsense") == 403
    assert refused(shop, f"{STREAM}?ticket=wrong") == 403
    ticket = shop.post("/api/v1/ws-ticket").json()["ticket"]
    url = f"{web.replace('http', 'ws')}{STREAM}/?ticket={ticket}"
    with connect(url) as raw:
        freeze(shop, "order-3")
        assert Page(raw).receive()["payload"]["taskId"] == "order-3"
    assert refused(shop, f"{STREAM}?ticket={ticket}") == 403
    with page(shop) as mine:
        mine.raw.send("x" * 65537)
        assert code_of(mine) == 4413


def test_what_was_missed_comes_again_from_a_cursor(shop):
    with page(shop) as mine:
        freeze(shop, "order-4")
        cursor = mine.receive()["id"]
    freeze(shop, "order-5")
    freeze(shop, "order-6")
    with page(shop, f"?cursor={cursor}") as mine:
        mine.until("wallet.points", taskId="order-6")
        assert [one["taskId"] for one in told(mine.seen, "wallet.points")][-2:] == [
            "order-5",
            "order-6",
        ]
        freeze(shop, "order-7")
        mine.until("wallet.points", taskId="order-7")
    with page(shop, "?cursor=nonsense") as mine:
        assert mine.receive()["code"] == "bad_message"
        freeze(shop, "order-8")
        mine.until("wallet.points", taskId="order-8")
    place = Cursor.parse(cursor)
    old = Cursor(
        xid=place.xid, id=place.id, floor=place.floor, at=place.at - int(config.event_retention) - 9
    )
    with page(shop, f"?cursor={old}") as mine:
        assert mine.receive()["code"] == "cursor_expired"


def test_an_operators_word(shop, web):
    root = Remote(web, caller("root", "admin"))
    other = rich(web, "other")
    assert other.post("/api/notify/v1/event", {"text": "hi"}).status_code == 403

    def heard(listener: Page, body: dict[str, Any]) -> bool:
        assert root.post("/api/notify/v1/event", body).json() == {"success": True}
        try:
            message = listener.receive(timeout=1)
        except TimeoutError:
            return False
        assert [message["id"], message["type"], message["payload"]] == [None, "custom", body]
        return True

    with page(shop) as mine, page(other) as theirs:
        eventually(lambda: heard(mine, {"userId": "shop", "text": "hello"}))
        eventually(lambda: heard(theirs, {"text": "to all"}))
        assert told(theirs.seen, "custom") == [{"text": "to all"}] * len(theirs.seen)
        mine.until("custom", text="to all")
