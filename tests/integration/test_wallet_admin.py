"""Django admin's pages for money."""

import pytest
from django.test import Client

from genpulse.auth import services as users
from genpulse.money import MICRO
from tests.integration.wallet_cast import account, breaches, frozen, has
from wallet import rules
from wallet.models import Hold, Journal, PriceRule

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    client = Client()
    client.force_login(users.create_user("root", role="admin"))
    return client


@pytest.fixture
def alice():
    owner = account("alice", 10)
    frozen(owner, 4)
    return owner


def test_the_ledger_is_there_to_read(admin, alice):
    hold, journal = Hold.objects.get(), Journal.objects.first()
    assert journal is not None
    for page in ("wallet", "hold", "journal", "pricerule"):
        assert admin.get(f"/admin/wallet/{page}/").status_code == 200
    for path in (f"hold/{hold.pk}", f"journal/{journal.pk}"):
        page = admin.get(f"/admin/wallet/{path}/change/")
        assert page.status_code == 200
        assert b'name="_save"' not in page.content
        assert admin.post(f"/admin/wallet/{path}/delete/", {"post": "yes"}).status_code == 403
        assert admin.post(f"/admin/wallet/{path}/change/", {}).status_code == 403
    for kind in ("wallet", "hold", "journal"):
        assert admin.get(f"/admin/wallet/{kind}/add/").status_code == 403
    assert admin.post(f"/admin/wallet/wallet/{alice.pk}/delete/").status_code == 403


def test_a_wallet_changes_by_an_adjustment(admin, alice):
    path = f"/admin/wallet/wallet/{alice.pk}/change/"
    assert b"alice" in admin.get(path).content

    for wrong in ("0", "-6.5", "1.1234567", "99999999999"):
        page = admin.post(path, {"adjust_by": wrong, "reason": "fee"})
        assert page.status_code == 200  # the form again
    assert admin.post(path, {"adjust_by": "-1.5", "reason": "fee"}).status_code == 302

    assert has(alice) == (4.5, 4)
    entry = Journal.objects.get(kind="adjustment")
    assert (entry.reason, entry.actor) == ("fee", "root")
    assert breaches() == {}


FORM = {
    "kind": "sale",
    "match_by": "model",
    "match_value": "flux*",
    "task_type": "",
    "components": '[{"unit": "image", "price": "1.5"}]',
    "minimum": "0",
    "enabled": "on",
}


def test_a_price_rule_is_versioned_here_too(admin):
    assert admin.post("/admin/wallet/pricerule/add/", FORM).status_code == 302
    first = PriceRule.objects.get(match_value="flux*")
    path = f"/admin/wallet/pricerule/{first.pk}/change/"
    assert admin.get(path).status_code == 200
    wrong = admin.post(path, FORM | {"components": '[{"unit": "hour", "price": 1}]'})
    assert b"components.0.unit" in wrong.content

    assert admin.post(path, FORM | {"minimum": "2"}).status_code == 302

    versions = PriceRule.objects.filter(rule_id=first.rule_id).order_by("version")
    assert [(row.version, row.current, row.minimum) for row in versions] == [
        (1, False, 0),
        (2, True, 2 * MICRO),
    ]
    current = versions[1]
    shown = admin.get(f"/admin/wallet/pricerule/{current.pk}/change/").content
    assert b'name="minimum" value="2"' in shown
    assert admin.get(path).status_code == 302  # the old version has no page
    gone = admin.post(f"/admin/wallet/pricerule/{current.pk}/delete/", {"post": "yes"})
    assert gone.status_code == 302
    assert not PriceRule.objects.filter(rule_id=first.rule_id, current=True).exists()


def test_several_price_rules_are_deleted_at_once(admin):
    chosen = PriceRule.objects.filter(current=True).values_list("pk", flat=True)
    action = {"action": "delete_selected", "_selected_action": list(chosen), "post": "yes"}
    assert admin.post("/admin/wallet/pricerule/", action).status_code == 302
    assert not PriceRule.objects.filter(current=True).exists()
    assert PriceRule.objects.count() == len(chosen)
    rules.cache.forget()
