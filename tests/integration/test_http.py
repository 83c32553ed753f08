"""The machinery below every door: envelopes, bodies, headers, lists."""

import gzip
import uuid
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SuspiciousOperation
from django.test import AsyncClient, Client

from genpulse.config import config
from genpulse.errors import ValidationFailed
from genpulse.events.models import Event
from genpulse.http import problems
from genpulse.http.problems import Rendered
from tests.integration.cast import caller, nobody

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]
UUID_FORM = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture
def alice():
    return caller("alice")


def test_a_problem_document_is_complete(alice):
    answer = alice.post("/api/v1/notes", {"text": "", "x": 1}, X_Request_ID="my-id")
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/docs/errors#validation_failed",
        "title": "One or more fields are wrong",
        "status": 422,
        "code": "validation_failed",
        "detail": "text: String should have at least 1 character (and 1 more)",
        "request_id": "my-id",
        "errors": [
            {
                "field": "text",
                "code": "empty",
                "message": "String should have at least 1 character",
            },
            {"field": "x", "code": "unknown", "message": "Extra inputs are not permitted"},
        ],
    }


def test_extra_members_go_along(alice):
    answer = alice.post("/api/v1/notes", {"text": "poor"})
    assert (answer.status_code, answer.json()["code"]) == (402, "insufficient_credits")
    assert (answer.json()["required"], answer.json()["available"]) == ("1", "0")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/v1/nowhere", 404, "not_found"),
        ("GET", "/api/v1/notes/abc", 404, "not_found"),
        ("PUT", "/api/v1/notes", 405, "method_not_allowed"),
        ("GET", "/broken", 503, "unavailable"),
    ],
)
def test_whatever_goes_wrong_speaks_the_same_way(alice, method, path, status, code):
    answer = alice(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["request_id"] == answer["X-Request-ID"]
    assert answer["Content-Type"] == "application/problem+json"


def test_405_names_what_is_allowed(alice):
    answer = alice.delete("/api/v1/notes")
    assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [("secret", 500, "internal_error"), ("away", 503, "unavailable")],
)
def test_bugs_and_outages_say_nothing_and_write_nothing(alice, text, status, code):
    answer = alice.post("/api/v1/notes", {"text": text})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    for leaked in (b"12345", b"Traceback", b"10.0.0.7", b"RuntimeError"):
        assert leaked not in answer.content
    assert Event.objects.count() == 0
    if status == 503:
        assert answer["Retry-After"] == "1"


def test_a_door_registers_its_own_envelope(alice, monkeypatch):
    monkeypatch.setattr(problems, "_doors", dict(problems._doors))
    problems.register(
        "/api/v1/notes",
        "notes",
        lambda problem, request_id: Rendered(
            status=400 if isinstance(problem, ValidationFailed) else problem.status,
            body={"success": False, "error": problem.code},
            headers={"X-Door": "notes"},
        ),
    )
    answer = alice.post("/api/v1/notes", {})
    assert (answer.status_code, answer.json()) == (
        400,
        {"success": False, "error": "validation_failed"},
    )
    assert answer["X-Door"] == "notes"
    assert alice.get("/api/v1/notes/unknown/path").json() == {
        "success": False,
        "error": "not_found",
    }
    assert alice.get("/api/v1/notesandmore").json()["code"] == "not_found"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}'], ids=["empty", "list", "cut", "bytes", "NaN"]
)
def test_malformed_bodies(alice, body):
    answer = alice("POST", "/api/v1/notes", body or b" ")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def test_no_body_is_an_empty_object(alice):
    answer = alice.post("/api/v1/notes")
    assert [error["field"] for error in answer.json()["errors"]] == ["text"]


def test_nul_is_named_by_field(alice):
    answer = alice("POST", "/api/v1/notes", b'{"text": "a\\u0000"}')
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "text"


def test_other_content_types_are_refused(alice):
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ):
        answer = alice.client.post(
            "/api/v1/notes", data=b"text=a", content_type=kind, headers=alice.headers
        )
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_body_without_a_content_type_is_json(alice):
    for door, body in (
        ("/api/v1/notes", b'{"text": "kite"}'),
        ("/v1/chat/completions", b'{"model": "sandbox-text"}'),
    ):
        answer = alice.client.generic("POST", door, body, "", headers=alice.headers)
        assert answer.status_code != 415, answer.content


