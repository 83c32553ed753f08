"""Who acts for whom, and who sees what."""

import pytest

from genpulse.auth.models import User
from genpulse.events.models import Event
from tests.integration.cast import caller, nobody

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]
UUID_FORM = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def alice():
    return caller("alice")


class TestActingForAUser:
    def test_a_service_creates_a_user_by_its_first_write(self):
        service = caller("shop", "act_as", "tasks")
        answer = service.post("/api/v1/notes", {"text": "hi"}, X_GenPulse_User="carol")
        assert answer.status_code == 201
        assert caller("carol").get("/api/v1/notes").json()["items"] == ["hi"]

    @pytest.mark.parametrize("body", [{"text": "poor"}, {"text": ""}, {"text": "secret"}])
    def test_a_refused_first_write_creates_none(self, body):
        service = caller("shop", "act_as", "tasks")
        service.post("/api/v1/notes", body, X_GenPulse_User="carol")
        assert not User.objects.filter(name="carol").exists()

    def test_a_read_for_an_unknown_name_shows_a_user_without_data(self):
        service = caller("shop", "act_as", "tasks")
        assert service.get("/api/v1/notes?user=carol").json()["items"] == []
        assert service.get("/api/v1/notes", X_GenPulse_User="carol").json()["items"] == []
        assert not User.objects.filter(name="carol").exists()

    def test_others_may_name_only_themselves(self, alice):
        User.objects.filter(name="alice").update(email="alice@example.com")
        own = ["alice", str(alice.user.id), "alice@example.com", "Alice@example.com"]
        for name in own:
            assert alice.get("/api/v1/who", X_GenPulse_User=name).json()["user"] == "alice"
        for name in ("bob", "carol", "not a name"):
            answer = alice.get("/api/v1/who", X_GenPulse_User=name)
            assert (answer.status_code, answer.json()["code"]) == (403, "user_mismatch")
        assert alice.get("/api/v1/notes?user=bob").status_code == 403

    @pytest.mark.parametrize("name", [".x", "-x", "a..b", "a b", "a/b", "x" * 129, "a\u00a0b"])
    def test_names_that_no_user_can_have(self, name):
        service = caller("shop", "act_as", "tasks")
        answer = service.get("/api/v1/who", X_GenPulse_User=name)
        assert answer.status_code == (400 if not name.isascii() else 422)
        fields = [error["field"] for error in answer.json()["errors"]]
        assert fields == (["X-GenPulse-User"] if name.isascii() else [])
        answer = service.get(f"/api/v1/notes?user={name}", X_GenPulse_User="carol")
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "user")

    def test_an_unreadable_name_is_a_malformed_header(self):
        service = caller("shop", "act_as", "tasks")
        answer = service.get("/api/v1/who", X_GenPulse_User=" ")
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_header")

    def test_nobody_acts_for_a_disabled_user(self):
        service = caller("shop", "act_as", "tasks")
        caller("bob")
        User.objects.filter(name="bob").update(is_active=False)
        answer = service.get("/api/v1/who", X_GenPulse_User="bob")
        assert (answer.status_code, answer.json()["code"]) == (403, "account_disabled")

    def test_who_sees_what(self, alice):
        bob, root = caller("bob"), caller("root", "admin")
        service = caller("shop", "act_as", "tasks")
        alice.post("/api/v1/notes", {"text": "of alice"})
        bob.post("/api/v1/notes", {"text": "of bob"})
        own = Event.objects.get(account__name="alice")
        lists = {
            alice: ["of alice"],
            bob: ["of bob"],
            service: [],
            root: ["of bob", "of alice"],
        }
        for who, items in lists.items():
            assert who.get("/api/v1/notes").json()["items"] == items
        assert root.get("/api/v1/notes?user=alice").json()["items"] == ["of alice"]
        seen = {alice: 200, bob: 404, service: 200, root: 200, nobody(): 401}
        for who, status in seen.items():
            assert who.get(f"/api/v1/notes/{own.id}").status_code == status
        for_bob = service.get(f"/api/v1/notes/{own.id}", X_GenPulse_User="bob")
        assert for_bob.status_code == 404


def test_scopes_are_asked_for_by_method():
    reader = caller("alice", "tasks:read")
    assert reader.get("/api/v1/notes").status_code == 200
    assert reader("HEAD", "/api/v1/notes").status_code == 200
    answer = reader.post("/api/v1/notes", {"text": "a"})
    assert (answer.status_code, answer.json()["code"], answer.json()["scope"]) == (
        403,
        "scope_missing",
        "tasks",
    )
    assert caller("alice", "media").get("/api/v1/notes").status_code == 403
    assert caller("alice", "admin").post("/api/v1/notes", {"text": "a"}).status_code == 201
    assert caller("alice", "media").get("/api/v1/who").status_code == 200
