"""No URL of a stranger reaches a network that is not public: a canary on the loopback counts."""

import io
import ipaddress
import socket
import string
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genpulse.config import config
from genpulse.errors import UrlNotAllowed
from media import guard
from media.fetch import FetchError, check_url, fetch, guarded_post
from tests.integration.media.wire import Resolver, Server

# {p} is the canary's port. Every name resolves to the loopback, as a hostile name server would say.
CORPUS = """
http://127.0.0.1:{p}/
http://127.0.0.1:{p}
http://127.0.0.1.:{p}/
http://127.1:{p}/
http://127.0.1:{p}/
http://127.127.127.127:{p}/
http://0:{p}/
http://0.0.0.0:{p}/
http://0x0:{p}/
http://00000000000:{p}/
http://2130706433:{p}/
http://017700000001:{p}/
http://0x7f000001:{p}/
http://0x7F.1:{p}/
http://0x7f.0x0.0x0.0x1:{p}/
http://0177.0.0.1:{p}/
http://0177.0.0.01:{p}/
http://0000177.0.0.1:{p}/
http://127.0.0.0x1:{p}/
http://127.0.0.1.0x:{p}/
http://1.2.3.4.5:{p}/
http://127.0.0.256:{p}/
http://[::1]:{p}/
http://[::]:{p}/
http://[0:0:0:0:0:0:0:1]:{p}/
http://[::ffff:127.0.0.1]:{p}/
http://[::ffff:7f00:1]:{p}/
http://[::ffff:0:127.0.0.1]:{p}/
http://[::127.0.0.1]:{p}/
http://[64:ff9b::127.0.0.1]:{p}/
http://[64:ff9b::7f00:1]:{p}/
http://[64:ff9b:1::7f00:1]:{p}/
http://[2002:7f00:1::]:{p}/
http://[2002:a9fe:a9fe::1]:{p}/
http://[2001::1]:{p}/
http://[2001:db8::1]:{p}/
http://[fe80::1]:{p}/
http://[fe80::1%25lo]:{p}/
http://[fe80::1%lo]:{p}/
http://[fc00::1]:{p}/
http://[fd00:ec2::254]/
http://[ff02::1]:{p}/
http://[::1%25]:{p}/
http://[::1
http://[127.0.0.1]:{p}/
http://[]:{p}/
http://localhost:{p}/
http://localhost.:{p}/
http://LOCALHOST:{p}/
http://LocalHost..:{p}/
http://localhost.localdomain:{p}/
http://ip6-localhost:{p}/
http://127.0.0.1.nip.io:{p}/
http://evil.example:{p}/
http://xn--lcalhost-54a.example:{p}/
http://l\u00f6calhost.example:{p}/
http://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3:{p}/
http://\uff11\uff12\uff17.0.0.1:{p}/
http://127\u30020\u30020\u30021:{p}/
http://example.com@127.0.0.1:{p}/
http://127.0.0.1:{p}@example.com/
http://user:pass@127.0.0.1:{p}/
http://@127.0.0.1:{p}/
http://a@b@127.0.0.1:{p}/
http://example.com%40127.0.0.1:{p}/
http://127.0.0.1:{p}\\@example.com/
http://example.com\\@127.0.0.1:{p}/
http:\\\\127.0.0.1:{p}/
http:/\\127.0.0.1:{p}/
\\\\127.0.0.1:{p}/
http://127.0.0.1:{p}\t/
http://127.0.\t0.1:{p}/
http://127.0.0.1:{p}/\x00
 http://127.0.0.1:{p}/
http:// 127.0.0.1:{p}/
http://127.0.0.1 :{p}/
http://127.0.0.1\x7f:{p}/
http://127.0.0.1\u00a0:{p}/
http://127.0.0.1\x85:{p}/
http://%31%32%37.0.0.1:{p}/
http://127.0.0.1%00.example.com:{p}/
http://127.0.0.1%2f@example.com:{p}/
http://127.0.0.1:{p}#@example.com/
http://127.0.0.1:{p}?@example.com/
http://example.com#@127.0.0.1:{p}/
http:127.0.0.1:{p}/
http:/127.0.0.1:{p}/
http:///127.0.0.1:{p}/
http://:{p}/
http://
//127.0.0.1:{p}/
127.0.0.1:{p}
/etc/passwd
ftp://127.0.0.1:{p}/
file:///etc/passwd
file://127.0.0.1:{p}/
gopher://127.0.0.1:{p}/_x
dict://127.0.0.1:{p}/
ldap://127.0.0.1:{p}/
jar:http://127.0.0.1:{p}/!/
data:text/html,<script>
javascript:alert(1)
unix:///var/run/docker.sock
http+unix://%2Fvar%2Frun%2Fdocker.sock/
http://127.0.0.1:99999/
http://127.0.0.1:-1/
http://127.0.0.1:{p}{p}/
http://127.0.0.1:0x50/
http://8.8.8.8:22/
http://8.8.8.8:25/
http://8.8.8.8:6/
http://10.0.0.1/
http://100.64.0.1/
http://100.100.100.200/latest/meta-data/
http://169.254.169.254/latest/meta-data/
http://169.254.170.2/
http://metadata.google.internal/computeMetadata/v1/
http://172.16.0.1/
http://192.0.0.192/
http://192.0.2.1/
http://192.168.1.1/
http://192.88.99.1/
http://198.18.0.1/
http://198.51.100.1/
http://203.0.113.1/
http://224.0.0.1/
http://239.255.255.250/
http://240.0.0.1/
http://255.255.255.255/
https://127.0.0.1:{p}/
https://localhost:{p}/
https://[::1]:{p}/
"""
URLS = [
    *CORPUS.strip("\n").split("\n"),
    "ht\ntp://127.0.0.1:{p}/",
    "http://127.0.0.1:{p}/\r\nHost: evil",
    "http://127.0.0.1:{p}\n",
    "",
    "http://" + "a" * 9000,
]