def test_bodies_have_a_limit(alice, monkeypatch):
    monkeypatch.setattr(config, "max_body_bytes", 1000)
    answer = alice.post("/api/v1/notes", {"text": "x" * 1000})
    assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (
        413,
        "body_too_large",
        1000,
    )
    assert alice.post("/api/v1/notes", {"text": "x" * 900}).status_code == 201


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("abc-1.2_Z", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("é", False),
    ],
)
def test_request_ids_are_taken_over_or_replaced(given, taken):
    answer = nobody().get("/healthz", X_Request_ID=given)
    if taken:
        assert answer["X-Request-ID"] == given
    else:
        assert uuid.UUID(answer["X-Request-ID"]).version == 7


def test_standard_headers(alice):
    answer = alice.get("/api/v1/notes")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "no-store"
    assert int(answer["Content-Length"]) == len(answer.content)
    assert "Set-Cookie" not in answer
    assert "Content-Length" not in nobody()("OPTIONS", "/api/v1/notes")
    page = nobody().get("/page")
    assert (page["X-Frame-Options"], page["Referrer-Policy"]) == ("DENY", "same-origin")


def test_a_trailing_slash_is_the_same_path(alice):
    for path in ("/api/v1/notes", "/api/v1/notes/", "/health/", "/docs/errors/"):
        assert alice.get(path).status_code == 200
    assert alice.post("/api/v1/notes/", {"text": "a"}).status_code == 201
    assert nobody().get("/admin").status_code == 302
    assert nobody().get("/admin")["Location"] == "/admin/login/?next=/admin/"


def test_head_and_options_work_everywhere(alice):
    assert alice("HEAD", "/api/v1/notes").status_code == 200
    assert alice("HEAD", "/health").status_code == 200
    answer = nobody()("OPTIONS", "/api/v1/notes")
    assert (answer.status_code, answer["Allow"]) == (204, "GET, POST, HEAD, OPTIONS")


def test_unknown_hosts_are_refused(settings):
    settings.ALLOWED_HOSTS = ["genpulse.example"]
    answer = Client().get("/healthz", headers={"host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_header")
    assert answer["X-Request-ID"]


def test_gzip_above_one_kibibyte_but_never_on_event_streams():
    wants = {"Accept-Encoding": "gzip, br"}
    page = Client().get("/page", headers=wants)
    assert (page["Content-Encoding"], page["ETag"], page["Vary"]) == (
        "gzip",
        'W/"1"',
        "origin, Accept-Encoding",
    )
    assert gzip.decompress(page.content).startswith(b"<p>xxx")
    assert "Content-Encoding" not in Client().get("/page")
    assert "Content-Encoding" not in Client().get("/healthz", headers=wants)


def test_event_streams_pass_unchanged():
    async def read() -> tuple[Any, bytes]:
        answer: Any = await AsyncClient().get("/stream", headers={"Accept-Encoding": "gzip"})
        return answer, b"".join([part async for part in answer.streaming_content])

    answer, body = async_to_sync(read)()
    assert "Content-Encoding" not in answer
    assert answer["X-Request-ID"]
    assert body.startswith(b"data: xxx")


def test_the_async_stack_answers_the_same():
    get = async_to_sync(AsyncClient().get)
    answer = get("/api/v1/notes", headers={"X-Request-ID": "a"})
    assert (answer.status_code, answer["X-Request-ID"]) == (401, "a")
    answer = get("/nowhere/")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


class TestCors:
    def test_a_known_origin_gets_the_headers(self, alice):
        answer = alice.get("/api/v1/notes", Origin="http://localhost:5173")
        assert answer["Access-Control-Allow-Origin"] == "http://localhost:5173"
        assert answer["Access-Control-Allow-Credentials"] == "true"
        assert "RateLimit-Remaining" in answer["Access-Control-Expose-Headers"]

    def test_a_preflight_needs_no_credential(self):
        answer = nobody()(
            "OPTIONS",
            "/api/v1/notes",
            Origin="http://127.0.0.1:3000",
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="idempotency-key",
        )
        assert answer.status_code == 200
        assert "POST" in answer["Access-Control-Allow-Methods"]
        assert "idempotency-key" in answer["Access-Control-Allow-Headers"]
        assert answer["X-Request-ID"]

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.example", "http://localhost.evil.example:80", "http://localhost", "null"],
    )
    def test_other_origins_get_none(self, alice, origin):
        answer = alice.get("/api/v1/notes", Origin=origin)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("Access-Control-Allow")]


def test_the_last_resorts_of_django_speak_the_same_way(rf):
    request = rf.get("/api/v1/notes")
    bug = problems.server_error(request)
    assert (bug.status_code, bug["Content-Type"]) == (500, "application/problem+json")
    strange = problems.bad_request(request, SuspiciousOperation("a host that is not ours"))
    assert strange.status_code == 400
    assert b"a host" not in strange.content
