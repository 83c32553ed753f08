"""The console below the browser: who gets in and as what, what its fragments say, and what they never do."""

import re
import shlex
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from genpulse.auth import services
from genpulse.auth.login import one_time_login_url
from genpulse.config import config
from genpulse.console.requests import Wish
from tasks.models import Status, Task
from tests.integration.cast import Caller, caller
from tests.integration.floor import rich
from tests.integration.stack import sandbox

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]
HTML = {"Accept": "text/html"}
CONSOLE, RUNS = "/console/", "/console/runs"


@pytest.fixture
def alice() -> Caller:
    sandbox()
    return rich("alice")


@pytest.fixture
def client(alice: Caller) -> Client:
    """Alice's browser."""
    return entered(alice)


def entered(who: Caller) -> Client:
    client = Client(raise_request_exception=False)
    client.get(one_time_login_url(who.user).removeprefix(config.base_url))
    return client


def form(prompt: str = "a red kite", *models: str) -> dict[str, Any]:
    return {"prompt": prompt, "models": list(models or ["sandbox-text"])}


def send(client: Client, path: str, fields: dict[str, Any]) -> Any:
    """As a browser sends a form."""
    return client.post(path, urlencode(fields, doseq=True), "application/x-www-form-urlencoded")


def key_session(*scopes: str, name: str = "bob") -> tuple[Client, Caller]:
    client, who = Client(), caller(name, *scopes)
    key = who.headers["Authorization"].removeprefix("Bearer ")
    assert client.post("/console/sign-in", {"key": key}).status_code == 302
    return client, who


class TestTheWayIn:
    @pytest.mark.parametrize("path", ["/", "/console", CONSOLE])
    def test_strangers_are_asked_who_they_are(self, path: str) -> None:
        answer = Client().get(path, headers=HTML)
        assert answer.status_code == 200
        assert b"With an API key" in answer.content
        assert "csrftoken" in answer.cookies

    def test_pages_run_nothing_foreign(self, client: Client) -> None:
        for page in (client.get(CONSOLE), Client().get(CONSOLE)):
            policy = page["Content-Security-Policy"]
            assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
            assert "unsafe" not in policy
            assert page["Cache-Control"] == "no-store"
            said = page.content.decode()
            assert re.findall(r"<script(?![^>]* src=\"/static/)|<style| style=| on\w+=", said) == []
            assert "gp_live_" not in said.replace("gp_live_…", "")

    def test_by_password(self) -> None:
        services.create_user("carol", password="correct horse battery")
        client = Client()
        wrong = client.post("/console/sign-in", {"name": "carol", "password": "wrong"})
        assert wrong.status_code == 401
        assert b"Name or password is wrong." in wrong.content
        given = {"name": "carol", "password": "correct horse battery"}
        assert client.post("/console/sign-in", given)["Location"] == CONSOLE
        assert b"carol" in client.get(CONSOLE).content
        assert client.post("/console/sign-out").status_code == 302
        assert b"With an API key" in client.get(CONSOLE).content

    def test_forms_need_their_token(self, alice: Caller) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = entered(alice).cookies
        assert strict.post("/console/sign-in", {"key": "x"}).status_code == 403
        assert strict.post("/console/sign-out").status_code == 403
        assert send(strict, RUNS, form()).status_code == 403
        assert not Task.objects.exists()

    def test_a_used_link_says_so_and_shows_the_way_in(self, alice: Caller) -> None:
        path = one_time_login_url(alice.user).removeprefix(config.base_url)
        Client().get(path)
        again = Client().get(path, headers=HTML)
        assert again.status_code == 401
        assert b"was used before" in again.content
        assert b"With an API key" in again.content

    def test_a_fragment_without_a_session_leads_to_the_way_in(self) -> None:
        answer = Client().get("/console/tasks")
        assert (answer.status_code, answer["HX-Redirect"]) == (401, CONSOLE)


class TestKeys:
    def test_no_more_than_the_key_may(self, alice: Caller) -> None:
        client, _ = key_session("tasks:read")
        assert b"credits" not in client.get(CONSOLE).content.split(b"<main")[0]
        assert client.get("/console/balance").status_code == 403
        refused = send(client, RUNS, form())
        assert refused.status_code == 403
        assert b"scope tasks" in refused.content
        asked = send(client, "/console/preview", form())
        assert asked.status_code == 200
        assert b"scope tasks" in asked.content
        assert not Task.objects.exists()

    def test_a_key_of_an_admin_is_no_admin(self) -> None:
        services.create_user("root", role="admin")
        client, _ = key_session("tasks", name="root")
        assert client.get("/admin/").status_code == 302
        assert client.get("/api/v1/queues").status_code == 403
        assert client.post("/api/v1/keys", {}, "application/json").status_code == 403

    def test_it_ends_with_the_key(self) -> None:
        client, who = key_session("tasks")
        assert client.get("/console/tasks").status_code == 200
        services.revoke_key(who.key)
        assert client.get("/console/tasks").status_code == 401
        assert b"revoked" in client.get(CONSOLE).content

    @pytest.mark.parametrize("text", ["", "x", "gp_live_" + "0" * 57, "eyJhbGciOiJIUzI1NiJ9.e30.x"])
    def test_what_is_no_key(self, text: str) -> None:
        answer = Client().post("/console/sign-in", {"key": text})
        assert answer.status_code == 401
        assert "gp_session" not in answer.cookies


