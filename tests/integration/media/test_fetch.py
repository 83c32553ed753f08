"""Downloads are bounded in every direction, and go where the guard said."""

import datetime as dt
import hashlib
import io
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from genpulse.config import config
from genpulse.errors import UrlNotAllowed
from media import fetch as fetching
from media.fetch import Fetched, FetchError, fetch, guarded_post
from media.guard import parse
from tests.integration.media.wire import Resolver, Server, plain, redirect, says


@pytest.fixture
def serve(monkeypatch):
    """Start a server that the guard lets through."""
    servers: list[Server] = []
    allow: list[str] = []
    monkeypatch.setattr(config, "outbound_allowed_hosts", allow)

    def start(answer=None, *, allowed=True, wrap=None, host="127.0.0.1"):
        server = Server(answer, wrap)
        servers.append(server)
        if allowed:
            allow.append(f"{host}:{server.port}")
        return server

    yield start
    for server in servers:
        server.close()


def download(url, **options):
    sink = io.BytesIO()
    return fetch(url, sink=sink, **{"deadline": 5, **options}), sink.getvalue()


def test_bytes_arrive_with_their_hash(serve, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = serve(plain(b"picture", "Image/PNG; charset=x"))
    fetched, data = download(f"{server.url}/a%20b?c=d#e", allowed_types=["image/"])
    assert data == b"picture"
    assert fetched == Fetched(
        content_type="image/png", size=7, sha256=hashlib.sha256(b"picture").hexdigest()
    )
    head = server.requests[0].lower()
    assert head.startswith("get /a%20b?c=d http/1.1\r\n")
    assert f"host: 127.0.0.1:{server.port}\r\n" in head
    assert "accept-encoding: identity\r\n" in head


def test_the_host_header_names_the_host_not_the_address(serve, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", Resolver())
    server = serve(plain(b"x"), host="media.example")
    download(f"http://Media.Example.:{server.port}/")
    assert f"Host: media.example:{server.port}\r\n" in server.requests[0]


def test_the_next_address_is_tried_when_one_refuses(serve, monkeypatch):
    resolver = Resolver()
    resolver.names["two.example"] = [["::1", "127.0.0.1"]]
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    server = serve(plain(b"x"), host="two.example")
    assert download(f"http://two.example:{server.port}/")[1] == b"x"


class TestRedirects:
    def test_three_are_followed(self, serve):
        last = serve(plain(b"here"))
        for status in (301, 302, 308):
            last = serve(redirect(f"{last.url}/next", status))
        assert download(last.url)[1] == b"here"

    def test_the_fourth_is_not(self, serve):
        last = serve(plain(b"here"))
        for _ in range(4):
            last = serve(redirect(f"{last.url}/next"))
        with pytest.raises(FetchError, match="too often") as failure:
            download(last.url)
        assert failure.value.code == "rejected"

    def test_a_relative_one_stays(self, serve):
        def answer(connection, line):
            (redirect("/b") if " /a " in line else plain(b"b"))(connection, line)

        assert download(f"{serve(answer).url}/a")[1] == b"b"

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize(
        "location",
        [
            "http://127.0.0.1:{p}/",
            "http://localhost:{p}/",
            "//127.0.0.1:{p}/",
            "http://0x7f.1:{p}/",
            "http://[::ffff:127.0.0.1]:{p}/",
            "http://a@127.0.0.1:{p}/",
            "http://127.0.0.1:{p}\\@example.com/",
            "http://[::1",
            "file:///etc/passwd",
            "gopher://127.0.0.1:{p}/",
            "http://169.254.169.254/latest/meta-data/",
        ],
    )
    def test_each_is_judged(self, serve, location, status):
        canary = serve(allowed=False)
        last = serve(redirect(location.replace("{p}", str(canary.port)), status))
        via = serve(redirect(last.url))
        with pytest.raises(UrlNotAllowed):
            download(via.url)
        assert (via.connections, last.connections, canary.connections) == (1, 1, 0)

    def test_none_leads_from_https_to_http(self):
        with pytest.raises(UrlNotAllowed, match="https to http"):
            fetching._moved(parse("https://a.example/"), "http://a.example/")

    def test_one_to_nowhere(self, serve):
        server = serve(says("HTTP/1.1 302 Found\nContent-Length: 0"))
        with pytest.raises(FetchError, match="nowhere"):
            download(server.url)


class TestBounds:
    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (plain(b"x" * 101), "rejected"),
            (says("HTTP/1.1 200 OK\nContent-Length: 5", b"x" * 500), None),
            (says("HTTP/1.1 200 OK", b"x" * 101), "rejected"),
            (
                says(
                    "HTTP/1.1 200 OK\nTransfer-Encoding: chunked",
                    b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
                ),
                "rejected",
            ),
            (says("HTTP/1.1 200 OK\nContent-Length: 50", b"x" * 20), "broken"),
            (says("HTTP/1.1 200 OK\nTransfer-Encoding: chunked", b"32\r\nxx"), "broken"),
            (
                says("HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 3", b"\x1f\x8b\x08"),
                "rejected",
            ),
            (
                says(
                    "HTTP/1.1 200 OK\nContent-Encoding: gzip, gzip, br\nContent-Length: 3", b"abc"
                ),
                "rejected",
            ),
            (says("HTTP/1.1 206 Partial\nContent-Length: 1", b"x"), "broken"),
            (says("HTTP/1.1 404 Not Found\nContent-Length: 0"), "gone"),
            (says("HTTP/1.1 403 Forbidden\nContent-Length: 0"), "gone"),
            (says("HTTP/1.1 503 Busy\nContent-Length: 0"), "broken"),
            (says("HTTP/1.1 200 OK\n" + "\n".join(f"A{n}: b" for n in range(200))), "broken"),
            (says("HTTP/1.1 200 " + "A" * 70000), "broken"),
            (says("nonsense"), "broken"),
            (lambda connection, _: connection.close(), "broken"),
        ],
    )
    def test_answers(self, serve, answer, code):
        def close_after(connection, line):
            answer(connection, line)
            connection.close()

        server = serve(close_after)
        if code is None:
            assert download(server.url, max_bytes=100)[0].size == 5
            return
        with pytest.raises(FetchError) as failure:
            download(server.url, max_bytes=100)
        assert failure.value.code == code

    def test_the_declared_type_must_fit(self, serve):
        with pytest.raises(FetchError) as failure:
            download(serve(plain(b"<html>", "text/html")).url, allowed_types=["image/", "video/"])
        assert failure.value.code == "rejected"
        silent = serve(says("HTTP/1.1 200 OK\nContent-Length: 1", b"x"))
        assert (
            download(silent.url, allowed_types=["image/"])[0].content_type
            == "application/octet-stream"
        )

    @pytest.mark.parametrize(
        "start", ["HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n\r\n", "HTTP/1.1 200 OK\r\nX: "]
    )
    def test_a_server_that_drips_for_ever_is_cut(self, serve, start):
        cut = threading.Event()

        def drip(connection, _):
            connection.sendall(start.encode())
            try:
                while not cut.wait(0.01):
                    connection.sendall(b"x")
            except OSError:
                cut.set()

        server = serve(drip)
        with pytest.raises(FetchError, match="deadline") as failure:
            download(server.url, deadline=0.3)
        assert failure.value.code == "broken"
        assert cut.wait(5)

    def test_a_server_that_never_answers_is_left(self, serve):
        with pytest.raises(FetchError, match="deadline"):
            download(serve(lambda *_: threading.Event().wait(2)).url, deadline=0.2)


