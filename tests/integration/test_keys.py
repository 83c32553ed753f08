"""`me` and keys: what no answer shows twice, what nobody can give away."""

from datetime import timedelta

import pytest
from django.utils import timezone

from genpulse.auth import login, services
from genpulse.auth.models import ApiKey
from genpulse.auth.signals import access_ended
from genpulse.config import config
from genpulse.ids import new_id
from tests.integration.cast import Caller, caller, nobody

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]
KEYS, USERS, ME = "/api/v1/keys", "/api/v1/users", "/api/v1/me"


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

    def test_whoever_keeps_connections_open_hears_of_the_end(
        self, alice, django_capture_on_commit_callbacks
    ):
        heard = []

        def hear(sender, **said):
            heard.append((said["user_id"], said["key_id"]))

        access_ended.connect(hear)
        with django_capture_on_commit_callbacks(execute=True):
            alice.delete(f"{KEYS}/{alice.key.id}")
            services.change_user(alice.user, {"email": "a@example.com"}, {})
            services.change_user(alice.user, {"is_active": False}, {})
        access_ended.disconnect(hear)
        assert heard == [(alice.user.id, alice.key.id), (alice.user.id, None)]

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