class TestWork:
    def test_one_model_is_a_task(self, client: Client, alice: Caller) -> None:
        answer = send(client, RUNS, form())
        assert answer.status_code == 200
        task = Task.objects.get()
        assert (task.source, task.account.name, task.batch_id) == ("console", "alice", None)
        assert task.stream
        assert f'data-task="{task.id}"' in answer.content.decode()

    def test_several_are_a_batch_side_by_side(self, client: Client) -> None:
        said = send(client, RUNS, form("hi", "sandbox-text", "sandbox-image")).content.decode()
        tasks = Task.objects.order_by("batch_index")
        assert [task.model for task in tasks] == ["sandbox-text", "sandbox-image"]
        assert len({task.batch_id for task in tasks}) == 1
        assert re.findall('data-task="(.*?)"', said) == [str(task.id) for task in tasks]
        assert said in client.get(CONSOLE).content.decode()

    def test_what_is_typed_stays_text(self, client: Client) -> None:
        send(client, RUNS, form("<script>alert(1)</script>"))
        said = client.get(CONSOLE).content.decode()
        assert "<script>alert" not in said
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said

    def test_refusals_say_what_to_do(self, client: Client) -> None:
        assert b"write what you want to have" in send(client, RUNS, form("  ")).content
        assert b"choose at least one model" in send(client, RUNS, {"prompt": "hi"}).content
        poor = send(entered(caller("poor")), RUNS, form())
        assert poor.status_code == 402
        assert b"Not enough credits." in poor.content
        assert not Task.objects.exists()

    def test_cancel_and_retry(self, client: Client) -> None:
        send(client, RUNS, form())
        first = Task.objects.get()
        said = client.post(f"/console/tasks/{first.id}/cancel").content.decode()
        assert 'data-status="canceled"' in said
        client.post(f"/console/tasks/{first.id}/retry")
        assert Task.objects.get(retry_of=first.id).source == "console"
        assert client.post(f"/console/tasks/{first.id}/promote").status_code == 404

    def test_not_with_tasks_of_others(self, client: Client) -> None:
        send(client, RUNS, form())
        id_, bob = Task.objects.get().id, entered(caller("bob"))
        assert bob.get(f"/console/tasks/{id_}").status_code == 404
        assert bob.post(f"/console/tasks/{id_}/cancel").status_code == 404
        assert str(id_) not in bob.get(CONSOLE).content.decode()
        assert Task.objects.get().status == Status.QUEUED

    def test_the_list_is_filtered_and_has_pages(self, client: Client) -> None:
        for n in range(10):
            send(client, RUNS, form(f"kite {n}"))
        first = client.get("/console/tasks?status=queued,blocked").content.decode()
        assert re.findall(r"kite \d", first) == [f"kite {n}" for n in range(9, 1, -1)]
        older = re.search(r'id="tasks-older".*?hx-get="(.*?)"', first)
        assert older
        second = client.get(older[1].replace("&amp;", "&")).content.decode()
        assert re.findall(r"kite \d", second) == ["kite 1", "kite 0"]
        assert "tasks-older" not in second
        assert b"No such tasks." in client.get("/console/tasks?status=failed,expired").content
        assert client.get("/console/tasks?status=nonsense").status_code == 422

    def test_the_balance(self, client: Client) -> None:
        send(client, RUNS, form("hi", "sandbox-image"))
        assert client.get("/console/balance").content.decode().startswith("<strong>99</strong>")


class TestTheSameFromAProgram:
    def test_the_command_sends_what_the_form_sends(self) -> None:
        wish = Wish(prompt='it\'s $HOME & "more"', models=["a-model"])
        words = shlex.split(wish.curl("http://here"))
        assert words[:2] == ["curl", "http://here/api/v1/tasks"]
        assert words[-1] == '{"model": "a-model", "input": {"prompt": "it\'s $HOME & \\"more\\""}}'

    def test_it_is_shown_with_the_price(self, client: Client) -> None:
        said = send(client, "/console/preview", form("", "sandbox-image", "sandbox-text"))
        assert b"http://testserver/api/v1/batches" in said.content
        assert b"<b>1.1</b> credits for 2" in said.content
        assert not Task.objects.exists()

    def test_a_form_that_is_not_finished_is_no_error(self, client: Client) -> None:
        answer = send(client, "/console/preview", {"prompt": "hi"})
        assert answer.status_code == 200
        assert b"Choose at least one model" in answer.content

    def test_its_paths_are_no_api(self, client: Client) -> None:
        assert "/console/runs" not in client.get("/openapi.json").json()["paths"]
