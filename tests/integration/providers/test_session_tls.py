"""The session over TLS, and in a forked process."""

import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from providers.base import Aborted, ProviderError
from providers.connections import Connections, trusted
from providers.http import Session
from tests.emulators.base import Answer, Emulator, Request, as_fixture, route, silence


class Vendor(Emulator):
    @route("GET", "/{path*}")
    def get(self, request: Request, path: str) -> Answer:
        return {"path": path}

    @route("POST", "/{path*}")
    def post(self, request: Request, path: str) -> Answer:
        return {"path": path}


vendor = as_fixture(Vendor)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that only those trust who are told to; certificate and key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vendor")])
    now = dt.datetime.now(dt.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "vendor.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(built.public_bytes(pem) + secret)
    return file


@pytest.fixture
def secure(certificate):
    """The vendor behind TLS; its address."""
    server = Vendor()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    with server:
        yield server, server.url.replace("http:", "https:")


def test_a_trusted_vendor(secure, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server, url = secure
    session = Session(url, connections=Connections())

    assert [session.get("/a").object(), session.get("/b").object()] == [
        {"path": "a"},
        {"path": "b"},
    ]
    assert server.connections == 1


def test_a_stranger_gets_nothing(secure):
    server, url = secure
    sent: list[int] = []
    session = Session(url, sending=lambda: sent.append(1), connections=Connections())

    with pytest.raises(ProviderError, match="no trusted connection") as caught:
        session.post("/a", paid=True)

    assert (caught.value.kind, sent, server.count()) == ("transient", [], 0)


def test_a_blocked_read_ends_at_once(secure, certificate):
    server, url = secure
    server.next("GET", "/a", silence())
    context = ssl.create_default_context(cafile=certificate)
    session = Session(url, connections=Connections(tls=lambda: context))
    threading.Timer(0.2, session.abort).start()

    with pytest.raises(Aborted):
        session.get("/a")


def test_the_usual_authorities_are_trusted(monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    assert trusted().cert_store_stats()["x509_ca"] > 50


FORK = """
import os, sys
from providers.base import ProviderError
from providers.http import Session
session = Session(sys.argv[1])
session.get("/before")                          # a kept connection and a running watchdog
child = os.fork()
try:
    session.get("/mine", timeout=5)
    Session(sys.argv[1]).get("/silent", timeout=0.3)
except ProviderError as problem:
    if child == 0:
        os._exit(7 if problem.code == "upstream_timeout" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_has_its_own_connections_and_deadlines(vendor):
    vendor.next("GET", "/silent", silence(), silence())
    script = [sys.executable, "-c", FORK, vendor.url]
    shown = subprocess.run(
        script, capture_output=True, text=True, check=True, timeout=60, env={**os.environ}
    )

    assert shown.stdout.strip() == "7"
    assert (vendor.connections, vendor.count()) == (2, 5), "parent and child share no socket"
