"""Users: who may see and change what; everything they start with."""

import pytest

from genpulse.auth import services
from genpulse.auth.models import Account, User
from genpulse.auth.signals import user_created
from genpulse.config import config
from genpulse.ids import new_id
from tests.integration.cast import Caller, caller, nobody
from wallet.services import balance

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]
KEYS, USERS, ME = "/api/v1/keys", "/api/v1/users", "/api/v1/me"


@pytest.fixture
def root() -> Caller:
    return caller("root", "admin")


class TestUsers:
    def test_create_show_change(self, root):
        body = {
            "name": "carol",
            "email": "Carol@Example.com",
            "password": "long enough",
            "max_waiting": 7,
            "budget": {"amount": 5, "window": "month"},
        }
        made = root.post(USERS, body)
        assert (made.status_code, made["Location"]) == (201, f"{USERS}/carol")
        user = made.json()
        assert b"long enough" not in made.content
        assert {k: v for k, v in user.items() if k not in {"id", "created_at", "updated_at"}} == {
            "name": "carol",
            "email": "carol@example.com",
            "role": "user",
            "status": "active",
            "uploads_blocked": False,
            "max_concurrency": None,
            "max_waiting": 7,
            "budget": {"amount": "5", "window": "month"},
        }
        assert root.get(f"{USERS}/carol").json() == user
        changed = root.patch(
            f"{USERS}/carol",
            {"budget": None, "max_concurrency": 3, "uploads_blocked": True, "role": "admin"},
        ).json()
        assert (changed["budget"], changed["max_concurrency"], changed["max_waiting"]) == (
            None,
            3,
            7,
        )
        assert (changed["uploads_blocked"], changed["role"]) == (True, "admin")
        assert changed["email"] == "carol@example.com"
        assert User.objects.get(name="carol").check_password("long enough")

    def test_a_patch_changes_what_it_names_and_nothing_else(self, root):
        root.post(USERS, {"name": "carol", "email": "c@example.com", "max_waiting": 7})
        changed = root.patch(
            f"{USERS}/carol", {"email": None, "password": "a new long one", "max_waiting": None}
        ).json()
        assert (changed["email"], changed["max_waiting"], changed["status"]) == (
            None,
            None,
            "active",
        )
        assert User.objects.get(name="carol").check_password("a new long one")
        root.post(USERS, {"name": "dave", "email": "d@example.com"})
        taken = root.patch(f"{USERS}/carol", {"email": "D@example.com", "role": "admin"})
        assert taken.json()["errors"][0]["field"] == "email"
        assert User.objects.get(name="carol").role == "user"

    def test_a_name_that_is_taken(self, root):
        assert root.post(USERS, {"name": "carol", "email": "c@example.com"}).status_code == 201
        for body, field in (
            ({"name": "carol"}, "name"),
            ({"name": "dave", "email": "C@example.com"}, "email"),
        ):
            answer = root.post(USERS, body)
            assert answer.status_code == 422
            assert answer.json()["errors"][0] == {
                "field": field,
                "code": "unique",
                "message": "is taken",
            }
        assert not Account.objects.filter(name="dave").exists()

    def test_creation_can_be_repeated_safely(self, root):
        answers = [root.post(USERS, {"name": "carol"}, Idempotency_Key="k") for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 201]
        assert answers[1]["Idempotency-Replayed"] == "true"
        assert answers[0].json() == answers[1].json()

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({}, "name", "required"),
            ({"name": "a b"}, "name", "format"),
            ({"name": ".."}, "name", "format"),
            ({"name": "x" * 129}, "name", "format"),
            ({"name": "c", "password": "short"}, "password", "too_short"),
            ({"name": "c", "role": "root"}, "role", "choice"),
            ({"name": "c", "email": "nowhere"}, "email", "format"),
            ({"name": "c", "is_staff": True}, "is_staff", "unknown"),
            ({"name": "c", "is_superuser": True}, "is_superuser", "unknown"),
            ({"name": "c", "id": str(new_id())}, "id", "unknown"),
            ({"name": "c", "account": "x"}, "account", "unknown"),
            ({"name": "c", "status": "active"}, "status", "unknown"),
            ({"name": "c", "balance": 1}, "balance", "unknown"),
            ({"name": "c", "weight": 100}, "weight", "unknown"),
        ],
    )
    def test_what_is_refused(self, root, body, field, code):
        answer = root.post(USERS, body)
        assert answer.status_code == 422
        assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]
        assert User.objects.count() == 1

    @pytest.mark.parametrize(
        "field", ["name", "id", "account", "created_at", "last_login", "weight"]
    )
    def test_what_no_patch_reaches(self, root, field):
        caller("alice")
        answer = root.patch(f"{USERS}/alice", {field: "x"})
        assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, "unknown")]

    def test_disabling_takes_effect_at_every_door(self, root):
        alice = caller("alice")
        assert root.patch(f"{USERS}/alice", {"status": "disabled"}).json()["status"] == "disabled"
        answer = alice.get(ME)
        assert (answer.status_code, answer.json()["code"]) == (403, "account_disabled")
        root.patch(f"{USERS}/alice", {"status": "active"})
        assert alice.get(ME).status_code == 200

    def test_unknown_users(self, root):
        for answer in (root.get(f"{USERS}/nobody"), root.patch(f"{USERS}/nobody", {})):
            assert answer.status_code == 404

    def test_the_list_pages_through_all(self, root):
        for n in range(3):
            caller(f"u{n}")
        page = root.get(f"{USERS}?limit=2&order=asc").json()
        rest = root.get(f"{USERS}?limit=2&order=asc&cursor={page['next_cursor']}").json()
        assert [u["name"] for u in page["items"] + rest["items"]] == ["root", "u0", "u1", "u2"]


