"""Live events over a WebSocket: tickets, channels, what was missed, and how a socket ends."""

import json
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from socket import create_connection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from admin_integrations.models import Executor
from genpulse.auth import services
from genpulse.config import config
from genpulse.events.bells import live
from genpulse.events.cursors import Cursor
from genpulse.events.log import NewEvent, append
from genpulse.events.models import Event
from tasks.connection import MOST_SOCKETS
from tasks.lifecycle import apply
from tasks.moves import Promote
from tests.integration.cast import caller
from tests.integration.listeners import Frames, Remote, joined, rich, task_body
from tests.integration.stack import eventually, sandbox
from tests.integration.test_event_lists import held_open

UPGRADE = {
    "Host": "localhost",
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # nobody else touches such tasks


@pytest.fixture
def alice(web):
    sandbox(slots=16)
    return rich(web)


class Socket:
    """One client; `say` answers the reply, `events` those that came meanwhile too."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self.seen: list[dict[str, Any]] = []
        self.hello = self.receive()

    def receive(self, timeout: float = 20) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.raw.recv(timeout=timeout))
        return message

    def say(self, action: str, **members: Any) -> dict[str, Any]:
        """The reply; the state of a queue may come before it."""
        self.raw.send(json.dumps({"action": action, **members}))
        while (message := self.next())["type"] == "queue":
            pass
        return message

    def next(self) -> dict[str, Any]:
        """The next message that is no event."""
        while (message := self.receive())["type"] in {"event", "heartbeat"}:
            self.seen.append(message)
        return message

    def until(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Every event up to the `count`th of that type."""
        while sum(one["event"]["type"] == kind for one in self.seen) < count:
            message = self.receive()
            if message["type"] == "event":
                self.seen.append(message)
        return [one["event"] for one in self.seen]


@contextmanager
def socket(who: Remote, path: str | None = None, **headers: str):
    """Connected with a ticket, or by header when a path is given."""
    url = path or who.post("/api/v1/ws-ticket").json()["url"]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with connect(who.base.replace("http", "ws") + url, additional_headers=named) as raw:
        yield Socket(raw)


def refused(who: Remote, path: str, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as error, socket(who, path, X_Request_ID="mine", **headers):
        pass
    answer = error.value.response
    assert answer.headers["X-Request-ID"] == "mine"
    is_native = path.startswith("/ws")
    kind = "application/problem+json" if is_native else "application/json"
    assert answer.headers["Content-Type"] == kind
    assert json.loads(answer.body)["request_id"] == "mine"
    return int(answer.status_code)


def code_of(client: Socket) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        drain(client)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def drain(client: Socket) -> None:
    while True:
        client.receive()


def promote(task: str) -> None:
    apply([Promote(task_id=UUID(task), by="x", rank=0)])


def stored_of(events: list[dict[str, Any]], task: str) -> list[int]:
    return [e["seq"] for e in events if e["task_id"] == task and e["seq"] is not None]


def test_who_gets_in(alice, web):
    made = alice.post("/api/v1/ws-ticket")
    ticket = made.json()
    assert made.status_code == 201
    assert ticket["expires_in"] == 30
    assert 0 < live().ttl(f"gp:ws:{ticket['ticket']}") <= 30
    with socket(alice, ticket["url"]) as client:
        assert client.hello["user"] == "alice"
        assert client.hello["heartbeat"] == 20
    assert refused(alice, ticket["url"]) == 403
    assert refused(alice, "/ws/events?ticket=wrong") == 403
    assert refused(alice, "/ws/events") == 403
    assert refused(alice, "/ws/elsewhere") == 403
    assert refused(alice, "/ws/events", Authorization="Bearer gp_live_nonsense") == 403
    mine = alice.who.headers
    with socket(alice, "/ws/events", **mine) as client:
        assert client.say("ping")["type"] == "pong"
    with socket(alice, "/ws/events/", **mine, Origin="http://localhost:3000") as client:
        assert client.raw.response.headers["X-Request-ID"]
    assert refused(alice, "/ws/events", **mine, Origin="http://evil.example") == 403
    stolen = alice.post("/api/v1/ws-ticket").json()["url"]
    assert refused(alice, stolen, Origin="http://evil.example") == 403
    assert refused(alice, stolen) == 403
    assert refused(alice, "/ws/events", **caller("bob", "wallet").headers) == 403

    service = Remote(web, caller("service", "act_as", "tasks"))
    ticket = service.post("/api/v1/ws-ticket", headers={"X-GenPulse-User": "alice"}).json()
    with socket(service, ticket["url"]) as client:
        assert client.hello["user"] == "alice"


def test_who_leaves_in_the_middle_of_the_handshake_takes_no_place(alice):
    where = urlsplit(alice.base)
    lines = [f"{name}: {value}" for name, value in {**UPGRADE, **alice.who.headers}.items()]
    asked = "\r\n".join(["GET /ws/events HTTP/1.1", *lines, "", ""]).encode()
    for _ in range(MOST_SOCKETS + 1):
        with create_connection((where.hostname, where.port)) as raw:
            raw.sendall(asked)

    def is_let_in() -> bool:
        with connect(
            f"{alice.base.replace('http', 'ws')}/ws/events", additional_headers=alice.who.headers
        ) as raw:
            return bool(json.loads(raw.recv(timeout=20))["type"] == "hello")

    eventually(is_let_in)


def test_what_one_listens_to(alice, web):
    with socket(alice) as client:
        foreign = rich(web, "bob").submit()["id"]
        for name in (f"task:{foreign}", "task:x", "batch:1", "admin", "queue:sandbox", "nonsense"):
            answer = client.say("subscribe", channels=["user", name], id=7)
            assert [answer["type"], answer["code"], answer["id"]] == ["error", "not_found", 7]
        batch = alice.post("/api/v1/batches", task_body(items=[{}, {}])).json()
        one = batch["tasks"][0]["id"]
        channels = [f"task:{one}", f"batch:{batch['id']}"]
        assert client.say("subscribe", channels=channels, id="a") == {
            "type": "subscribed",
            "id": "a",
            "channels": channels,
        }
        assert (
            client.say("subscribe", channels=["user"], events=["wallet.*"])["type"] == "subscribed"
        )
        other = alice.submit()["id"]
        client.until("wallet.charged", 1)
        answer = client.say("resume", cursor=client.hello["cursor"])
        assert answer["type"] == "resumed"
        by_channel: dict[str, set[str]] = {}
        for message in client.seen:
            by_channel.setdefault(message["channel"], set()).add(
                message["event"]["type"].split(".")[0]
            )
        assert by_channel[f"batch:{batch['id']}"] >= {"batch", "task"}
        assert by_channel["user"] == {"wallet"}
        assert other not in {m["event"]["task_id"] for m in client.seen if m["channel"] != "user"}
        gone = client.say("unsubscribe", channels=["user", *channels])
        assert gone["type"] == "unsubscribed"

        for text in ("", "[]", "{", '{"action":"shout"}', '{"action":"subscribe"}', "[" * 10000):
            client.raw.send(text)
            assert client.next()["code"] == "bad_message"
        many = [f"task:{UUID(int=n)}" for n in range(501)]
        assert client.say("subscribe", channels=many)["code"] == "too_many_channels"


def test_operators_hear_of_executors_and_queues(alice, web):
    root = Remote(web, caller("root", "admin"))
    with socket(root) as client:
        task = alice.submit({"latency": 0.5})["id"]
        channels = ["admin", f"task:{task}", "queue:sandbox"]
        assert client.say("subscribe", channels=channels)["channels"] == channels
        client.until("task.succeeded")
        append(
            [NewEvent(account=None, type="executor.down", data={"executor": "x", "reason": "y"})]
        )
        assert client.until("executor.down")[-1]["data"]["executor"] == "x"
        queue = client.next()
        assert [queue["type"], queue["channel"]] == ["queue", "queue:sandbox"]
        assert queue["queue"]["family"] == "sandbox"


def test_a_task_live_with_its_deltas(alice):
    words = " ".join(f"word{number}" for number in range(60))
    with socket(alice) as client:
        client.say("subscribe", channels=["user"], events=["task.*"])
        task = alice.submit({"text": words, "chunk_delay": 0.01, "latency": 0.3}, stream=True)["id"]
        seen = client.until("task.succeeded")
    assert stored_of(seen, task) == [1, 2, 3, 4]
    assert joined(seen) == words
    assert any(event["type"] == "task.progress" for event in seen)
    assert len({event["id"] for event in seen if event["id"]}) == 4
    with socket(alice) as late:
        late.say("subscribe", channels=[f"task:{task}"])
        assert late.say("resume", tasks={task: 2})["replayed"] == 2
        assert stored_of([m["event"] for m in late.seen], task) == [3, 4]


def test_a_place_in_line_and_a_batch_on_channels_of_their_own(alice):
    Executor.objects.update(max_concurrency=1)
    blocker = alice.submit({"latency": 100})
    made = alice.post("/api/v1/batches", task_body(items=[{}])).json()
    [child] = made["tasks"]
    channels = [f"task:{child['id']}", f"batch:{made['id']}"]
    with socket(alice) as client:
        client.say("subscribe", channels=channels)
        client.until("task.position")
        client.until("batch.progress")
        by_type = {one["event"]["type"]: one for one in client.seen}
        assert by_type["task.position"]["channel"] == channels[0]
        assert by_type["batch.progress"]["channel"] == channels[1]
        alice.post(f"/api/v1/tasks/{blocker['id']}/cancel")
        client.until("batch.completed")


def test_a_resume_never_skips_a_slower_transaction(alice):
    """B arrives live while A is still open; whoever goes on from B's cursor is given A as well."""
    slow, fast = (alice.submit(run_at=LATER)["id"] for _ in range(2))
    with socket(alice) as client:
        client.say("subscribe", channels=[f"task:{fast}", f"task:{slow}"])
        with held_open(lambda: promote(slow)):
            promote(fast)
            # What came before may be told again, where somebody else's transaction was open at the subscribe.
            [promoted] = [e for e in client.until("task.promoted") if e["type"] == "task.promoted"]
            assert promoted["task_id"] == fast
            cursor = promoted["id"]
        ids = {event["task_id"]: event["id"] for event in client.until("task.promoted", 2)}
        assert ids[fast] == cursor
    with socket(alice) as again:
        again.say("subscribe", channels=["user"], events=["task.*"])
        answer = again.say("resume", cursor=cursor)
        assert {m["event"]["task_id"]: m["event"]["id"] for m in again.seen} == ids

        def caught_up() -> bool:
            """What stood near an open transaction, of anybody, comes again for as long as that is open."""
            nonlocal answer
            answer = again.say("resume", cursor=answer["cursor"])
            return not answer["replayed"]

        assert answer["replayed"] >= 2
        eventually(caught_up)
        assert {m["event"]["id"] for m in again.seen} == set(ids.values())


def test_a_bell_that_is_lost_costs_a_moment(alice, monkeypatch):
    """A process dies between its commit and its bell; and the hub loses its connection to Redis."""
    task = alice.submit(run_at=LATER)["id"]
    monkeypatch.setattr("genpulse.events.log.ring", lambda messages: None)
    path = f"/api/v1/tasks/{task}/events"
    with socket(alice) as client, alice.stream(path).answer as answer:
        client.say("subscribe", channels=["user"])
        for seq in (2, 3):
            live().client_kill_filter(_type="pubsub")
            promote(task)
            assert alice.get(f"{path}?after={seq - 1}&wait=20").json()["last_seq"] == seq
            assert client.until("task.promoted", seq - 1)[-1]["seq"] == seq
        frames = iter(Frames(answer))
        assert [label for label, _ in (next(frames) for _ in range(3))] == ["1", "2", "3"]


def test_what_is_not_kept_any_more(alice):
    task = alice.submit(run_at=LATER)["id"]
    promote(task)
    promote(task)
    Event.objects.filter(task_id=task, seq=1).delete()
    old = Cursor(
        xid=1,
        id=1,
        floor=1,
        at=int(Event.objects.latest("id").at.timestamp() - config.event_retention - 9),
    )
    with socket(alice) as client:
        client.say("subscribe", channels=["user"])
        assert client.say("resume", cursor=str(old))["code"] == "cursor_expired"
        assert client.say("resume", tasks={task: 0})["code"] == "cursor_expired"
        assert client.say("resume", tasks={task: 1})["replayed"] == 2
        assert client.say("resume", cursor="nonsense")["code"] == "bad_message"
        assert client.say("resume")["code"] == "bad_message"
        assert client.say("resume", tasks={str(UUID(int=1)): 0})["code"] == "not_found"


def test_how_a_socket_ends(alice, web):
    with socket(alice) as client:
        client.raw.send("x" * 65537)
        assert code_of(client) == 4413
    with ExitStack() as sockets:
        mine = alice.who.headers
        opened = [sockets.enter_context(socket(alice, "/ws/events", **mine)) for _ in range(20)]
        url = alice.base.replace("http", "ws") + "/ws/events"
        one_more = sockets.enter_context(connect(url, additional_headers=mine))
        assert json.loads(one_more.recv(timeout=20))["type"] == "bye"
        with pytest.raises(ConnectionClosed) as closed:
            one_more.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429
        services.revoke_key(alice.who.key)
        assert opened[0].next() == {"type": "bye", "reason": "access ended"}
        assert {code_of(client) for client in opened} == {4401}