def test_operators_own_servers_are_allowed_by_the_caller(serve):
    server = serve(plain(b"x"), allowed=False)
    with pytest.raises(UrlNotAllowed):
        download(server.url)
    assert download(server.url, also_allowed=[f"127.0.0.1:{server.port}"])[1] == b"x"


class TestPost:
    def test_body_and_headers_go_out_and_the_answer_comes_back(self, serve):
        server = serve(says("HTTP/1.1 429 Slow\nRetry-After: 7\nContent-Length: 4", b"later"[:4]))
        answer = guarded_post(
            server.url, b'{"a":1}', {"webhook-id": "e1", "Host": "evil"}, deadline=5
        )
        assert (answer.status, answer.body) == (429, b"late")
        assert answer.headers["Retry-After"] == "7"
        head = server.requests[0]
        assert head.startswith("POST / HTTP/1.1\r\n")
        assert "webhook-id: e1\r\n" in head
        assert "Content-Length: 7\r\n" in head
        assert "evil" not in head

    def test_a_redirect_is_an_answer(self, serve):
        canary = serve()
        server = serve(redirect(canary.url, 307))
        assert guarded_post(server.url, b"{}", {}, deadline=5).status == 307
        assert canary.connections == 0


@pytest.fixture(scope="module")
def authority():
    """A certificate for media.example, its key, and PEM of both."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "media.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("media.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, secret


class TestTls:
    @pytest.fixture
    def secure(self, serve, authority, tmp_path, monkeypatch):
        """A TLS server for media.example whose authority is known here; it notes the SNI."""
        pem, secret = authority
        (tmp_path / "both.pem").write_bytes(pem + secret)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "both.pem")
        seen: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: seen.append(name)
        known = ssl.create_default_context(cadata=pem.decode())
        monkeypatch.setattr(fetching, "_tls", lambda: known)
        monkeypatch.setattr(socket, "getaddrinfo", Resolver())

        def start(host):
            server = serve(
                plain(b"safe"),
                host=host,
                wrap=lambda raw: context.wrap_socket(raw, server_side=True),
            )
            return server, seen

        return start

    def test_certificate_and_sni_are_of_the_name_and_the_connection_of_the_address(self, secure):
        server, seen = secure("media.example")
        assert download(f"https://media.example:{server.port}/")[1] == b"safe"
        assert seen == ["media.example"]
        assert f"Host: media.example:{server.port}\r\n" in server.requests[0]

    def test_a_certificate_of_another_name_is_refused(self, secure):
        server, _ = secure("other.example")
        with pytest.raises(FetchError, match="failed or was cut"):
            download(f"https://other.example:{server.port}/")
        assert server.requests == []

    def test_the_real_context_verifies(self):
        context = fetching._tls()
        assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
        assert context.cert_store_stats()["x509_ca"] > 50
