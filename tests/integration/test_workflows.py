"""Workflows of the operator and of callers, on emulated ComfyUI servers behind the real engine."""

import base64
import hashlib
from collections import Counter

import pytest

from admin_integrations import fleet, routing
from admin_integrations.models import Executor, Workflow, WorkflowBinding
from media.models import Asset
from media.storages import read
from tasks import workflows
from tasks.models import Attempt, Task, TaskContent
from tests.emulators.base import as_fixture
from tests.emulators.comfyui import ComfyUI
from tests.emulators.comfyui_nodes import Picture
from tests.integration.cast import caller
from tests.integration.providers.comfy_calls import DIFFUSION, EDIT, SOLID, node
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet

URL = "/api/v1/tasks"
PHOTO = Picture(8, 8, 77).png
DATA_URI = f"data:image/png;base64,{base64.b64encode(PHOTO).decode()}"
UI = {"nodes": [{"id": 1}], "links": []}
comfy = as_fixture(ComfyUI)
second = as_fixture(ComfyUI)


@pytest.fixture(autouse=True)
def _no_old_bindings():
    routing.forget()
    yield
    routing.forget()


def rich(name="alice"):
    who = caller(name)
    wallet.deposit(who.user.account_id, 1_000_000_000, reason="test")
    return who


def server(emulator, name="gpu-1", slots=4, **options):
    made = Executor.objects.create(
        name=name, type="comfyui", base_url=emulator.url, max_concurrency=slots, **options
    )
    fleet.forget()
    return made


def keep(name, graph, version="v1", **options):
    options = {"type": "comfyui", "status": "active", **options}
    return Workflow.objects.create(name=name, version=version, definition=graph, **options)


def bind(action, **target):
    made = WorkflowBinding.objects.create(action=action, **target)
    routing.forget()
    return made


def submit(who, expect=201, **body):
    answer = who.post(URL, body)
    assert answer.status_code == expect, answer.content
    return answer.json()


def ended(who, task):
    all_ended([task["id"]])
    return who.get(f"{URL}/{task['id']}").json()


def errors(answer):
    return {(item["field"], item["code"]) for item in answer["errors"]}


