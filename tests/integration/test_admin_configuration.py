"""Django admin's pages for executors, keys, workflows, bindings and tasks: the rules of the API, and no secret."""

import pytest
from django.test import Client

from admin_integrations import vault
from admin_integrations.models import (
    Cooldown,
    Credential,
    Executor,
    FamilyState,
    Workflow,
    WorkflowBinding,
)
from genpulse.auth import login, services
from genpulse.config import config
from tasks.models import Batch, Task
from tests.integration.cast import caller
from tests.integration.stack import sandbox
from wallet import services as wallet

pytestmark = pytest.mark.django_db
SECRET = "sk-canary-0123456789-abcd"
AT = "/admin/admin_integrations"


@pytest.fixture
def client(clean_redis):
    root = services.create_user("root", role="admin", password="long enough")
    client = Client()
    client.get(login.one_time_login_url(root).removeprefix(config.base_url))
    return client


def executor_form(**changes):
    form: dict[str, object] = {
        "name": "o",
        "type": "openai",
        "base_url": "https://a.example/v1",
        "tags": "",
    }
    form |= {"dispatch": "celery", "status": "active", "weight": 1, "max_concurrency": 2}
    return {**form, "region": "", "config": "{}", "credentials": [], **changes}


def key_form(**changes):
    form = {"provider": "openai", "name": "main", "base_url": "", "status": "active"}
    return {**form, "metadata": "{}", "new_key": SECRET, **changes}


def test_a_key_is_put_in_bound_and_never_shown(client):
    assert client.post(f"{AT}/credential/add/", key_form()).status_code == 302
    key = Credential.objects.get()
    assert vault.decrypt(key.ciphertext, owner=key.id) == SECRET
    assert (
        client.post(f"{AT}/executor/add/", executor_form(credentials=[key.pk])).status_code == 302
    )
    key.refresh_from_db()
    assert key.base_url == "https://a.example/v1"
    for path in ("credential/", f"credential/{key.pk}/change/", "executor/"):
        page = client.get(f"{AT}/{path}")
        assert page.status_code == 200
        assert SECRET.encode() not in page.content
        assert key.ciphertext.encode() not in page.content
    # Without a new key the old one stays.
    changed = key_form(new_key="", name="renamed", base_url=key.base_url)
    assert client.post(f"{AT}/credential/{key.pk}/change/", changed).status_code == 302
    key.refresh_from_db()
    assert (key.name, vault.decrypt(key.ciphertext, owner=key.id)) == ("renamed", SECRET)
    moved = executor_form(base_url="https://evil.example/v1", credentials=[key.pk])
    page = client.post(f"{AT}/executor/{Executor.objects.get().pk}/change/", moved)
    assert b"bound to another address" in page.content
    assert Executor.objects.get().base_url == "https://a.example/v1"


def test_mistakes_are_told_in_the_form(client):
    for path, form, words in (
        ("executor", executor_form(type="teapot"), b"There is no provider"),
        ("credential", key_form(new_key=""), b"needs its key"),
        (
            "workflow",
            {"name": "w", "version": "v1", "type": "comfyui", "status": "active"}
            | {"definition": '{"nodes": [], "links": []}', "metadata": "{}"},
            b"Save (API Format)",
        ),
        (
            "workflowbinding",
            {"action": "a", "priority": 0, "weight": 1, "metadata": "{}"},
            b"Name exactly one",
        ),
    ):
        page = client.post(f"{AT}/{path}/add/", form)
        assert page.status_code == 200
        assert words in page.content, path
    for model in (Executor, Credential, Workflow, WorkflowBinding):
        assert not model.objects.exists()


def test_executors_are_removed_when_they_are_idle(client):
    one = sandbox()
    form = {"action": "remove", "_selected_action": [str(one.pk)]}
    assert client.post(f"{AT}/executor/", form).status_code == 302
    one.refresh_from_db()
    assert (one.status, one.removing) == ("draining", True)


def test_every_page_opens_and_tasks_are_only_looked_at(client):
    box = sandbox()
    Cooldown.objects.create(executor=box, reason="unhealthy")
    FamilyState.objects.create(name="sd", state="paused")
    flow = Workflow.objects.create(name="w", type="coze")
    WorkflowBinding.objects.create(action="a", workflow=flow)
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10_000_000, reason="test")
    body = {"items": [{"model": "sandbox-text", "input": {"prompt": "x"}}]}
    assert alice.post("/api/v1/batches", body).status_code == 201
    task, batch = Task.objects.get(), Batch.objects.get()
    for name in (
        "executor",
        "credential",
        "workflow",
        "workflowbinding",
        "cooldown",
        "familystate",
    ):
        assert client.get(f"{AT}/{name}/").status_code == 200, name
    for path in ("task/", "batch/", f"task/{task.pk}/change/", f"batch/{batch.pk}/change/"):
        assert client.get(f"/admin/tasks/{path}").status_code == 200, path
    assert client.get("/admin/tasks/task/?q=alice").status_code == 200
    assert client.post(f"/admin/tasks/task/{task.pk}/change/", {}).status_code == 403
    assert client.post(f"/admin/tasks/task/{task.pk}/delete/", {}).status_code == 403
