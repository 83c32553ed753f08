"""Addresses of servers, in every spelling operators use."""

import pytest

from genpulse import addresses


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        ("postgresql://u:p@h:5432/d", "postgresql://u:p@h:5432/d"),
        ("postgresql+asyncpg://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+psycopg://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgres+psycopg2://u:p@h/d?sslmode=require", "postgres://u:p@h/d?sslmode=require"),
        ("mysql+pymysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
    ],
)
def test_a_database_url_loses_its_driver(given, ours):
    assert addresses.database_url(given, "ignored", 1, user="", password="", name="") == ours


def test_parts_make_a_url_and_are_quoted():
    url = addresses.database_url(
        "", "db.example", 5433, user="gen pulse", password="p@ss/word", name="g"
    )
    assert url == "postgresql://gen%20pulse:p%40ss%2Fword@db.example:5433/g"


def test_no_host_no_database():
    assert addresses.database_url("", "", 5432, user="u", password="p", name="g") == ""


@pytest.mark.parametrize(
    ("broker", "live"),
    [
        ("", ""),
        ("redis://localhost", "redis://localhost/1"),
        ("redis://:pw@host:6380/0", "redis://:pw@host:6380/1"),
        ("rediss://host/4?ssl_cert_reqs=none", "rediss://host/5?ssl_cert_reqs=none"),
        ("redis://host:1?db=2", "redis://host:1?db=3"),
        ("unix:///run/valkey.sock?db=0", "unix:///run/valkey.sock?db=1"),
        ("unix:///run/valkey.sock", "unix:///run/valkey.sock?db=1"),
    ],
)
def test_live_state_goes_to_the_next_database(broker, live):
    assert addresses.next_database(broker) == live


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("redis://h:6379/0", "redis://h/1", True),
        ("redis://h:6379/0", "redis://h:6380/1", False),
        ("redis://h/0", "redis://i/0", False),
        ("unix:///a.sock?db=0", "unix:///a.sock?db=1", True),
        ("unix:///a.sock", "redis://localhost/0", False),
    ],
)
def test_whether_two_urls_lead_to_one_server(one, other, same):
    assert addresses.same_server(one, other) is same
