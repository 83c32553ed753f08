"""Who gets in: keys, tokens, sessions, fixed tokens; and everything that must not."""

import base64
import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from genpulse.auth import login, services, tokens
from genpulse.auth.keys import NewKey
from genpulse.auth.models import ApiKey, SpentToken, User
from genpulse.config import config
from genpulse.errors import InvalidCredentials
from genpulse.ids import new_id
from tests.integration.cast import Caller, caller, nobody

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]
WHO = "/api/v1/who"
PASSWORD = "correct horse battery"


def refused(headers: dict[str, str]) -> tuple[int, str]:
    answer = Caller(headers).get(WHO)
    if answer.status_code == 401:
        assert answer["WWW-Authenticate"] == "Bearer"
    return answer.status_code, answer.json().get("code", "")


@pytest.fixture(autouse=True)
def quick_passwords(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


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


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def forged(user: User) -> dict[str, str]:
    """Tokens that a careless verifier has taken at some time, somewhere."""
    now = int(time.time())
    good = {
        "iss": "genpulse",
        "aud": "genpulse",
        "sub": str(user.id),
        "jti": str(new_id()),
        "iat": now,
        "exp": now + 600,
        "use": "access",
        "pwd": tokens.password_mark(user),
    }
    key = tokens.signing_key()

    def signed(header: Any, claims: Any, secret: bytes = key, digest: str = "sha256") -> str:
        text = f"{encoded(header)}.{encoded(claims)}"
        return f"{text}.{encoded(hmac.digest(secret, text.encode(), digest))}"

    hs256 = {"alg": "HS256", "typ": "JWT"}
    header, claims, signature = signed(hs256, good).split(".")
    without = {
        f"no {name}": signed(hs256, {k: v for k, v in good.items() if k != name}) for name in good
    }
    assert jwt.decode(signed(hs256, good), key, algorithms=["HS256"], audience="genpulse")
    return {
        "alg none": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
        "alg None": f"{encoded({'alg': 'None', 'typ': 'JWT'})}.{claims}.",
        "alg nOnE, signed": signed({"alg": "nOnE", "typ": "JWT"}, good),
        "alg HS512": signed({"alg": "HS512", "typ": "JWT"}, good, digest="sha512"),
        "alg RS256": signed({"alg": "RS256", "typ": "JWT"}, good),
        "alg missing": signed({"typ": "JWT"}, good),
        "alg is a list": signed({"alg": ["HS256"], "typ": "JWT"}, good),
        "kid path": signed({**hs256, "kid": "../../dev/null"}, good),
        "kid SQL": signed({**hs256, "kid": "x' UNION SELECT 'k"}, good, b"k"),
        "jku": signed({**hs256, "jku": "http://evil.example/keys"}, good),
        "x5u": signed({**hs256, "x5u": "http://evil.example/cert"}, good),
        "jwk": signed({**hs256, "jwk": {"kty": "oct", "k": "AA"}}, good, b"\x00"),
        "crit": signed({**hs256, "crit": ["exp"]}, good),
        "b64 false": signed({**hs256, "b64": False, "crit": ["b64"]}, good),
        "zip": signed({**hs256, "zip": "DEF"}, good),
        "another typ": signed({"alg": "HS256", "typ": "at+jwt"}, good),
        "empty secret": signed(hs256, good, b""),
        "public secret": signed(hs256, good, b"secret"),
        "the settings' secret itself": signed(hs256, good, config.secret_key.encode()),
        "no signature": f"{header}.{claims}.",
        "signature of another": f"{header}.{encoded({**good, 'sub': str(new_id())})}.{signature}",
        "cut signature": f"{header}.{claims}.{signature[:-4]}",
        "four parts": f"{header}.{claims}.{signature}.{signature}",
        "two parts": f"{header}.{claims}",
        "another issuer": signed(hs256, {**good, "iss": "evil"}),
        "another audience": signed(hs256, {**good, "aud": "uploads"}),
        "a list of audiences": signed(hs256, {**good, "aud": ["other"]}),
        "a refresh token": signed(hs256, {**good, "use": "refresh"}),
        "an upload key": signed(hs256, {**good, "use": "upload", "scope": "upload"}),
        "expired": signed(hs256, {**good, "exp": now - 1}),
        "exp is text": signed(hs256, {**good, "exp": "never"}),
        "exp is endless": signed(hs256, {**good, "exp": 10**30}),
        "exp is null": signed(hs256, {**good, "exp": None}),
        "issued tomorrow": signed(hs256, {**good, "iat": now + 86400}),
        "not before tomorrow": signed(hs256, {**good, "nbf": now + 86400}),
        "subject by name": signed(hs256, {**good, "sub": user.name}),
        "subject is a number": signed(hs256, {**good, "sub": 1}),
        "unknown subject": signed(hs256, {**good, "sub": str(new_id())}),
        "SQL subject": signed(hs256, {**good, "sub": "' OR 1=1 --"}),
        "jti is no id": signed(hs256, {**good, "jti": "x"}),
        "an old password": signed(hs256, {**good, "pwd": hashlib.sha256().hexdigest()[:16]}),
        "claims are a list": signed(hs256, [good]),
        "claims are no JSON": f"{header}.{encoded(b'x')}.{signature}",
        "header is no JSON": f"eyJ.{claims}.{signature}",
        "role in the claims": signed(hs256, {**good, "role": "admin", "sub": str(new_id())}),
        **without,
    }


class TestForgedTokens:
    def test_none_is_taken(self, alice):
        table = forged(alice)
        assert len(table) > 40
        taken = {
            name: status
            for name, token in table.items()
            if (status := refused({"Authorization": f"Bearer {token}"})[0]) != 401
        }
        assert taken == {}

    def test_every_changed_byte_of_header_and_signature_is_noticed(self, alice):
        token = login.pair(alice).access
        body = token.index("."), token.rindex(".")
        positions = [*range(body[0]), *range(body[1] + 1, len(token) - 1)]
        for position in positions:
            other = "A" if token[position] != "A" else "B"
            changed = token[:position] + other + token[position + 1 :]
            with pytest.raises(InvalidCredentials):
                tokens.read(changed, "access")

    def test_a_token_in_another_scheme_is_none(self, alice):
        token = login.pair(alice).access
        assert refused({"Authorization": f"Bearer {token}x"})[0] == 401
        assert refused({"Authorization": f"Bearer {token}"}) == (200, "")


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
