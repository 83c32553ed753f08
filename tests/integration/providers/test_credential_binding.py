"""A vendor's key goes to the origin it is bound to, and nowhere else, whatever a request or an answer says."""

import json
from contextlib import suppress

import pytest

from providers.base import ExecutorInfo, Provider, ProviderError, Secret
from providers.http import Session
from providers.testing import make_call
from providers.wire import openai_chat
from tests.emulators.base import Answer, Emulator, Request, Response, answered, as_fixture, route

KEY = "vendor-key-0123456789"
CHAT = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}


class Vendor(Emulator):
    @route("POST", "/v1/chat/completions")
    def chat(self, request: Request) -> Answer:
        return CHAT

    @route("GET", "/v1/{path*}")
    def look(self, request: Request, path: str) -> Answer:
        return {"path": path}


class Canary(Emulator):
    """Somebody else's server: records who comes and what they bring."""

    @route("GET", "/{path*}")
    def get(self, request: Request, path: str) -> Answer:
        return Response(body=b"a picture")

    @route("POST", "/{path*}")
    def post(self, request: Request, path: str) -> Answer:
        return CHAT

    @property
    def keys(self) -> int:
        """How often the key arrived, in any part of a request."""
        return sum(
            KEY in f"{request.path}{request.query}{request.headers}{request.body!r}"
            for request in self.journal
        )


vendor = as_fixture(Vendor)
canary = as_fixture(Canary)


@pytest.fixture
def session(vendor):
    session = Session(f"{vendor.url}/v1")
    session.bind(Acme(), ExecutorInfo(http=session, credential=Secret(KEY)))
    return session


class Acme(Provider):
    name = "acme"


NAMES = (
    "base_url",
    "api_base",
    "server_address",
    "host",
    "endpoint",
    "url",
    "proxy",
    "callback",
    "Host",
    "X-Forwarded-Host",
)
SHAPES = {
    "top": lambda name, url: {name: url},
    "upper": lambda name, url: {name.upper(): url},
    "nested": lambda name, url: {"options": {name: url}},
    "deep": lambda name, url: {"extra_body": {"http": [{name: url}]}},
    "extra_headers": lambda name, url: {"headers": {name: url}},
    "query": lambda name, url: {"query": {name: url}, "params": {name: url}},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_no_word_of_a_request_moves_the_key(vendor, canary, name, shape):
    given = {"prompt": "hi", **SHAPES[shape](name, canary.url)}
    call = make_call(input=given, base_url=f"{vendor.url}/v1", credential=KEY)

    assert openai_chat.complete(call, openai_chat.request(call)).text == "hi"

    assert canary.count() == 0
    assert vendor.calls()[0].headers["authorization"] == f"Bearer {KEY}"
    assert vendor.calls()[0].headers["host"] == vendor.url.removeprefix("http://")


@pytest.mark.parametrize(
    "path",
    [
        "{canary}/x",
        "//{canary_host}/x",
        "http://{vendor_host}@{canary_host}/x",
        "http://{canary_host}#@{vendor_host}/x",
        "http://{canary_host}\\@{vendor_host}/x",
        "HTTP://{canary_host}/x",
        "http:/{canary_host}/x",
        "http:{canary_host}/x",
        "@{canary_host}/x",
        "\t{canary}/x",
        "/../{canary}/x",
        "/%2e%2e/x",
        "/x?next={canary}",
        "/x#{canary}",
        "/x\r\nHost: {canary_host}\r\n\r\n",
    ],
)
def test_no_path_leaves_the_origin(session, vendor, canary, path):
    hosts = {
        "vendor_host": vendor.url.removeprefix("http://"),
        "canary_host": canary.url.removeprefix("http://"),
    }
    with suppress(ProviderError):
        session.get(path.format(canary=canary.url, **hosts))

    assert canary.count() == 0


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_off_by_default(self, session, vendor, canary, status):
        vendor.next("GET", "/v1/file", answer_to(canary, status))

        with pytest.raises(ProviderError):
            session.get("/file")

        assert canary.count() == 0

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_followed_elsewhere_without_the_key(self, session, vendor, canary, status):
        vendor.next("GET", "/v1/file", answer_to(canary, status))

        reply = session.get(
            "/file", redirects=1, headers={"X-Session": KEY}, query={"sig": KEY[:4]}
        )

        assert reply.content == b"a picture"
        assert (canary.count(), canary.keys) == (1, 0)
        [request] = canary.calls()
        assert request.query == {}
        assert not {"authorization", "x-session"} & {name.lower() for name in request.headers}

    def test_back_home_with_it(self, session, vendor):
        vendor.next("GET", "/v1/file", answer_to(vendor, 302, "/v1/elsewhere"))

        assert session.get("/file", redirects=1).object() == {"path": "elsewhere"}
        assert vendor.calls()[1].headers["authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_post_is_never_sent_on(self, session, vendor, canary, status):
        vendor.next("POST", "/v1/chat/completions", answer_to(canary, status))

        with pytest.raises(ProviderError):
            session.post("/chat/completions", json={}, redirects=3)

        assert canary.count() == 0

    def test_not_for_ever(self, session, vendor):
        vendor.next("GET", "/v1/file", *[answer_to(vendor, 302, "/v1/file")] * 9)

        with pytest.raises(ProviderError):
            session.get("/file", redirects=3)

        assert vendor.count() == 4

    @pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://x/y", "http://[", "gopher://x"])
    def test_to_nowhere(self, session, vendor, place):
        vendor.next("GET", "/v1/file", answered(302, location=place))

        with pytest.raises(ProviderError) as caught:
            session.get("/file", redirects=1)

        assert caught.value.code == "bad_response"


def answer_to(server, status, path="/stolen"):
    return answered(status, location=f"{server.url}{path}")


def test_the_environment_sets_no_proxy(session, canary, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, canary.url)

    assert session.get("/file").status == 200
    assert canary.count() == 0


def test_errors_name_no_address(session, canary):
    with pytest.raises(ProviderError) as caught:
        session.get(f"{canary.url}/x?key=1")

    assert canary.url not in json.dumps([caught.value.message, caught.value.raw])
