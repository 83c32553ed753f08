"""Over a real socket: bodies that are too large, chunked, slow or cut; headers of every kind of answer."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
from django.db import connections

from genpulse.config import config
from genpulse.http.asgi import FIELDS_BYTES, Handler, limit_of
from tests.integration.cast import caller
from tests.integration.served import served

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.doors"),
]


@pytest.fixture
def base() -> Iterator[str]:
    with served(Handler()) as url:
        yield url
    connections.close_all()


@pytest.fixture
def alice() -> dict[str, str]:
    return caller("alice").headers


def chunks(size: int, piece: int = 1 << 16) -> Iterator[bytes]:
    yield b'{"text": "'
    for _ in range(size // piece):
        yield b"x" * piece
    yield b'"}'


def test_a_declared_body_over_the_limit_is_refused_and_the_connection_goes_on(base, alice):
    too_long = b'{"text": "' + b"x" * config.max_body_bytes + b'"}'
    with requests.Session() as session:
        answer = session.post(
            f"{base}/api/v1/notes",
            too_long,
            headers={
                **alice,
                "Content-Type": "application/json",
                "Origin": "http://localhost:3000",
            },
        )
        assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (
            413,
            "body_too_large",
            config.max_body_bytes,
        )
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert session.get(f"{base}/healthz").status_code == 200


def test_a_chunked_body_is_counted_while_it_comes(base, alice):
    headers = {**alice, "Content-Type": "application/json"}
    answer = requests.post(
        f"{base}/api/v1/notes", chunks(config.max_body_bytes * 2), headers=headers, timeout=60
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_chunked_body_within_the_limit_is_read(base, alice):
    headers = {**alice, "Content-Type": "application/json"}
    answer = requests.post(f"{base}/api/v1/notes", chunks(1 << 17), headers=headers, timeout=60)
    assert answer.status_code == 201
    assert len(answer.json()["zebra"]) == 1 << 17


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(base, alice):
    parts = urlsplit(base)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as raw:
        raw.sendall(
            b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
    assert requests.get(f"{base}/healthz", timeout=10).status_code == 200


def test_a_lying_content_length_is_malformed(base):
    parts = urlsplit(base)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))) as raw:
        raw.sendall(b"POST /api/v1/notes HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n{}")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400")


def test_static_files_and_pages_of_the_real_application(base):
    docs = requests.get(f"{base}/docs", timeout=30)
    assert docs.status_code == 200
    assert "https://" not in docs.text.replace("https://www.w3.org", "")
    script = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"
    assert script in docs.text
    file = requests.get(f"{base}{script}", timeout=30)
    assert file.status_code == 200
    assert len(file.content) > 100_000
    assert file.headers["X-Request-ID"]


def test_limits_by_content_type():
    multipart = b"multipart/form-data; boundary=x"
    assert limit_of(multipart) == config.max_upload_bytes * 16 + FIELDS_BYTES
    assert limit_of(b"application/json; charset=utf-8") == config.max_body_bytes
    assert limit_of(b"") == config.max_body_bytes
    assert limit_of(b"image/png") == config.max_upload_bytes
