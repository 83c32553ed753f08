"""An answer with several files: each is shown as soon as it is stored, told once, and taken back when the rest is lost."""

from io import BytesIO
from uuid import UUID

import pytest
from PIL import Image

from genpulse import sql
from media import services as media
from media.services import Asset
from tasks import storing
from tasks.lifecycle import apply
from tasks.models import Task
from tasks.moves import Admit, Done, Start
from tests.integration.cast import caller
from tests.integration.stack import sandbox
from wallet import services as wallet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def alice():
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


@pytest.fixture
def task(alice):
    """The vendor has answered with two pictures, nothing is stored yet."""
    executor = sandbox()
    body = {"model": "sandbox-image", "input": {"prompt": "kites", "n": 2}}
    task = UUID(alice.post("/api/v1/tasks", body).json()["id"])
    apply([Admit(task_id=task, executor_id=executor.id, executor=executor.name)])
    apply([Start(task_id=task, attempt=1, worker="w")])
    outputs = [kept(task, index) for index in range(2)]
    result = {"outputs": outputs, "usage": {"images": 2}, "text": None, "message": None}
    apply([Done(task_id=task, attempt=1, result=result)])
    return task


def kept(task, index):
    file = BytesIO()
    Image.new("RGB", (8, 8), (index, 0, 0)).save(file, "PNG")
    key = media.write_raw(task, 1, index, file.getvalue(), "image/png")
    about = {"kind": "image", "url": None, "content_type": "image/png", "filename": None}
    return {**about, "key": key, "meta": {}}


def told(alice, task):
    events = alice.get(f"/api/v1/tasks/{task}/events").json()["items"]
    return [event["data"]["asset"] for event in events if event["type"] == "task.output"]


def second_raises(monkeypatch, problem):
    """The file of the second output cannot be read."""
    real = media.open_raw

    def opened(key):
        if key.rpartition("/")[2].startswith("1"):
            raise problem
        return real(key)

    monkeypatch.setattr(media, "open_raw", opened)


def test_it_is_told_once_however_often_storing_begins_anew(alice, task, monkeypatch):
    with monkeypatch.context() as away:
        second_raises(away, OSError("storage is away"))
        for _ in range(2):
            assert storing.run(task, 1) == "storage unavailable"
            sql.execute("UPDATE tasks_attempt SET lease_until = NULL")
    [early] = told(alice, task)
    assert alice.get(f"/api/v1/assets/{early['id']}").status_code == 200

    assert storing.run(task, 1) == "stored"
    assert told(alice, task)[0]["id"] == early["id"]
    output = alice.get(f"/api/v1/tasks/{task}").json()["output"]
    assert output["assets"][0]["id"] == early["id"]
    rows = Asset.objects.filter(task_id=task)
    assert {row.expires_at for row in rows} == {Task.objects.get(pk=task).purge_at}
    assert len(rows) == 2


def test_it_is_taken_back_when_the_rest_is_lost(alice, task, monkeypatch):
    second_raises(monkeypatch, FileNotFoundError())
    assert storing.run(task, 1) == "result_lost"
    [early] = told(alice, task)
    assert alice.get(f"/api/v1/assets/{early['id']}").status_code == 404
    assert alice.get(f"/api/v1/tasks/{task}").json()["output"] is None
