"""ComfyUI servers are watched: progress arrives while a prompt runs, and its end is seen before any poll.

Polls are an hour apart here, so whatever happens in time happened because of the watch.
"""

import pytest

from admin_integrations import fleet
from admin_integrations.models import Executor
from tasks import audit
from tasks.models import Attempt, Task
from tests.emulators.base import as_fixture
from tests.emulators.comfyui import ComfyUI
from tests.integration.cast import caller
from tests.integration.providers.comfy_calls import DIFFUSION
from tests.integration.stack import Stack, all_ended, eventually

comfy = as_fixture(ComfyUI)


@pytest.fixture
def patient(transactional_db):
    """Processes that poll once an hour."""
    own = Stack(POLL_MIN="3600", POLL_MAX="3600").start("orchestrator", "worker", "media")
    yield own
    own.stop()


@pytest.fixture
def alice(patient, comfy):
    Executor.objects.create(name="gpu-1", type="comfyui", base_url=comfy.url, max_concurrency=4)
    fleet.forget()
    return caller("alice")


def submit(who):
    body = {"model": "comfyui", "input": {"workflow": DIFFUSION, "inputs": {"prompt": "kite"}}}
    answer = who.post("/api/v1/tasks", body)
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


def test_progress_and_the_end_come_over_the_socket(alice, comfy):
    comfy.hold()
    task = submit(alice)
    eventually(lambda: Task.objects.filter(pk=task, status="awaiting").exists())
    [sent] = comfy.submitted()
    assert comfy.sockets.of(sent["client_id"]), "the socket was open before the prompt was sent"
    comfy.let_go()
    [done] = all_ended([task], 60)
    assert done.status == "succeeded"
    assert Attempt.objects.get().progress > 0

    # The channel breaks; the next one is opened and tells about a second prompt.
    comfy.sockets.hang_up()
    eventually(lambda: comfy.sockets.of(sent["client_id"]))
    again = submit(alice)
    [done] = all_ended([again], 60)
    assert done.status == "succeeded"
    assert {one["client_id"] for one in comfy.submitted()} == {sent["client_id"]}
    assert len(comfy.sockets.handshakes) == 2
    assert not audit.breaches()


def test_without_a_socket_the_poll_is_the_truth(comfy, stack):
    Executor.objects.create(name="gpu-1", type="comfyui", base_url=comfy.url, max_concurrency=4)
    fleet.forget()
    comfy.sockets.refusing = True
    [done] = all_ended([submit(caller("alice"))], 60)
    assert done.status == "succeeded"
    assert comfy.sockets.handshakes
