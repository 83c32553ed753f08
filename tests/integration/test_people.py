"""`me`, keys and users: who may see and change what, and what no answer ever shows."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from genpulse.auth import login, services
from genpulse.auth.models import Account, ApiKey, User
from genpulse.auth.signals import user_created
from genpulse.config import config
from genpulse.ids import new_id
from tests.integration.cast import Caller, caller, nobody
from tests.integration.crowd import at_once
from wallet.services import balance

pytestmark = pytest.mark.django_db
KEYS, USERS, ME = "/api/v1/keys", "/api/v1/users", "/api/v1/me"


@pytest.fixture(autouse=True)
def quick_passwords(settings, clean_redis):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice() -> Caller:
    return caller("alice", "keys", "tasks", "media")


@pytest.fixture
def root() -> Caller:
    return caller("root", "admin")


class TestMe:
    def test_of_a_key(self):
        alice = caller("alice", "tasks", max_concurrency=2)
        me = alice.get(ME).json()
        assert set(me) == {"user", "credential", "wallet", "limits"}
        assert {name: me["user"][name] for name in ("name", "email", "role", "status")} == {
            "name": "alice",
            "email": None,
            "role": "user",
            "status": "active",
        }
        assert me["credential"] == {
            "type": "api_key",
            "id": str(alice.key.id),
            "name": "test",
            "scopes": ["tasks"],
        }
        assert me["wallet"] == {
            "user": "alice",
            "currency": "credits",
            "available": "0",
            "held": "0",
            "total": "0",
            "deposited": "0",
            "charged": "0",
        }
        assert me["limits"] == {
            "max_waiting": 10000,
            "max_concurrency": None,
            "key_max_concurrency": 2,
            "rate_write": 6000,
            "rate_read": 12000,
        }

    def test_own_limits_come_before_the_general_ones(self, root, monkeypatch):
        monkeypatch.setattr(config, "max_concurrency_per_user", 9)
        caller("alice")
        root.patch(f"{USERS}/alice", {"max_waiting": 5})
        limits = root.get(ME, X_GenPulse_User="alice").json()["limits"]
        assert (limits["max_waiting"], limits["max_concurrency"]) == (5, 9)
        assert (limits["rate_write"], limits["rate_read"]) == (None, None)

    def test_of_a_log_in(self):
        user = services.create_user("alice", password="long enough")
        token = login.pair(user).access
        me = Caller({"Authorization": f"Bearer {token}"}).get(ME).json()
        assert me["credential"]["type"] == "jwt"
        assert set(me["credential"]["scopes"]) == {
            "tasks",
            "tasks:read",
            "media",
            "media:read",
            "wallet",
            "wallet:read",
            "webhooks",
            "keys",
        }
        services.change_user(user, {"role": "admin"}, {})
        me = Caller({"Authorization": f"Bearer {token}"}).get(ME).json()
        assert "admin" in me["credential"]["scopes"]

    def test_of_nobody(self):
        assert nobody().get(ME).status_code == 401


class TestKeys:
    def test_the_secret_is_shown_once(self, alice):
        made = alice.post(KEYS, {"name": "ci", "scopes": ["tasks"]})
        assert made.status_code == 201
        key = made.json()
        text = key.pop("key")
        assert Caller({"X-API-Key": text}).get(ME).status_code == 200
        assert alice.get(f"{KEYS}/{key['id']}").json() | {"last_used_at": None} == key
        for answer in (alice.get(KEYS), alice.get(f"{KEYS}/{key['id']}")):
            assert text.encode() not in answer.content
            assert text[16:-6].encode() not in answer.content
            assert b'"key"' not in answer.content

    def test_the_whole_object(self, alice):
        until = (timezone.now() + timedelta(days=1)).isoformat()
        key = alice.post(
            KEYS,
            {
                "name": "ci",
                "scopes": ["tasks:read"],
                "expires_at": until,
                "allowed_ips": ["10.1.2.3/8", "::1"],
                "models": ["sandbox-*"],
                "budget": {"amount": "12.50", "window": "day"},
                "max_concurrency": 3,
            },
        ).json()
        assert key["expires_at"].endswith("Z")
        assert {name: key[name] for name in list(key)[1:12] if name != "expires_at"} == {
            "name": "ci",
            "user": "alice",
            "prefix": key["key"][:16],
            "last4": key["key"][-4:],
            "scopes": ["tasks:read"],
            "allowed_ips": ["10.0.0.0/8", "::1/128"],
            "models": ["sandbox-*"],
            "budget": {"amount": "12.5", "window": "day"},
            "max_concurrency": 3,
            "created_at": key["created_at"],
        }

    @pytest.mark.parametrize(
        ("body", "field", "code"),
        [
            ({}, "name", "required"),
            ({"name": ""}, "name", "empty"),
            ({"name": "x" * 65}, "name", "too_long"),
            ({"name": "a", "scopes": []}, "scopes", "empty"),
            ({"name": "a", "scopes": ["tasks", "root"]}, "scopes.1", "choice"),
            ({"name": "a", "scopes": "tasks"}, "scopes", "type"),
            ({"name": "a", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "too_small"),
            ({"name": "a", "expires_at": "2090-01-01"}, "expires_at", "format"),
            ({"name": "a", "allowed_ips": ["10.0.0.0/40"]}, "allowed_ips.0", "format"),
            ({"name": "a", "allowed_ips": ["localhost"]}, "allowed_ips.0", "format"),
            ({"name": "a", "models": [""]}, "models.0", "empty"),
            ({"name": "a", "budget": {"amount": 0, "window": "day"}}, "budget.amount", "too_small"),
            ({"name": "a", "budget": {"amount": 1, "window": "year"}}, "budget.window", "choice"),
            ({"name": "a", "max_concurrency": 0}, "max_concurrency", "too_small"),
            ({"name": "a", "user": "root"}, "user", "unknown"),
            ({"name": "a", "digest": "x"}, "digest", "unknown"),
            ({"name": "a", "revoked_at": None}, "revoked_at", "unknown"),
            ({"name": "a", "user_id": str(new_id())}, "user_id", "unknown"),
        ],
    )
    def test_what_is_refused(self, alice, body, field, code):
        answer = alice.post(KEYS, body)
        assert answer.status_code == 422
        assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]
        assert ApiKey.objects.count() == 1

    def test_nobody_gives_more_than_they_have(self, alice):
        for scope in ("wallet", "admin", "act_as", "webhooks"):
            answer = alice.post(KEYS, {"name": "more", "scopes": ["tasks", scope]})
            assert (answer.status_code, answer.json()["scope"]) == (403, scope)
        assert alice.post(KEYS, {"name": "less", "scopes": ["tasks:read"]}).status_code == 201
        assert caller("bob", "tasks").post(KEYS, {"name": "a"}).json()["scope"] == "keys"

    def test_the_default_scopes(self):
        user = services.create_user("alice")
        me = Caller({"Authorization": f"Bearer {login.pair(user).access}"})
        assert me.post(KEYS, {"name": "a"}).json()["scopes"] == [
            "media",
            "tasks",
            "wallet:read",
            "webhooks",
        ]

    def test_an_idempotency_key_is_ignored_where_secrets_are_answered(self, alice):
        body = {"name": "a", "scopes": ["tasks"]}
        keys = {alice.post(KEYS, body, Idempotency_Key="k").json()["key"] for _ in range(2)}
        assert len(keys) == 2

    def test_a_revoked_key_stays_listed(self, alice):
        key = alice.post(KEYS, {"name": "a", "scopes": ["tasks"]}).json()
        assert alice.delete(f"{KEYS}/{key['id']}").status_code == 204
        assert Caller({"X-API-Key": key["key"]}).get(ME).status_code == 401
        assert alice.get(f"{KEYS}/{key['id']}").json()["revoked_at"]
        assert alice.delete(f"{KEYS}/{key['id']}").status_code == 204

    def test_an_admin_makes_keys_for_others_with_any_scope(self, root):
        answer = root.post(f"{USERS}/root/keys", {"name": "svc", "scopes": ["act_as", "tasks"]})
        assert (answer.status_code, answer.json()["user"]) == (201, "root")
        answer = root.post(KEYS, {"name": "a"}, X_GenPulse_User="carol")
        assert (answer.status_code, answer.json()["user"]) == (201, "carol")
        assert root.post(f"{USERS}/nobody/keys", {"name": "a"}).status_code == 404

    def test_a_service_reaches_nobodys_keys(self):
        alice, service = caller("alice"), caller("shop", "act_as", "keys", "tasks")
        own = f"{KEYS}/{alice.key.id}"
        assert service.get(own).status_code == 404
        assert service.delete(own, X_GenPulse_User="alice").status_code == 404
        body = {"name": "a", "scopes": ["tasks"]}
        assert service.post(KEYS, body, X_GenPulse_User="alice").status_code == 403
        assert service.get(f"{KEYS}?user=alice").json()["items"] == []
        assert service.post(KEYS, body).status_code == 201


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


@pytest.mark.django_db(transaction=True)
def test_of_parallel_refreshes_and_links_exactly_one_wins():
    user = services.create_user("alice")
    token = login.pair(user).refresh
    answers = at_once(20, lambda _: nobody().post("/api/auth/refresh", {"refreshToken": token}))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    path = login.one_time_login_url(user).removeprefix(config.base_url)
    links = at_once(20, lambda _: Client().get(path))
    assert sorted(answer.status_code for answer in links) == [302] + [401] * 19


class TestAdminPages:
    @pytest.fixture
    def client(self) -> Client:
        root = services.create_user("root", role="admin", password="long enough")
        client = Client()
        client.get(login.one_time_login_url(root).removeprefix(config.base_url))
        return client

    def test_only_admins_get_in(self):
        services.create_user("alice", password="long enough")
        services.create_user("root", role="admin", password="long enough")
        client = Client()
        for name, status in (("alice", 200), ("root", 302)):
            form = {"username": name, "password": "long enough"}
            assert client.post("/admin/login/", form).status_code == status

    def test_attempts_are_limited(self, clean_redis):
        form = {"username": "root", "password": "guess"}
        statuses = [Client().post("/admin/login/", form).status_code for _ in range(11)]
        assert statuses == [200] * 10 + [429]

    def test_pages_show_no_secret(self, client):
        key = caller("alice").key
        for path in (
            "/admin/",
            "/admin/accounts/user/",
            "/admin/accounts/account/",
            "/admin/accounts/apikey/",
            f"/admin/accounts/apikey/{key.pk}/change/",
        ):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert bytes(key.digest).hex().encode() not in answer.content
            assert b"digest" not in answer.content

    def test_a_user_is_created_and_changed(self, client):
        form = {"name": "carol", "email": "C@x.io", "role": "user", "is_active": "on"}
        answer = client.post("/admin/accounts/user/add/", {**form, "new_password": "long enough"})
        assert answer.status_code == 302
        carol = User.objects.get(name="carol")
        assert (carol.account.name, carol.email) == ("carol", "c@x.io")
        assert carol.check_password("long enough")
        url = f"/admin/accounts/user/{carol.pk}/change/"
        assert client.post(url, {**form, "role": "admin"}).status_code == 302
        carol.refresh_from_db()
        assert (carol.role, carol.check_password("long enough")) == ("admin", True)
        client.post(url, {**form, "new_password": "another one"})
        carol.refresh_from_db()
        assert carol.check_password("another one")
        bad = client.post("/admin/accounts/user/add/", {**form, "name": "a b"})
        assert b"not beginning with" in bad.content

    def test_keys_are_revoked(self, client):
        alice = caller("alice")
        client.post(
            "/admin/accounts/apikey/",
            {"action": "revoke", "_selected_action": [str(alice.key.pk)]},
        )
        assert alice.get(ME).status_code == 401
