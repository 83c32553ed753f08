"""Executors are looked at: health, login, inventory, and what follows for placement."""

import pytest

from admin_integrations import fleet, health, probes, vault
from admin_integrations.fleet import RouteView
from admin_integrations.models import Cooldown, Credential, Executor
from genpulse.events.models import Event
from genpulse.ids import new_id
from providers.base import Health
from providers.testing import CREDENTIAL
from tests.emulators.base import answered, as_fixture
from tests.emulators.comfyui import ComfyUI
from tests.emulators.openai import OpenAI

pytestmark = pytest.mark.django_db
openai = as_fixture(OpenAI)
comfy = as_fixture(ComfyUI)


def executor(kind, url, *, key=CREDENTIAL, bound_to=""):
    made = Executor.objects.create(name=f"{kind}-1", type=kind, base_url=url)
    if key:
        id_ = new_id()
        sealed = vault.encrypt(key, owner=id_)
        made.credentials.add(
            Credential.objects.create(
                id=id_, provider=kind, name="k", ciphertext=sealed, last4="0000", base_url=bound_to
            )
        )
    return made


def looked_at(made):
    assert probes.check(made.id)
    made.refresh_from_db()
    return made


def verdict(model):
    route = RouteView(id=1, family="openai", provider="openai", model=model)
    [answer] = fleet.current(0).verdicts(route)
    return answer.reason


def told():
    return list(Event.objects.filter(account=None).order_by("id").values_list("type", flat=True))


def test_a_vendor_that_is_well_says_what_it_has(openai):
    made = looked_at(executor("openai", openai.base, bound_to=openai.url))
    assert [made.login, "gpt-5" in made.known_models] == ["ok", True]
    assert made.checked_at
    assert [verdict("gpt-5"), verdict("gpt-unheard-of")] == ["eligible", "model_missing"]
    assert told() == []


def test_down_and_up_again(openai):
    made = executor("openai", openai.base)
    other = Executor.objects.create(name="openai-2", type="openai", base_url=openai.base)
    openai.next("GET", "/v1/models", answered(401), answered(503))
    looked_at(made)
    assert [made.login, Cooldown.objects.get().reason] == ["expired", "unhealthy"]
    reasons = {
        v.executor.name: v.reason
        for v in fleet.current(0).verdicts(
            RouteView(id=1, family="openai", provider="openai", model="gpt-5")
        )
    }
    assert reasons == {"openai-1": "unhealthy", "openai-2": "eligible"}
    looked_at(made)
    assert made.login == "expired"  # a 503 says nothing about the key
    looked_at(made)
    assert [made.login, Cooldown.objects.exists()] == ["ok", False]
    assert told() == ["executor.down", "executor.state", "executor.up", "executor.state"]
    assert other.checked_at is None


def test_a_session_that_ends_is_told_once_and_so_is_its_return(openai):
    """A server that lives on a log-in of its own has no key that anybody could change."""
    made = executor("gemini", openai.base, key=None)
    openai.next("GET", "/v1/models", answered(401), answered(401), answered(503))
    for _ in range(3):
        looked_at(made)
    health.failed(made.id, made.name, None, "gemini-2.5-flash", "bad_credentials")
    openai.next("GET", "/v1/models", *[answered(200, {"data": [{"id": "gemini-2.5-flash"}]})] * 4)
    looked_at(made)
    looked_at(made)
    assert made.login == "not_applicable"
    data = Event.objects.filter(type="executor.state").order_by("id").values_list("data", flat=True)
    assert list(data) == [
        {"executor": "gemini-1", "reason": "login_expired", "state": "expired"},
        {"executor": "gemini-1", "reason": "login_restored", "state": "ok"},
    ]
    route = RouteView(id=1, family="gemini", provider="gemini", model="gemini-2.5-flash")
    assert [v.reason for v in fleet.current(0).verdicts(route)] == ["eligible"]


def test_a_probe_does_not_hide_what_errors_have_shown(openai):
    made = executor("openai", openai.base)
    health.cool(made.id, None, "", "quota_exhausted", 3600)
    openai.next("GET", "/v1/models", answered(500))
    looked_at(made)
    looked_at(made)
    assert Cooldown.objects.get().reason == "quota_exhausted"
    assert told() == []


def test_a_busy_vendor_is_not_down(openai):
    made = executor("openai", openai.base)
    openai.next("GET", "/v1/models", answered(429))
    looked_at(made)
    assert not Cooldown.objects.exists()


def test_a_key_goes_to_its_own_address_only(openai):
    made = looked_at(executor("openai", openai.base, bound_to="https://api.openai.com/v1"))
    assert made.login == "expired"
    assert all(CREDENTIAL not in str(request.headers) for request in openai.journal)


def test_comfyui_says_nodes_version_and_files(comfy):
    made = looked_at(executor("comfyui", comfy.url, key=None))
    assert made.version == "0.3.64"
    assert "KSampler" in made.known_nodes
    assert made.known_models
    route = RouteView(id=1, family="sd", provider="comfyui", model="stable-diffusion-3")
    assert [v.reason for v in fleet.current(0).verdicts(route)] == ["eligible"]


def test_all_that_are_not_switched_off(monkeypatch, caplog):
    for name, more in (
        ("a", {}),
        ("off", {"status": "inactive"}),
        ("agent", {"dispatch": "pull"}),
        ("gone", {"type": "removed"}),
    ):
        Executor.objects.create(**{"name": name, "type": "sandbox", **more})
    assert probes.check_all() == 2
    seen = dict(Executor.objects.exclude(checked_at=None).values_list("name", "health_message"))
    assert seen == {
        "a": "The sandbox is part of GenPulse.",
        "gone": "There is no provider 'removed' here.",
    }
    assert not probes.check(new_id())

    def broken(self, executor):
        raise ZeroDivisionError

    monkeypatch.setattr("providers.adapters.sandbox.Sandbox.probe", broken)
    probes.check_all()
    assert "failed" in Executor.objects.get(name="a").health_message
    monkeypatch.setattr("providers.adapters.sandbox.Sandbox.probe", lambda *_: Health("down"))
    probes.check_all()
    assert Cooldown.objects.get().reason == "unhealthy"
