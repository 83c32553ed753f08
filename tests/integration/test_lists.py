"""Cursor lists: every row once, bad values refused."""

import json

import pytest
from django.db import connection

from tests.integration.cast import caller

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]
UUID_FORM = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def alice():
    return caller("alice")


class TestLists:
    def test_a_walk_sees_every_row_once_while_rows_are_added(self, alice):
        for n in range(7):
            alice.post("/api/v1/notes", {"text": str(n)})
        seen, cursor, pages = [], "", 0
        while cursor is not None:
            page = alice.get(f"/api/v1/notes?limit=3&cursor={cursor}").json()
            assert page["has_more"] is (page["next_cursor"] is not None)
            seen += page["items"]
            cursor, pages = page["next_cursor"], pages + 1
            alice.post("/api/v1/notes", {"text": "new"})
        assert (seen, pages) == (["6", "5", "4", "3", "2", "1", "0"], 3)

    def test_ascending(self, alice):
        for n in range(3):
            alice.post("/api/v1/notes", {"text": str(n)})
        first = alice.get("/api/v1/notes?order=asc&limit=2").json()
        rest = alice.get(f"/api/v1/notes?order=asc&limit=2&cursor={first['next_cursor']}").json()
        assert (first["items"], rest["items"]) == (["0", "1"], ["2"])
        assert rest["next_cursor"] is None

    def test_a_page_is_one_query(self, alice, django_assert_num_queries):
        alice.get("/api/v1/notes")
        with django_assert_num_queries(2):  # the key and the page
            alice.get("/api/v1/notes?limit=5")

    @pytest.mark.parametrize(
        ("query", "field", "code"),
        [
            ("limit=0", "limit", "too_small"),
            ("limit=-1", "limit", "too_small"),
            ("limit=101", "limit", "too_large"),
            ("limit=99999999999999", "limit", "type"),
            ("limit=x", "limit", "type"),
            ("limit=", "limit", "type"),
            ("limit=1.5", "limit", "type"),
            ("order=up", "order", "choice"),
            ("cursor=x", "cursor", "format"),
            ("cursor=MTp4", "cursor", "format"),
            ("cursor=%00", "cursor", "format"),
            ("cursor=é", "cursor", "format"),
        ],
    )
    def test_bad_values_are_refused(self, alice, query, field, code):
        answer = alice.get(f"/api/v1/notes?{query}")
        assert answer.status_code == 422
        assert [(e["field"], e["code"]) for e in answer.json()["errors"]] == [(field, code)]

    def test_a_cursor_beyond_the_largest_number_ends_the_list(self, alice):
        cursor = "MTo5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5"
        assert alice.get(f"/api/v1/notes?order=asc&cursor={cursor}").json()["items"] == []


def test_the_json_of_lists_is_what_the_contract_says(alice):
    assert json.loads(alice.get("/api/v1/notes").content) == {
        "items": [],
        "next_cursor": None,
        "has_more": False,
    }
    assert connection.in_atomic_block
