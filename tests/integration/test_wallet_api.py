"""The wallet's and the price list's doors. Alice owns, Bob is a stranger, root runs the place."""

import csv
import io
import time
from typing import Any

import pytest
from django.test import Client

from genpulse.auth import services as users
from genpulse.auth.models import User
from genpulse.ids import new_id
from genpulse.money import MICRO
from tests.integration.wallet_cast import breaches, frozen, has
from wallet import pricing, rules, services
from wallet.models import PriceRule
from wallet.services import Settlement

pytestmark = pytest.mark.django_db
JSON = "application/json"


def client_of(user: User, *scopes: str) -> Client:
    _, text = users.create_key(user, name="test", scopes=scopes or ("wallet",))
    return Client(headers={"Authorization": f"Bearer {text}"})


@pytest.fixture
def alice() -> User:
    return users.create_user("alice")


@pytest.fixture
def root() -> User:
    return users.create_user("root", role="admin")


@pytest.fixture
def admin(root) -> Client:
    return client_of(root, "admin")


@pytest.fixture(autouse=True)
def fresh_prices():
    rules.cache.forget()
    yield
    rules.cache.forget()


def post(client: Client, path: str, body: dict[str, Any], **headers: str) -> Any:
    return client.post(path, body, content_type=JSON, headers=headers)


def test_the_balance(alice):
    services.deposit(alice.account_id, 100 * MICRO, reason="gift")
    services.settle([Settlement(frozen(alice.account, 12), 10_500_000)])
    frozen(alice.account, 2)

    answer = client_of(alice, "wallet:read").get("/api/v1/wallet")

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json() == {
        "user": "alice",
        "currency": "credits",
        "available": "87.5",
        "held": "2",
        "total": "89.5",
        "deposited": "100",
        "charged": "10.5",
    }


def test_an_unknown_user_has_an_empty_wallet_and_is_not_created(root):
    answer = client_of(root, "act_as", "wallet").get("/api/v1/wallet?user=nobody")
    assert (answer.json()["user"], answer.json()["available"]) == ("nobody", "0")
    assert users.find_user("nobody") is None


def test_only_those_who_may_look_at_others_do(alice, root):
    bob = users.create_user("bob")
    assert client_of(bob).get("/api/v1/wallet?user=alice").status_code == 403
    assert client_of(root, "admin").get("/api/v1/wallet?user=alice").status_code == 200
    assert client_of(bob, "tasks").get("/api/v1/wallet").json()["code"] == "scope_missing"
    assert Client().get("/api/v1/wallet").status_code == 401


def test_a_deposit_to_a_new_name_makes_the_user(admin):
    body = {"user": "carol", "amount": "12.5", "reason": "invoice 7", "reference": "inv-7"}

    made = post(admin, "/api/v1/wallet/deposits", body)
    again = post(admin, "/api/v1/wallet/deposits", body | {"amount": 99})

    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json() == again.json()
    shown = made.json()
    assert shown.pop("id")
    assert shown.pop("at").endswith("Z")
    assert shown == {
        "type": "deposit",
        "amount": "12.5",
        "available_before": "0",
        "available_after": "12.5",
        "held_after": "0",
        "charged": "0",
        "task_id": None,
        "batch_id": None,
        "hold_id": None,
        "reason": "invoice 7",
        "reference": "inv-7",
        "actor": "root",
    }
    carol = users.find_user("carol")
    assert carol is not None
    assert has(carol.account) == (12.5, 0)


def test_a_repeated_request_is_replayed(admin, alice):
    body = {"user": "alice", "amount": 5, "reason": "gift"}
    first = post(admin, "/api/v1/wallet/deposits", body, **{"Idempotency-Key": "k"})
    second = post(admin, "/api/v1/wallet/deposits", body, **{"Idempotency-Key": "k"})
    assert second.headers["Idempotency-Replayed"] == "true"
    assert second.json() == first.json()
    assert has(alice.account) == (5, 0)


def test_an_adjustment(admin, alice):
    services.deposit(alice.account_id, 5 * MICRO, reason="gift")
    path = "/api/v1/wallet/adjustments"

    taken = post(admin, path, {"user": "alice", "amount": "-2", "reason": "mistake"})
    refused = post(admin, path, {"user": "alice", "amount": -4, "reason": "too much"})

    assert (taken.status_code, taken.json()["amount"]) == (201, "-2")
    assert taken.json()["available_after"] == "3"
    assert refused.status_code == 402
    assert {"required": "4", "available": "3"}.items() <= refused.json().items()
    assert post(admin, path, {"user": "alice", "amount": 0, "reason": "x"}).status_code == 422
    post(admin, path, {"user": "new", "amount": -4, "reason": "too much"})
    assert users.find_user("new") is None  # a refused write creates nobody


