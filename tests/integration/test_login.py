"""Log-in, rotation, sessions, one-time links."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from genpulse.auth import login, services, tokens
from genpulse.auth.models import SpentToken, User
from genpulse.config import config
from genpulse.ids import new_id
from tests.integration.cast import Caller, caller, nobody
from tests.integration.crowd import at_once
from tests.integration.entrance import PASSWORD, WHO, refused

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]


@pytest.fixture
def alice() -> User:
    return services.create_user("alice", email="Alice@Example.com", password=PASSWORD)


class TestLogIn:
    def log_in(self, **body: str) -> Any:
        return nobody().post("/api/auth/login", body)

    @pytest.mark.parametrize(
        "who",
        [
            {"username": "alice"},
            {"email": "alice@example.com"},
            {"email": "ALICE@example.com"},
            {"username": "alice@example.com"},
        ],
    )
    def test_by_name_or_email(self, alice, who, clean_redis):
        answer = self.log_in(**who, password=PASSWORD)
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"accessToken", "tokenType", "expiresIn", "refreshToken", "role"}
        assert (body["tokenType"], body["expiresIn"], body["role"]) == ("bearer", 3600, "user")
        me = Caller({"Authorization": f"Bearer {body['accessToken']}"})
        assert me.get("/api/auth/me").json() == {
            "id": str(alice.id),
            "username": "alice",
            "email": "alice@example.com",
            "role": "user",
            "status": "active",
        }
        assert me.get(WHO).json()["user"] == "alice"

    @pytest.mark.parametrize(
        "body",
        [
            {"username": "alice", "password": "wrong"},
            {"username": "nobody", "password": PASSWORD},
            {"username": "alice@example.co", "password": PASSWORD},
        ],
    )
    def test_wrong_ones_are_told_apart_by_nothing(self, alice, body, clean_redis):
        answer = self.log_in(**body)
        assert answer.status_code == 401
        said = answer.json()
        assert (said["detail"], said["code"]) == (
            "Name or password is wrong.",
            "INVALID_CREDENTIALS",
        )
        assert set(said) == {"detail", "code", "request_id"}

    def test_a_user_without_password_cannot_log_in(self, clean_redis):
        services.get_or_create_user("shop")
        assert self.log_in(username="shop", password="").status_code == 422
        assert self.log_in(username="shop", password="!").status_code == 401

    def test_a_disabled_user(self, alice, clean_redis):
        services.change_user(alice, {"is_active": False}, {})
        answer = self.log_in(username="alice", password=PASSWORD)
        assert (answer.status_code, answer.json()["code"]) == (403, "USER_INACTIVE")
        assert self.log_in(username="alice", password="wrong").status_code == 401

    def test_missing_fields_are_said_the_way_of_the_door(self, clean_redis):
        answer = self.log_in(username="alice")
        assert answer.status_code == 422
        assert answer.json()["code"] == "VALIDATION_FAILED"
        assert answer.json()["detail"] == [
            {"loc": ["body", "password"], "msg": "Field required", "type": "missing"}
        ]
        assert self.log_in(password="x").json()["detail"][0]["loc"] == ["body", "username"]
        assert nobody()("POST", "/api/auth/login", b"{").status_code == 400

    def test_the_eleventh_attempt_in_a_minute_is_refused(self, alice, clean_redis):
        statuses = [self.log_in(username=f"u{n}", password="x" * 5).status_code for n in range(11)]
        assert statuses == [401] * 10 + [429]
        answer = self.log_in(username="alice", password=PASSWORD)
        assert (answer.status_code, answer.json()["code"]) == (429, "RATE_LIMITED")
        assert int(answer["Retry-After"]) >= 1

    def test_a_stale_credential_does_not_get_in_the_way(self, alice, clean_redis):
        stale = Caller({"Authorization": "Bearer gp_live_old"})
        answer = stale.post("/api/auth/login", {"username": "alice", "password": PASSWORD})
        assert answer.status_code == 200


class TestRefresh:
    def test_a_refresh_token_works_once(self, alice):
        first = login.pair(alice)
        answer = nobody().post("/api/auth/refresh", {"refreshToken": first.refresh})
        assert answer.status_code == 200
        second = answer.json()["refreshToken"]
        again = nobody().post("/api/auth/refresh", {"refreshToken": first.refresh})
        assert (again.status_code, again.json()["code"]) == (401, "INVALID_TOKEN")
        assert nobody().post("/api/auth/refresh", {"refresh_token": second}).status_code == 200

    def test_log_out_spends_it(self, alice):
        pair = login.pair(alice)
        me = Caller({"Authorization": f"Bearer {pair.access}"})
        answer = me.post("/api/auth/logout", {"refreshToken": pair.refresh})
        assert answer.json() == {"success": True}
        again = nobody().post("/api/auth/refresh", {"refreshToken": pair.refresh})
        assert again.status_code == 401

    def test_nobody_logs_others_out(self, alice):
        pair = login.pair(alice)
        bob = caller("bob")
        answer = bob.post("/api/auth/logout", {"refreshToken": pair.refresh})
        assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN_PAYLOAD")
        assert nobody().post("/api/auth/logout", {"refreshToken": pair.refresh}).json()["code"] == (
            "AUTHORIZATION_REQUIRED"
        )

    def test_tokens_are_not_taken_for_each_other(self, alice):
        pair = login.pair(alice)
        answer = nobody().post("/api/auth/refresh", {"refreshToken": pair.access})
        assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN_PAYLOAD")
        assert refused({"Authorization": f"Bearer {pair.refresh}"})[0] == 401

    def test_a_new_password_ends_every_log_in(self, alice):
        pair = login.pair(alice)
        services.change_user(alice, {"password": "another password"}, {})
        assert refused({"Authorization": f"Bearer {pair.access}"}) == (401, "invalid_credentials")
        answer = nobody().post("/api/auth/refresh", {"refreshToken": pair.refresh})
        assert answer.status_code == 401

    def test_expired_tokens(self, alice, monkeypatch):
        monkeypatch.setattr(config, "jwt_access_token_expires", -1)
        monkeypatch.setattr(config, "jwt_refresh_token_expires", -1)
        pair = login.pair(alice)
        assert refused({"Authorization": f"Bearer {pair.access}"}) == (401, "token_expired")
        answer = nobody().post("/api/auth/refresh", {"refreshToken": pair.refresh})
        assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_EXPIRED")

    def test_marks_of_expired_tokens_are_purged(self):
        now = datetime.now(UTC)
        for days in (-1, -2, 1):
            tokens.spend(new_id(), now + timedelta(days=days))
        assert tokens.purge_spent() == 2
        assert SpentToken.objects.count() == 1


class TestSessions:
    @pytest.fixture
    def client(self, alice) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.get(login.one_time_login_url(alice).removeprefix(config.base_url))
        return client

    def test_reading_needs_the_cookie_alone(self, client):
        assert client.get(WHO).json()["user"] == "alice"

    def test_writing_needs_the_csrf_token(self, client):
        answer = client.post(WHO, {}, content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")
        client.get("/admin/login/")
        token = client.cookies["csrftoken"].value
        answer = client.post(
            WHO, {}, content_type="application/json", headers={"X-CSRFToken": token}
        )
        assert answer.status_code == 200
        answer = client.post(
            WHO,
            {},
            content_type="application/json",
            headers={"X-CSRFToken": token, "Origin": "http://evil.example"},
        )
        assert answer.status_code == 403

    def test_a_key_beside_the_cookie_needs_none(self, client):
        key = caller("bob").headers
        assert client.post(WHO, {}, content_type="application/json", headers=key).status_code == 200

    def test_dialects_take_no_session(self, client):
        assert client.get("/api/auth/me").status_code == 401

    def test_a_disabled_user_is_out(self, client, alice):
        services.change_user(alice, {"is_active": False}, {})
        assert client.get(WHO).status_code == 401

    def test_the_cookie_is_guarded(self, client):
        cookie = client.cookies["gp_session"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"


class TestOneTimeLink:
    def test_it_works_once(self, alice):
        url = login.one_time_login_url(alice)
        assert url.startswith(config.base_url)
        path = url.removeprefix(config.base_url)
        answer = Client().get(path)
        assert (answer.status_code, answer["Location"]) == (302, "/console/")
        assert "gp_session" in answer.cookies
        again = Client().get(path)
        assert (again.status_code, again.json()["code"]) == (401, "invalid_credentials")
        assert "gp_session" not in again.cookies

    def test_it_may_lead_to_admin(self):
        root = services.create_user("root", role="admin")
        path = login.one_time_login_url(root, "/admin/").removeprefix(config.base_url)
        client = Client()
        assert client.get(path)["Location"] == "/admin/"
        assert client.get("/admin/").status_code == 200

    def test_it_leads_nowhere_else(self, alice):
        with pytest.raises(ValueError):
            login.one_time_login_url(alice, "http://evil.example/")

    def test_it_ends_after_15_minutes(self, alice, monkeypatch):
        path = login.one_time_login_url(alice).removeprefix(config.base_url)
        later = time.time() + 901
        monkeypatch.setattr("django.core.signing.time.time", lambda: later)
        assert Client().get(path).status_code == 401

    @pytest.mark.parametrize("value", ["x", "x:y:z", "W10:1tJ:AAAA"])
    def test_forged_links(self, value):
        assert Client().get(f"/login-link/{value}").status_code == 401

    def test_not_for_disabled_users(self, alice):
        path = login.one_time_login_url(alice).removeprefix(config.base_url)
        services.change_user(alice, {"is_active": False}, {})
        assert Client().get(path).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_parallel_refreshes_and_links_exactly_one_wins():
    user = services.create_user("alice")
    token = login.pair(user).refresh
    answers = at_once(20, lambda _: nobody().post("/api/auth/refresh", {"refreshToken": token}))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    path = login.one_time_login_url(user).removeprefix(config.base_url)
    links = at_once(20, lambda _: Client().get(path))
    assert sorted(answer.status_code for answer in links) == [302] + [401] * 19
