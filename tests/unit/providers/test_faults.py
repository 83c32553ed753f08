"""What a status, a header or a broken connection means."""

import http.client
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from urllib3.exceptions import IncompleteRead, ProtocolError, ReadTimeoutError

from providers import faults


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, "not_available"),
        (400, "bad_input"),
        (401, "bad_credentials"),
        (402, "quota_exhausted"),
        (403, "not_available"),
        (404, "not_available"),
        (408, "transient"),
        (409, "transient"),
        (413, "bad_input"),
        (422, "bad_input"),
        (429, "rate_limited"),
        (500, "transient"),
        (502, "transient"),
        (503, "overloaded"),
        (504, "transient"),
        (529, "overloaded"),
    ],
)
def test_status_alone(status, kind):
    problem = faults.from_status(status, {})

    assert (problem.kind, problem.code, problem.retry_after) == (kind, kind, None)


def test_only_waiting_kinds_take_the_vendors_wait():
    assert faults.from_status(429, {"retry-after": "7"}).retry_after == 7
    assert faults.from_status(503, {"retry-after": "7"}).retry_after == 7
    assert faults.from_status(500, {"retry-after": "7"}).retry_after is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "2s"}, 2),
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "9000",
            },
            1,
        ),
        ({}, None),
    ],
)
def test_every_form_of_retry_after(headers, seconds):
    assert faults.retry_after(headers, limits=True) == seconds


def test_a_retry_after_date_counts_from_now():
    soon = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)

    assert 3500 < (faults.retry_after({"retry-after": soon}) or 0) <= 3600


def test_limits_are_only_looked_at_when_asked():
    assert faults.retry_after({"x-ratelimit-reset-requests": "1s"}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("6m0s", 360), ("120ms", 0.12), ("37.5s", 37.5), ("1h2m", 3720), ("2d", 172_800)],
)
def test_durations(text, seconds):
    assert faults.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "12", "s", "1s later", "1x", "-1s"])
def test_no_durations(text):
    assert faults.duration(text) is None


CUT = ProtocolError("broken", http.client.RemoteDisconnected("no answer"))
SHORT = ProtocolError("broken", IncompleteRead(3, 7))
NO_HTTP = http.client.BadStatusLine("SSH-2.0")
SILENT = ReadTimeoutError(None, "", "slow")  # type: ignore[arg-type]
REFUSED = ConnectionRefusedError(111, "refused")
UNKNOWN_HOST = socket.gaierror(-2, "unknown")
NO_TRUST = ssl.SSLCertVerificationError("self-signed")


@pytest.mark.parametrize("cause", [REFUSED, UNKNOWN_HOST, NO_TRUST, TimeoutError("connect")])
@pytest.mark.parametrize("paid", [True, False])
def test_what_never_left_may_be_sent_again(cause, paid):
    problem = faults.from_transport(cause, sent=False, paid=paid, late=False)

    assert (problem.kind, problem.code) == ("transient", "transient")


@pytest.mark.parametrize("cause", [CUT, SHORT, NO_HTTP, SILENT, ConnectionResetError()])
@pytest.mark.parametrize("late", [True, False])
def test_a_paid_request_that_left_may_have_been_accepted(cause, late):
    assert faults.from_transport(cause, sent=True, paid=True, late=late).kind == "unknown_outcome"


@pytest.mark.parametrize(
    ("cause", "late", "code"),
    [
        (SILENT, False, "upstream_timeout"),
        (TimeoutError(), False, "upstream_timeout"),
        (ConnectionResetError(), True, "upstream_timeout"),
        (ConnectionResetError(), False, "transient"),
        (CUT, False, "transient"),
        (NO_HTTP, False, "bad_response"),
    ],
)
def test_a_free_request_is_simply_asked_again(cause, late, code):
    problem = faults.from_transport(cause, sent=True, paid=False, late=late)

    assert (problem.kind, problem.code) == ("transient", code)


@pytest.mark.parametrize(
    ("status", "readable", "after_unknown", "kind", "retries"),
    [
        (500, True, "verify", "transient", 1),  # the vendor says itself that it failed
        (500, True, "find", "unknown_outcome", None),  # it can be asked what happened
        (500, True, "key", "transient", None),  # the same key cannot buy twice
        (500, True, "resend", "transient", None),
        (500, False, "verify", "unknown_outcome", None),  # a page of somebody in between
        (502, True, "verify", "unknown_outcome", None),
        (504, True, "verify", "unknown_outcome", None),
        (409, True, "verify", "transient", None),
    ],
)
def test_server_errors_after_a_paid_request(status, readable, after_unknown, kind, retries):
    problem = faults.after_paid(
        faults.from_status(status, {}), status, readable=readable, after_unknown=after_unknown
    )

    assert (problem.kind, problem.retries) == (kind, retries)


def test_a_refusal_is_a_refusal_also_when_paid():
    overloaded = faults.from_status(503, {"retry-after": "3"})

    assert faults.after_paid(overloaded, 503, readable=False, after_unknown="find") is overloaded


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnop1234",
        "Bearer eyJhbGciOi.JIUzI1NiJ9.abc",
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",
        "AIzaSyA1234567890abcdefghij",
        "LTAI5tAbCdEfGhIjKlMn",
        "gp_live_0123456789abcdefghij",
        'api_key="hunter2hunter2"',
        '"access_token": "hunter2hunter2"',
    ],
)
def test_what_looks_like_a_key_is_hidden_from_operators_too(secret):
    shown = faults.scrub(f"the vendor said: {secret} is wrong")

    assert "***" in shown
    assert not any(word in shown for word in (secret, "hunter2", "dXNlcjpw", "JIUzI1NiJ9"))
    assert shown.startswith("the vendor said: ")


def test_the_own_credential_is_hidden_whatever_it_looks_like():
    assert faults.scrub("key plainword refused", "plainword") == "key *** refused"


def test_long_and_unprintable_answers_are_cut_and_cleaned():
    shown = faults.scrub("a\x00b\x1b[31m\n" + "x" * 5000)

    assert shown.startswith("a b [31m\nxxx")
    assert len(shown) == faults.RAW_LIMIT
