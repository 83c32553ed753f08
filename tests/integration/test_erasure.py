"""An operator removes everything a user has made; money, keys and the neighbours stay as they are."""

from genpulse import sql
from genpulse.http.models import Idempotency
from tasks import audit, erasure
from tasks.models import Attempt, Chore, Erasure, Task
from tests.integration.cast import caller
from tests.integration.listeners import Remote, rich
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet

TABLES = (
    "tasks_task",
    "tasks_taskcontent",
    "tasks_attempt",
    "tasks_batch",
    "tasks_conversation",
    "tasks_delivery",
    "events_event",
    "media_asset",
    "http_idempotency",
)


def traces(word: str) -> list[str]:
    """Tables that still know it."""
    found = []
    for table in TABLES:
        [(count,)] = sql.fetch(
            f"SELECT count(*) FROM {table} row WHERE row::text LIKE %s",  # noqa: S608
            [f"%{word}%"],
        )
        found += [table] * bool(count)
    return found


def made_by(who: Remote) -> dict[str, str]:
    """One of everything, each with a word to look for."""
    picture = who.post(
        "/api/v1/tasks",
        {
            "model": "sandbox-image",
            "input": {"prompt": "kumquat", "sandbox": {"latency": 0}},
            "tags": ["kumquat"],
        },
        headers={"Idempotency-Key": "kumquat-1", "Prefer": "wait=30"},
    ).json()
    asset = picture["output"]["assets"][0]
    items = {"items": [{}, {}], "title": "kumquat", "metadata": {"note": "kumquat"}}
    body = {"model": "sandbox-text", "input": {"prompt": "kumquat", "sandbox": {"latency": 0}}}
    batch = who.post("/api/v1/batches", {**body, **items}, headers={"Prefer": "wait=30"}).json()
    assert batch["terminal"], batch
    talk = who.submit(conversation_id="kumquat-talk")["id"]
    all_ended([talk])
    running = who.submit({"latency": 60}, tags=["kumquat"])["id"]
    eventually(lambda: Task.objects.get(pk=running).status == "running")
    paths = {
        "picture": f"/api/v1/tasks/{picture['id']}",
        "batch": f"/api/v1/batches/{batch['id']}",
        "asset": f"/api/v1/assets/{asset['id']}",
        "talk": "/api/v1/conversations/kumquat-talk",
        "running": f"/api/v1/tasks/{running}",
        "events": f"/api/v1/tasks/{picture['id']}/events",
        "bytes": asset["url"].removeprefix(who.base),
    }
    assert {name: who.get(path).status_code for name, path in paths.items()} == dict.fromkeys(
        paths, 200
    )
    return paths


def swept() -> bool:
    """The chore comes with the next tick, as if its time had come."""
    Chore.objects.filter(name="erasures").update(last_run=None)
    return not Erasure.objects.exists()


def test_what_a_user_made_is_gone(web):
    sandbox(slots=16)
    alice, bob = rich(web), rich(web, "bob")
    root = Remote(web, caller("root", "admin"))
    kept = bob.submit()["id"]
    paths = made_by(alice)
    assert alice.session.delete(f"{web}/api/v1/users/alice/data").status_code == 403
    assert root.session.delete(f"{web}/api/v1/users/nobody/data").status_code == 404
    before = wallet.balance(alice.who.user.account_id)

    answer = root.session.delete(f"{web}/api/v1/users/alice/data")
    assert answer.status_code == 200, answer.content
    assert answer.json() == {"tasks": 5, "assets": 1, "conversations": 1}
    for name, path in paths.items():
        assert alice.get(path).status_code == 404, name
    for path in ("tasks", "batches", "assets", "conversations"):
        assert alice.get(f"/api/v1/{path}").json()["items"] == []
    eventually(swept)
    assert traces("kumquat") == []
    assert not Task.objects.filter(account=alice.who.user.account_id).exists()
    assert not Idempotency.objects.filter(owner="alice").exists()

    after = wallet.balance(alice.who.user.account_id)
    assert (after.charged, after.available + after.held) == (
        before.charged,
        before.available + before.held,
    )
    assert after.held == 0
    [ended] = all_ended([kept])
    assert bob.get(f"/api/v1/tasks/{ended.id}").json()["status"] == "succeeded"
    assert alice.submit()["status"] == "queued"
    assert root.session.delete(f"{web}/api/v1/users/alice/data").json()["tasks"] == 1
    eventually(swept)
    assert [check for check in audit.run() if check.violations] == []


def test_a_job_its_vendor_could_not_stop_is_watched_to_its_end(web):
    """Its row stays, hidden and empty, until its cost is known."""
    sandbox(slots=16)
    alice = rich(web)
    task = alice.submit()["id"]
    all_ended([task])
    Attempt.objects.filter(task_id=task).update(next_poll_at="2999-01-01T00:00:00Z")
    erasure.erase(alice.who.user.account, by="root")
    assert alice.get(f"/api/v1/tasks/{task}").status_code == 404
    assert Task.objects.filter(pk=task).exists()
    assert traces("red kite") == []
    Attempt.objects.filter(task_id=task).update(next_poll_at=None)
    eventually(swept)
    assert not Task.objects.filter(pk=task).exists()