class TestWhoMayDoWhat:
    """Every path x every caller. 404, never 403, for what belongs to somebody else."""

    MATRIX = {
        # (method, path): anonymous, owner, other user, service, reader, admin
        ("GET", ME): (401, 200, 200, 200, 200, 200),
        ("GET", KEYS): (401, 200, 200, 200, 403, 200),
        ("GET", f"{KEYS}/{{key}}"): (401, 200, 404, 404, 403, 200),
        ("DELETE", f"{KEYS}/{{key}}"): (401, 204, 404, 404, 403, 204),
        ("GET", f"{KEYS}/not-an-id"): (401, 404, 404, 404, 403, 404),
        ("POST", KEYS): (401, 201, 201, 201, 403, 201),
        ("GET", USERS): (401, 403, 403, 403, 403, 200),
        ("POST", USERS): (401, 403, 403, 403, 403, 422),
        ("GET", f"{USERS}/alice"): (401, 403, 403, 403, 403, 200),
        ("PATCH", f"{USERS}/alice"): (401, 403, 403, 403, 403, 200),
        ("POST", f"{USERS}/alice/keys"): (401, 403, 403, 403, 403, 201),
        ("GET", "/api/auth/me"): (401, 200, 200, 200, 200, 200),
    }

    @pytest.mark.parametrize("who", range(6))
    @pytest.mark.parametrize(("method", "path"), list(MATRIX))
    def test_matrix(self, method, path, who):
        alice = caller("alice", "keys", "tasks")
        key, _ = services.create_key(alice.user, name="own")
        actor = [
            nobody,
            lambda: alice,
            lambda: caller("bob", "keys", "tasks"),
            lambda: caller("shop", "act_as", "keys", "tasks"),
            lambda: caller("alice", "tasks:read"),
            lambda: caller("root", "admin"),
        ][who]()
        body = (
            {}
            if path != KEYS and not path.endswith("/keys")
            else {"name": "n", "scopes": ["tasks"]}
        )
        answer = actor(
            method, path.format(key=key.id), body if method in {"POST", "PATCH"} else None
        )
        assert answer.status_code == self.MATRIX[method, path][who]


class TestSignup:
    def test_new_users_get_their_credits_whoever_creates_them(self, root, monkeypatch):
        monkeypatch.setattr(config, "signup_credits", "2.5")
        root.post(USERS, {"name": "carol"})
        dave = services.get_or_create_user("dave")
        for user in (User.objects.get(name="carol"), dave):
            assert balance(user.account_id).available == 2_500_000
        services.get_or_create_user("dave")
        assert balance(dave.account_id).available == 2_500_000

    def test_a_receiver_that_fails_undoes_the_creation(self):
        def fail(**_: object) -> None:
            raise RuntimeError

        user_created.connect(fail)
        try:
            with pytest.raises(RuntimeError):
                services.create_user("carol")
            with pytest.raises(RuntimeError):
                services.get_or_create_user("carol")
        finally:
            user_created.disconnect(fail)
        assert not User.objects.exists()
        assert not Account.objects.exists()