class TestRuns:
    def test_a_kept_workflow_runs_by_name(self, stack, comfy):
        """Named inputs reach their nodes, and what the server made is ours, byte for byte."""
        alice = rich()
        server(comfy)
        keep("kite", SOLID)
        flow = keep("kite", DIFFUSION, "v2")
        keep("kite", SOLID, "v3", status="inactive")
        given = {"inputs": {"prompt": "a red kite", "size": "32x16", "seed": 7}}
        task = submit(alice, workflow="kite", input=given)
        shown = {"id": str(flow.id), "name": "kite", "version": "v2"}
        assert (task["workflow"], task["provider"], task["family"]) == (shown, "comfyui", "comfyui")
        assert (task["task_type"], task["input"]) == ("comfy-workflow", given)
        done = ended(alice, task)
        assert done["status"] == "succeeded", done["error"]
        assert done["executor"] == "gpu-1"
        [body] = comfy.submitted()
        graph = body["prompt"]
        assert graph["2"]["inputs"]["text"] == "a red kite"
        assert (graph["4"]["inputs"]["width"], graph["4"]["inputs"]["height"]) == (32, 16)
        assert graph["5"]["inputs"]["seed"] == 7
        [asset] = done["output"]["assets"]
        [made] = [
            content for (kind, _, _), content in comfy.engine.files.items() if kind == "output"
        ]
        assert asset["sha256"] == hashlib.sha256(made).hexdigest()
        with read(Asset.objects.get(pk=asset["id"]).key) as stored:
            assert stored.read() == made
        assert (asset["width"], asset["height"]) == (32, 16)

        # Again, by way of retry's sibling: the clone names the same version and changes one input.
        keep("kite", SOLID, "v4")
        answer = alice.post(f"{URL}/{task['id']}/clone", {"input": {"inputs": {"seed": 8}}})
        assert answer.status_code == 201, answer.content
        assert answer.json()["workflow"] == shown
        ended(alice, answer.json())
        assert comfy.submitted()[-1]["prompt"]["5"]["inputs"]["seed"] == 8

    def test_pictures_are_uploaded_to_the_server(self, stack, comfy):
        alice = rich()
        server(comfy)
        keep("edit", EDIT)
        first = ended(
            alice, submit(alice, workflow="edit@v1", input={"inputs": {"photo": DATA_URI}})
        )
        assert first["status"] == "succeeded", first["error"]
        reference = first["input"]["inputs"]["photo"]
        assert reference.startswith("asset:")
        bare = reference.removeprefix("asset:")
        again = ended(alice, submit(alice, workflow="edit", input={"inputs": {"photo": bare}}))
        assert again["status"] == "succeeded", again["error"]
        uploads = [c for (kind, _, _), c in comfy.engine.files.items() if kind == "input"]
        assert set(uploads) == {PHOTO}

    def test_a_caller_brings_a_workflow(self, stack, comfy):
        alice = rich()
        server(comfy)
        body = {"provider": "comfyui", "task_type": "comfy-workflow"}
        given = {"workflow": EDIT, "inputs": {"photo": DATA_URI}}
        done = ended(alice, submit(alice, input=given, **body))
        assert done["status"] == "succeeded", done["error"]

    def test_a_model_that_is_bound_to_a_workflow(self, stack, comfy, second):
        """The family is that of the model, the work the workflow's; a binding may name its executor."""
        alice = rich()
        server(comfy)
        bound = server(second, "gpu-2")
        bind("sd-kite", workflow=keep("kite", DIFFUSION), executor=bound)
        body = {"model": "sd-kite", "input": {"prompt": "a kite", "size": "16x16"}}
        tasks = [submit(alice, **body) for _ in range(3)]
        for task in tasks:
            done = ended(alice, task)
            assert (done["status"], done["executor"]) == ("succeeded", "gpu-2"), done["error"]
            assert (done["model"], done["family"]) == ("sd-kite", "sd")
            assert done["task_type"] == "text-to-image"
        assert comfy.submitted() == []

    def test_a_node_that_fails_fails_the_task(self, stack, comfy):
        alice = rich()
        server(comfy)
        keep("kite", SOLID)
        comfy.fail_next("ValueError", "the node is broken")
        done = ended(alice, submit(alice, workflow="kite", input={}, max_attempts=1))
        assert (done["status"], done["error"]["code"]) == ("failed", "node_error")
        assert wallet.balance(alice.user.account_id).held == 0

    def test_two_servers_never_get_more_than_they_take(self, stack, comfy, second):
        stack.start("worker-2")
        alice = rich()
        server(comfy, "gpu-1", 2)
        server(second, "gpu-2", 3)
        keep("kite", SOLID)
        tasks = [
            submit(alice, workflow="kite", input={"inputs": {"color": color}})["id"]
            for color in range(24)
        ]
        assert {task.status for task in all_ended(tasks)} == {"succeeded"}
        assert comfy.engine.most <= 2
        assert second.engine.most <= 3
        assert min(len(comfy.submitted()), len(second.submitted())) > 0
        assert len(comfy.submitted()) + len(second.submitted()) == 24


def test_a_busy_executor_goes_when_its_work_is_done(stack):
    alice, root = rich(), caller("root", "admin")
    url = f"/api/admin/executors/{sandbox().id}"
    given = {"prompt": "x", "sandbox": {"latency": 1}}
    task = submit(alice, model="sandbox-text", input=given)
    eventually(lambda: Task.objects.filter(status="running").exists())
    assert root.delete(url).json() == {"status": "draining"}
    assert root.get(url).json()["status"] == "draining"
    assert ended(alice, task)["status"] == "succeeded"
    eventually(lambda: root.get(url).status_code == 404)


def test_weights_split_the_work(stack):
    """Two healthy executors with weights 3 and 1, within 10 %."""
    alice = rich()
    sandbox("heavy", slots=64, weight=3)
    sandbox("light", slots=64, weight=1)
    item = {"model": "sandbox-text", "input": {"prompt": "x", "sandbox": {"latency": 0}}}
    answer = alice.post("/api/v1/batches", {"items": [item] * 200})
    assert answer.status_code == 201, answer.content
    all_ended([task["id"] for task in answer.json()["tasks"]], 100)
    shares = Counter(Attempt.objects.values_list("executor", flat=True))
    assert 150 * 0.9 <= shares["heavy"] <= 150 * 1.1, shares
    assert 50 * 0.9 <= shares["light"] <= 50 * 1.1, shares


