"""Who gets in: keys, tokens, sessions, fixed tokens; and everything that must not."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from genpulse.auth import recent, services
from genpulse.auth.keys import NewKey
from genpulse.auth.models import ApiKey, User
from genpulse.config import config
from tests.integration.cast import Caller, nobody
from tests.integration.entrance import PASSWORD, WHO, refused

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]


@pytest.fixture
def alice() -> User:
    return services.create_user("alice", email="Alice@Example.com", password=PASSWORD)


class TestApiKeys:
    def test_all_ways_to_send_one(self, alice):
        _, text = services.create_key(alice, name="k")
        for headers in (
            {"Authorization": f"Bearer {text}"},
            {"Authorization": f"bearer {text}"},
            {"Authorization": f"Key {text}"},
            {"Authorization": f"Token {text}"},
            {"X-API-Key": text},
        ):
            assert Caller(headers).get(WHO).json()["user"] == "alice"

    def test_places_that_are_never_read(self, alice):
        _, text = services.create_key(alice, name="k")
        for path in (f"{WHO}?api_key={text}", f"{WHO}?token={text}", f"{WHO}?key={text}"):
            assert nobody().get(path, Referer=f"http://x/?api_key={text}").status_code == 401
        client = Client()
        client.cookies["api_key"] = client.cookies["gp_session"] = text
        assert client.get(WHO).status_code == 401

    def test_nobody(self):
        assert refused({}) == (401, "authentication_required")

    @pytest.mark.parametrize(
        "authorization",
        [
            "",
            "Bearer",
            "Bearer ",
            "Basic YTpi",
            "gp_live_x",
            "Bearer gp_live_x",
            "Bearer x",
            "Bearer é",
        ],
    )
    def test_what_is_no_credential(self, authorization):
        assert refused({"Authorization": authorization}) == (401, "invalid_credentials")

    def test_a_key_that_was_never_made(self):
        text = NewKey.generate().text
        assert refused({"X-API-Key": text}) == (401, "invalid_credentials")

    def test_the_right_lookup_with_another_secret(self, alice):
        key, _ = services.create_key(alice, name="k")
        other = NewKey.generate()
        ApiKey.objects.filter(pk=key.pk).update(lookup=other.lookup)
        assert refused({"X-API-Key": other.text}) == (401, "invalid_credentials")

    def test_expired(self, alice):
        _, text = services.create_key(
            alice, name="k", expires_at=timezone.now() - timedelta(seconds=1)
        )
        assert refused({"X-API-Key": text}) == (401, "token_expired")

    def test_revoked_here_at_once(self, alice):
        key, text = services.create_key(alice, name="k")
        client = Client(headers={"X-API-Key": text})
        assert client.get(WHO).status_code == 200
        services.revoke_key(key)
        assert client.get(WHO).status_code == 401
        first = ApiKey.objects.get().revoked_at
        services.revoke_key(key)
        assert ApiKey.objects.get().revoked_at == first

    def test_revoked_elsewhere_within_a_second(self, alice, monkeypatch):
        key, text = services.create_key(alice, name="k")
        client = Client(headers={"X-API-Key": text})
        assert client.get(WHO).status_code == 200
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
        assert client.get(WHO).status_code == 200
        later = time.monotonic() + 1
        monkeypatch.setattr(time, "monotonic", lambda: later)
        assert client.get(WHO).status_code == 401

    def test_a_key_seen_a_moment_ago_costs_no_query(self, alice, django_assert_num_queries):
        _, text = services.create_key(alice, name="k")
        client = Client(headers={"X-API-Key": text})
        client.get(WHO)
        with django_assert_num_queries(0):
            client.get(WHO)

    def test_the_memory_for_recent_rows_is_bounded(self, alice, monkeypatch):
        monkeypatch.setattr(recent, "MOST_ENTRIES", 3)
        for n in range(10):
            _, text = services.create_key(alice, name=f"k{n}")
            assert Client(headers={"X-API-Key": text}).get(WHO).status_code == 200
        assert len(recent._kept) <= 3

    def test_a_disabled_user(self, alice):
        _, text = services.create_key(alice, name="k")
        services.change_user(alice, {"is_active": False}, {})
        assert refused({"X-API-Key": text}) == (403, "account_disabled")

    @pytest.mark.parametrize(
        ("allowed", "address", "status"),
        [
            (["127.0.0.1"], "127.0.0.1", 200),
            (["10.0.0.0/8", "127.0.0.0/8"], "127.9.9.9", 200),
            (["127.0.0.1"], "::ffff:127.0.0.1", 200),
            (["2001:db8::/32"], "2001:db8::1", 200),
            (["10.0.0.0/8"], "127.0.0.1", 403),
            (["10.0.0.0/8"], "", 403),
            (["10.0.0.0/8"], "unknown", 403),
        ],
    )
    def test_allowed_addresses(self, alice, allowed, address, status):
        _, text = services.create_key(alice, name="k", allowed_ips=allowed)
        client = Client(headers={"X-API-Key": text}, REMOTE_ADDR=address)
        answer = client.get(WHO)
        assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "ip_not_allowed"

    def test_a_forwarded_address_is_not_believed(self, alice):
        _, text = services.create_key(alice, name="k", allowed_ips=["10.0.0.1"])
        answer = Caller({"X-API-Key": text}).get(WHO, X_Forwarded_For="10.0.0.1")
        assert answer.status_code == 403

    def test_use_is_noted_about_once_a_minute(self, alice):
        key, text = services.create_key(alice, name="k")
        me = Caller({"X-API-Key": text})
        me.get(WHO)
        key.refresh_from_db()
        first = key.last_used_at
        assert first is not None
        me.get(WHO)
        key.refresh_from_db()
        assert key.last_used_at == first
        ApiKey.objects.update(last_used_at=first - timedelta(seconds=61))
        me.get(WHO)
        key.refresh_from_db()
        assert key.last_used_at is not None
        assert key.last_used_at >= first

    def test_no_table_holds_a_key_in_clear(self, alice):
        _, text = services.create_key(alice, name="k")
        with connection.cursor() as cursor:
            cursor.execute("SELECT accounts_apikey::text FROM accounts_apikey")
            (row,) = cursor.fetchone()
        assert text[16:-6] not in row
        assert text[16:-6].encode().hex() not in row


class TestFixedTokens:
    @pytest.fixture(autouse=True)
    def configured(self, monkeypatch):
        monkeypatch.setattr(config, "admin_api_token", "a" * 40)
        monkeypatch.setattr(config, "service_api_token", "s" * 40)

    def test_the_admin_token(self):
        answer = Caller({"Authorization": f"Bearer {'a' * 40}"}).get("/api/v1/users")
        assert answer.status_code == 200
        assert User.objects.get().name == "admin"

    def test_the_service_token(self):
        service = Caller({"X-API-Key": "s" * 40})
        answer = service.post("/api/v1/notes", {"text": "a"}, X_GenPulse_User="carol")
        assert answer.status_code == 201
        assert service.get("/api/v1/users").status_code == 403

    def test_others(self, monkeypatch):
        assert refused({"X-API-Key": "a" * 39}) == (401, "invalid_credentials")
        monkeypatch.setattr(config, "admin_api_token", "")
        assert refused({"X-API-Key": ""}) == (401, "invalid_credentials")


def test_the_anonymous_user_of_development_is_for_dialects_only(monkeypatch):
    monkeypatch.setattr(config, "dev_anonymous_user", "demo")
    assert nobody().get("/api/auth/me").json()["username"] == "demo"
    assert nobody().get(WHO).status_code == 401
    monkeypatch.setattr(config, "environment", "production")
    assert nobody().get("/api/auth/me").status_code == 401