@pytest.mark.parametrize("path", ["deposits", "adjustments"])
def test_credits_are_moved_by_operators_only(alice, path):
    service = client_of(alice, "act_as", "wallet", "tasks")
    body = {"user": "alice", "amount": 5, "reason": "mine"}
    answer = post(service, f"/api/v1/wallet/{path}", body)
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"amount": 0}, "amount", "too_small"),
        ({"amount": "-1"}, "amount", "too_small"),
        ({"amount": "1e3"}, "amount", "format"),
        ({"amount": "0.0000001"}, "amount", "format"),
        ({"amount": 10**11}, "amount", "too_large"),
        ({"amount": None}, "amount", "type"),
        ({"reason": ""}, "reason", "empty"),
        ({"reason": "x" * 201}, "reason", "too_long"),
        ({"user": "../x"}, "user", "format"),
        ({"more": 1}, "more", "unknown"),
    ],
)
def test_a_wrong_deposit_is_refused(admin, change, field, code):
    body = {"user": "alice", "amount": 1, "reason": "gift"} | change
    answer = post(admin, "/api/v1/wallet/deposits", body)
    assert answer.status_code == 422
    assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]


def test_transactions_page_chain_and_filter(alice):
    client = client_of(alice, "wallet:read")
    services.deposit(alice.account_id, 10 * MICRO, reason="gift")
    task = new_id()
    services.settle([Settlement(frozen(alice.account, 4, task_id=task), MICRO)])

    first = client.get("/api/v1/wallet/transactions?limit=2&order=asc").json()
    rest = client.get(
        f"/api/v1/wallet/transactions?limit=2&order=asc&cursor={first['next_cursor']}"
    ).json()

    items = first["items"] + rest["items"]
    assert [item["type"] for item in items] == ["deposit", "hold", "charge"]
    assert [item["amount"] for item in items] == ["10", "-4", "3"]
    assert [item["charged"] for item in items] == ["0", "0", "1"]
    assert (first["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    before, after = items[1:], items[:-1]
    assert [b["available_before"] for b in before] == [a["available_after"] for a in after]

    def kinds(query: str) -> list[str]:
        found = client.get(f"/api/v1/wallet/transactions?{query}").json()["items"]
        return [item["type"] for item in found]

    assert kinds("type=charge") == ["charge"]
    assert kinds(f"task_id={task}") == ["charge", "hold"]
    assert kinds("since=2099-01-01T00:00:00Z") == []
    assert kinds("until=2099-01-01T00:00:00Z") == ["charge", "hold", "deposit"]
    assert client.get("/api/v1/wallet/transactions?type=gift").status_code == 422
    assert client.get("/api/v1/wallet/transactions?cursor=x").status_code == 422


def test_holds_are_listed_and_filtered(alice):
    client = client_of(alice, "wallet:read")
    services.deposit(alice.account_id, 10 * MICRO, reason="gift")
    done, task = frozen(alice.account, 4), new_id()
    services.settle([Settlement(done, MICRO)])
    waiting = services.freeze(alice.account_id, "order-1", 2 * MICRO).hold_id
    frozen(alice.account, 1, task_id=task)

    items = client.get("/api/v1/wallet/holds").json()["items"]

    assert [(item["status"], item["amount"], item["charged"]) for item in items] == [
        ("open", "1", "0"),
        ("open", "2", "0"),
        ("confirmed", "4", "1"),
    ]
    assert (items[0]["task_id"], items[1]["reference"]) == (str(task), "order-1")
    assert (items[1]["resolved_at"], items[1]["id"]) == (None, str(waiting))
    closed = client.get("/api/v1/wallet/holds?status=confirmed").json()["items"]
    assert [item["id"] for item in closed] == [str(done)]


def test_a_statement_says_the_same_in_json_and_csv(alice):
    services.deposit(alice.account_id, 10 * MICRO, reason="=1+1", reference="inv,1")
    services.settle([Settlement(frozen(alice.account, 4), MICRO)])
    services.adjust(alice.account_id, -MICRO, reason="fee")
    client = client_of(alice, "wallet:read")

    month = client.get("/api/v1/wallet/statement").json()
    text = client.get("/api/v1/wallet/statement?format=csv")

    assert {name: month[name] for name in ("opening", "closing", "deposited", "adjusted")} == {
        "opening": "0",
        "closing": "8",
        "deposited": "10",
        "adjusted": "-1",
    }
    assert (month["user"], month["charged"], len(month["items"])) == ("alice", "1", 4)
    assert text.headers["Content-Type"].startswith("text/csv")
    assert text.headers["Cache-Control"] == "no-store"
    rows = list(csv.DictReader(io.StringIO(text.content.decode())))
    assert [row["amount"] for row in rows] == [item["amount"] for item in month["items"]]
    assert (rows[0]["reason"], rows[0]["reference"]) == ("'=1+1", "inv,1")  # no formula
    old = client.get("/api/v1/wallet/statement?month=2020-01").json()
    assert (old["opening"], old["closing"], old["items"]) == ("0", "0", [])


@pytest.mark.parametrize("query", ["month=2026-13", "month=26-01", "format=pdf", "month=x"])
def test_a_month_that_is_none_is_refused(alice, query):
    assert client_of(alice).get(f"/api/v1/wallet/statement?{query}").status_code == 422


RULE = {
    "kind": "sale",
    "match": {"model": "flux*", "task_type": "text-to-image"},
    "components": [{"unit": "image", "price": "1.5"}],
    "minimum": "0",
    "enabled": True,
}


def test_a_price_rule_lives_and_leaves_its_versions(admin, alice):
    made = post(admin, "/api/v1/prices", RULE)
    rule = made.json()
    path = f"/api/v1/prices/{rule['id']}"
    assert (made.status_code, rule) == (201, {"id": rule["id"], **RULE})

    changed = admin.put(path, rule | {"minimum": 2}, content_type=JSON)
    assert (changed.status_code, changed.json()) == (200, rule | {"minimum": "2"})
    reader = client_of(alice, "wallet:read")
    assert reader.get(path).json()["minimum"] == "2"
    assert changed.json() in reader.get("/api/v1/prices").json()["items"]

    assert admin.delete(path).status_code == 204
    for gone in (admin.get(path), admin.delete(path), admin.put(path, RULE, content_type=JSON)):
        assert gone.status_code == 404
    versions = PriceRule.objects.filter(rule_id=rule["id"]).order_by("version")
    assert [row.minimum for row in versions] == [0, 2 * MICRO]
    assert admin.get("/api/v1/prices/nonsense").status_code == 404


def test_prices_are_made_by_operators_only(alice):
    client = client_of(alice, "wallet")
    assert post(client, "/api/v1/prices", RULE).status_code == 403
    assert client.delete(f"/api/v1/prices/{new_id()}").status_code == 403


def test_an_edit_by_another_process_is_seen_within_two_seconds(monkeypatch):
    target = rules.Target(task_type="text-to-image", model="sandbox-image")
    assert pricing.list_price(target) == [{"unit": "image", "price": "1"}]
    elsewhere = [{"unit": "image", "price": "7"}]
    PriceRule.objects.filter(match_value="sandbox-image").update(components=elsewhere)
    later = time.monotonic() + 2.01
    monkeypatch.setattr("wallet.rules.time.monotonic", lambda: later)
    assert pricing.list_price(target) == elsewhere


def test_the_built_in_engine_has_prices(alice):
    items = client_of(alice, "wallet:read").get("/api/v1/prices").json()["items"]
    assert {item["match"]["model"]: item["components"] for item in items} == {
        "sandbox-text": [{"unit": "call", "price": "0.1"}],
        "sandbox-image": [{"unit": "image", "price": "1"}],
        "sandbox-video": [{"unit": "second", "price": "1"}],
        "sandbox-audio": [{"unit": "call", "price": "0.5"}],
        "sandbox-transcribe": [{"unit": "call", "price": "0.1"}],
        "sandbox-embedding": [{"unit": "call", "price": "0.1"}],
    }


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"match": {}}, "match.model", "required"),
        ({"match": {"model": "a", "provider": "b"}}, "match.provider", "exclusive"),
        ({"match": {"model": ""}}, "match.model", "empty"),
        ({"components": []}, "components", "empty"),
        ({"components": [{"unit": "hour", "price": 1}]}, "components.0.unit", "choice"),
        ({"components": [{"unit": "call", "price": -1}]}, "components.0.price", "too_small"),
        ({"components": [{"unit": "call", "price": 1}] * 2}, "components", "unique"),
        ({"kind": "gift"}, "kind", "choice"),
        ({"minimum": "-1"}, "minimum", "too_small"),
    ],
)
def test_a_wrong_price_rule_is_refused(admin, change, field, code):
    answer = post(admin, "/api/v1/prices", RULE | change)
    assert answer.status_code == 422
    assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]


def test_the_books_balance_after_all_that(admin):
    post(admin, "/api/v1/wallet/deposits", {"user": "alice", "amount": 1, "reason": "gift"})
    assert breaches() == {}