@pytest.mark.django_db
class TestRefusals:
    @pytest.fixture
    def alice(self):
        return rich()

    def test_unknown_and_inactive_workflows(self, alice):
        keep("asleep", SOLID, status="inactive")
        keep("plain", {}, type="generic")
        for name in ("nobody", "asleep", "asleep@v1", "plain"):
            answer = submit(alice, 422, workflow=name, input={})
            assert (answer["code"], errors(answer)) == (
                "unknown_workflow",
                {("workflow", "choice")},
            )
        assert not Task.objects.exists()

    @pytest.mark.parametrize(
        ("given", "field", "code"),
        [
            ({"inputs": {"colour": 3}}, "input.inputs.colour", "unknown"),
            ({"colour": 3}, "input.colour", "unknown"),
            ({"inputs": {"color": "red"}}, "input.inputs.color", "type"),
            ({"workflow": EDIT}, "input.workflow", "exclusive"),
        ],
    )
    def test_inputs_the_workflow_does_not_take(self, alice, given, field, code):
        keep("kite", SOLID)
        answer = submit(alice, 422, workflow="kite", input=given)
        assert (field, code) in errors(answer)
        assert not Task.objects.exists()

    def test_media_obey_the_rules_of_all_media(self, alice):
        keep("edit", EDIT)
        bad = {
            "http://10.0.0.1/x.png": "url_not_allowed",
            "01936f2c-7a10-7c3e-9d54-3f1f2a6b8c01": "asset_not_found",
            "data:image/png;base64,AAAA": "media_rejected",
            "example.png": "validation_failed",  # a file of the server
        }
        for value, code in bad.items():
            answer = submit(alice, 422, workflow="edit", input={"inputs": {"photo": value}})
            assert answer["code"] == code
            assert {field for field, _ in errors(answer)} == {"input.inputs.photo"}

    def test_the_web_format_is_refused_with_advice(self, alice):
        body = {"provider": "comfyui", "task_type": "comfy-workflow"}
        answer = submit(alice, 422, input={"workflow": UI}, **body)
        assert (answer["code"], errors(answer)) == (
            "workflow_format_ui",
            {("input.workflow", "format")},
        )
        assert "Save (API Format)" in answer["detail"]
        odd = {"workflow": {"1": node("SaveImage", images=["9", 0])}}
        answer = submit(alice, 422, input=odd, **body)
        assert errors(answer) == {("input.workflow.1.inputs.images", "choice")}

    def test_a_coze_workflow_becomes_the_input_of_its_adapter(self, alice):
        flow = {"workflow_id": "7561", "parameters": {"style": "ink", "count": 1}}
        keep("poster", flow, type="coze")
        keep("empty", {"parameters": {}}, type="coze")
        task = submit(
            alice, workflow="poster", input={"prompt": "kite", "parameters": {"count": 2}}
        )
        assert (task["provider"], task["task_type"]) == ("coze", "coze-workflow")
        presets = TaskContent.objects.get().options["presets"]
        assert workflows.filled(presets["poster@v1"], task["input"]) == {
            "workflow_id": "7561",
            "parameters": {"style": "ink", "count": 2, "prompt": "kite"},
        }
        assert errors(submit(alice, 422, workflow="empty", input={})) == {("workflow", "required")}


@pytest.mark.django_db
class TestCatalogue:
    def test_what_can_be_run(self, comfy):
        alice = rich()
        server(comfy)
        kept = [keep("kite", DIFFUSION), keep("poster", {"workflow_id": "1"}, type="coze")]
        keep("asleep", SOLID, status="inactive")
        items = alice.get("/api/v1/workflows?order=asc").json()["items"]
        assert [(w["name"], w["kind"], w["available"]) for w in items] == [
            ("kite", "comfyui", True),
            ("poster", "coze", False),
        ]
        assert [one["name"] for one in items[0]["inputs"]] == [
            "prompt",
            "negative_prompt",
            "size",
            "seed",
        ]
        for reference in (kept[0].id, "kite", "kite@v1"):
            assert alice.get(f"/api/v1/workflows/{reference}").json() == items[0]
        assert alice.get("/api/v1/workflows/asleep").status_code == 404
