"""Django admin's pages of people: for admins, without secrets, with as few guesses as any door."""

import pytest
from django.test import Client

from genpulse.auth import login, services
from genpulse.auth.models import User
from genpulse.config import config
from tests.integration.cast import Caller, caller

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clean_redis")]
KEYS, USERS, ME = "/api/v1/keys", "/api/v1/users", "/api/v1/me"


@pytest.fixture
def root() -> Caller:
    return caller("root", "admin")


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