@pytest.fixture
def resolver(monkeypatch):
    fake = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", fake)
    return fake


@pytest.fixture
def canary():
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch):
    monkeypatch.setattr(config, "outbound_allowed_hosts", [])


def ways_out(url):
    """The ways a URL of a stranger is used."""
    yield lambda: check_url(url, purpose="input")
    yield lambda: check_url(url, purpose="callback")
    yield lambda: fetch(url, sink=io.BytesIO(), deadline=2)
    yield lambda: guarded_post(url, b"{}", {}, deadline=2)


def test_the_corpus_never_reaches_the_canary(resolver, canary):
    urls = [url.replace("{p}", str(canary.port)) for url in URLS]
    assert len(set(urls)) > 120
    for url in urls:
        for way in ways_out(url):
            with pytest.raises(UrlNotAllowed):
                way()
    assert canary.connections == 0


def test_the_canary_sings_when_it_is_reached(canary, monkeypatch):
    monkeypatch.setattr(config, "outbound_allowed_hosts", [f"127.0.0.1:{canary.port}"])
    with pytest.raises(FetchError):
        fetch(canary.url, sink=io.BytesIO(), deadline=0.2)
    assert canary.connections == 1


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("64:ff9b::8.8.8.8", True),
        ("::ffff:8.8.8.8", True),
        ("2002:808:808::", True),
        ("fd00:ec2::254", False),
        ("64:ff9b::10.0.0.1", False),
        ("100.127.255.255", False),
        ("100.128.0.0", True),
        ("::7f00:1", False),
        ("fe80::1%lo", False),
        ("no address", False),
    ],
)
def test_public_means_public_behind_every_mapping(address, public):
    assert guard.is_public(address) is public


def test_one_private_answer_among_public_ones_is_enough(resolver):
    resolver.names["mixed.example"] = [["8.8.8.8", "10.0.0.1"]]
    with pytest.raises(UrlNotAllowed):
        check_url("https://mixed.example/", purpose="input")
    resolver.names["good.example"] = [["8.8.8.8", "1.1.1.1"]]
    check_url("https://good.example/", purpose="input")


def test_allowed_hosts_name_a_port_or_all(resolver, monkeypatch):
    monkeypatch.setattr(
        config, "outbound_allowed_hosts", ["LOCALHOST:*", "127.0.0.1:9000", "[::1]:*"]
    )
    for url in ("http://localhost:1/", "http://LOCALHOST./", "http://127.0.0.1:9000/"):
        check_url(url, purpose="input")
    for url in ("http://127.0.0.1:9001/", "http://127.0.0.1/", "http://127.0.0.2:9000/"):
        with pytest.raises(UrlNotAllowed):
            check_url(url, purpose="input")


def test_callbacks_use_https_in_production(resolver, monkeypatch):
    resolver.default = "8.8.8.8"
    monkeypatch.setattr(config, "environment", "production")
    check_url("http://app.example/hook", purpose="input")
    check_url("https://app.example/hook", purpose="callback")
    with pytest.raises(UrlNotAllowed):
        check_url("http://app.example/hook", purpose="callback")


def unknown(*_: object, **__: object) -> None:
    raise socket.gaierror


def test_a_name_without_an_address_and_a_resolver_that_hangs(resolver, monkeypatch):
    resolver.names["void.example"] = [[]]
    with pytest.raises(UrlNotAllowed, match="cannot be found"):
        check_url("https://void.example/", purpose="input")
    monkeypatch.setattr(resolver, "real", unknown)
    with pytest.raises(UrlNotAllowed, match="cannot be found"):
        check_url("https://unknown.example/", purpose="input")
    released = threading.Event()
    monkeypatch.setattr(guard, "RESOLVE_SECONDS", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(10) and [])
    with pytest.raises(UrlNotAllowed, match="cannot be found"):
        check_url("https://slow.example/", purpose="input")
    released.set()


def test_rebinding_changes_nothing_after_the_judgement(resolver, canary, monkeypatch):
    """The name answers a public address first and the loopback from then on."""
    connected = []

    def connect(address, *args, **kwargs):
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    for n in range(500):
        resolver.names["rebind.example"] = [["8.8.8.8"], ["127.0.0.1"]]
        with pytest.raises(FetchError):
            fetch(f"http://rebind.example:{canary.port}/{n}", sink=io.BytesIO(), deadline=5)
    assert connected == ["8.8.8.8"] * 500
    assert resolver.asked == ["rebind.example"] * 500
    assert canary.connections == 0


LETTERS = string.ascii_letters + string.digits + ".-_:@/\\[]%#? \t\n\u00e9\u2460\uff0e"


@given(
    st.one_of(
        st.text(LETTERS, max_size=40).map("http://".__add__),
        st.text(max_size=30),
        st.ip_addresses().map("http://{}/".format),
    )
)
def test_what_parses_is_canonical_and_parses_to_itself(url):
    try:
        target = guard.parse(url)
    except UrlNotAllowed:
        return
    assert guard.parse(target.url) == target
    assert target.host == target.host.lower()
    assert not set(target.host) & set("@/\\[]%#? \t\n")
    assert "\n" not in target.path
    if ":" in target.host:
        assert str(ipaddress.IPv6Address(target.host)) == target.host
