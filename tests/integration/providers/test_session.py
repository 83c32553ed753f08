"""The guarded session against a real server on loopback: what goes out, what comes back, how it breaks."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers.base import Aborted, ExecutorInfo, Provider, ProviderError, Secret
from providers.connections import Connections
from providers.http import Session
from tests.emulators.base import (
    Answer,
    Emulator,
    Request,
    Response,
    answered,
    as_fixture,
    cut_answer,
    delayed,
    drop_answer,
    drop_request,
    garbage,
    route,
    silence,
    sse,
)

KEY = "vendor-key-0123456789"


class Acme(Provider):
    name = "acme"


class Vendor(Emulator):
    @route("POST", "/v1/images")
    def create(self, request: Request) -> Answer:
        return {"id": "img-1"}

    @route("GET", "/v1/images/{image}")
    def look(self, request: Request, image: str) -> Answer:
        return {"id": image, "query": request.query}

    @route("GET", "/v1/raw/{name}")
    def raw(self, request: Request, name: str) -> Answer:
        return RAW[name]

    @route("GET", "/v1/drip")
    def drip(self, request: Request) -> Answer:
        def bytes_now_and_then() -> Iterator[bytes]:
            while not self.closing.wait(0.05):
                yield b"."

        return Response(body=bytes_now_and_then())

    @route("POST", "/v1/chat")
    def chat(self, request: Request) -> Answer:
        return sse({"text": "a"}, {"text": "b"})

    @route("DELETE", "/v1/images/{image}")
    def remove(self, request: Request, image: str) -> Answer:
        return Response(204)


RAW = {
    "html": Response(body="<html>log in</html>", headers={"Content-Type": "application/json"}),
    "nan": Response(body='{"price": NaN}'),
    "list": Response(body=[1]),
    "deep": Response(body="[" * 100_000),
    "half": Response(body='{"price": 1'),
    "binary": Response(body=b"\xff\xfe\x00"),
    "padded": Response(body='\n\n\n{"late": true}'),
    "large": Response(body=b"[" + b"1," * 1_000_000 + b"1]"),
    "bomb": Response(
        body=gzip.compress(b"[" + b" " * 50_000_000 + b"]"), headers={"Content-Encoding": "gzip"}
    ),
    "zipped": Response(
        body=gzip.compress(b'{"packed": true}'), headers={"Content-Encoding": "gzip"}
    ),
}

vendor = as_fixture(Vendor)


def session_at(url, *, key=KEY, sent=None, **more):
    """A session as the engine makes it; `sent` gets an entry for each announced paid request."""
    sending = (lambda: sent.append(1)) if sent is not None else (lambda: None)
    session = Session(f"{url}/v1", sending=sending, **more)
    session.bind(Acme(), ExecutorInfo(http=session, credential=Secret(key)))
    return session


def failure(work):
    with pytest.raises(ProviderError) as caught:
        work()
    return caught.value


class TestWhatGoesOut:
    def test_a_request(self, vendor):
        reply = session_at(vendor.url).post(
            "/images", json={"prompt": "größer"}, query={"a": [1, 2]}
        )

        [request] = vendor.calls()
        assert reply.object() == {"id": "img-1"}
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert (request.json, request.query) == ({"prompt": "größer"}, {"a": ["1", "2"]})

    def test_a_form_with_files(self, vendor):
        form = [("prompt", "x"), ("image[]", ("a.png", b"AAA", "image/png"))]

        session_at(vendor.url).post("/images", form=form)

        [request] = vendor.calls()
        assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert b'name="image[]"; filename="a.png"' in request.body

    def test_paths_with_spaces_and_umlauts(self, vendor):
        assert session_at(vendor.url).get("/images/ü").object()["id"] == "ü"

    def test_an_empty_answer(self, vendor):
        assert session_at(vendor.url).delete("/images/1").content == b""

    def test_without_a_credential_nothing_is_sent(self, vendor):
        Session(f"{vendor.url}/v1").get("/images/1")

        assert "authorization" not in vendor.calls()[0].headers

    def test_a_credential_no_header_can_hold(self, vendor):
        problem = failure(lambda: session_at(vendor.url, key="key\r\nX-Evil: 1"))

        assert problem.kind == "bad_credentials"

    def test_a_provider_may_want_its_key_elsewhere(self, vendor):
        class Google(Provider):
            name = "google"

            def auth_headers(self, executor, credential):
                return {"x-goog-api-key": credential.reveal()}

        session = Session(f"{vendor.url}/v1")
        session.bind(Google(), ExecutorInfo(http=session, credential=Secret(KEY)))
        session.get("/images/1")

        headers = vendor.calls()[0].headers
        assert (headers["x-goog-api-key"], "authorization" in headers) == (KEY, False)


class TestReading:
    @pytest.mark.parametrize("name", ["html", "nan", "deep", "half", "binary"])
    @pytest.mark.parametrize("paid", [True, False])
    def test_what_is_no_json(self, vendor, name, paid):
        reply = session_at(vendor.url).get(f"/raw/{name}", paid=paid)

        problem = failure(reply.json)

        expected = ("unknown_outcome",) * 2 if paid else ("transient", "bad_response")
        assert (problem.kind, problem.code) == expected

    def test_what_is_no_object(self, vendor):
        reply = session_at(vendor.url).get("/raw/list")

        assert reply.json() == [1]
        assert failure(reply.object).code == "bad_response"

    def test_blank_lines_before_a_late_answer(self, vendor):
        assert session_at(vendor.url).get("/raw/padded").object() == {"late": True}

    def test_more_than_allowed(self, vendor):
        session = session_at(vendor.url)

        assert failure(lambda: session.get("/raw/large", max_bytes=1000)).code == "bad_response"
        assert failure(lambda: session.get("/raw/large", max_bytes=1000, paid=True)).kind == (
            "unknown_outcome"
        )
        assert len(session.get("/raw/large").json()) == 1_000_001

    def test_compressed_all_the_same(self, vendor):
        assert session_at(vendor.url).get("/raw/zipped").object() == {"packed": True}
        assert failure(lambda: session_at(vendor.url).get("/raw/bomb")).code == "bad_response"

    def test_a_stream_comes_as_it_is_sent(self, vendor):
        with session_at(vendor.url).stream("POST", "/chat", json={}) as answer:
            pieces = list(answer.chunks())

        assert b"".join(pieces).count(b"data: ") == 3
        assert answer.headers["content-type"] == "text/event-stream"

    def test_what_the_reader_raises_passes_through(self, vendor):
        with pytest.raises(ZeroDivisionError), session_at(vendor.url).stream("POST", "/chat"):
            raise ZeroDivisionError


class TestErrors:
    def test_the_status_says_it(self, vendor):
        vendor.next("POST", "/v1/images", answered(429, {"error": "slow"}, retry_after="2.5"))

        problem = failure(lambda: session_at(vendor.url).post("/images", paid=True))

        assert (problem.kind, problem.retry_after, problem.status) == ("rate_limited", 2.5, 429)

    def test_operators_see_the_answer_without_secrets(self, vendor):
        body = {"error": f"key {KEY} is wrong", "hint": "Bearer abcdefghijklmnop"}
        vendor.next("GET", "/v1/images/1", answered(401, body))

        problem = failure(lambda: session_at(vendor.url).get("/images/1"))

        assert problem.raw is not None
        assert problem.raw.startswith("HTTP 401\n")
        assert KEY not in problem.raw + problem.message
        assert "abcdefghijklmnop" not in problem.raw

    def test_the_adapter_knows_better(self, vendor):
        class Knows(Acme):
            def explain(self, reply):
                if reply.object()["code"] == "Arrearage":
                    return ProviderError("quota_exhausted", "The account is empty.")
                return None

        session = Session(f"{vendor.url}/v1")
        session.bind(Knows(), ExecutorInfo(http=session))
        vendor.next(
            "GET",
            "/v1/images/1",
            answered(400, {"code": "Arrearage"}),
            answered(400, {"code": "?"}),
        )

        kinds = [failure(lambda: session.get("/images/1")).kind for _ in range(2)]

        assert kinds == ["quota_exhausted", "bad_input"]

    def test_the_vendor_says_stop(self, vendor):
        vendor.next("POST", "/v1/images", answered(500, {"error": "x"}, x_should_retry="false"))

        assert failure(lambda: session_at(vendor.url).post("/images")).retries == 0

    def test_nothing_is_ever_tried_again(self, vendor):
        session = session_at(vendor.url)
        for fault in (answered(500), answered(503), answered(429), drop_request(), garbage()):
            vendor.next("GET", "/v1/images/1", fault)
            failure(lambda: session.get("/images/1"))

        assert vendor.count() == 5

    def test_a_redirect_is_not_followed(self, vendor):
        vendor.next("GET", "/v1/images/1", answered(302, location="/v1/images/2"))

        assert failure(lambda: session_at(vendor.url).get("/images/1")).kind == "not_available"
        assert vendor.count() == 1


class TestPaid:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (drop_request(), "unknown_outcome"),
            (drop_answer(), "unknown_outcome"),
            (cut_answer(after=5), "unknown_outcome"),
            (garbage(), "unknown_outcome"),
            (garbage(b"HTTP/1.1 banana\r\n\r\n"), "unknown_outcome"),
            (answered(502, "<html>"), "unknown_outcome"),
            (answered(504, {"error": "x"}), "unknown_outcome"),
            (answered(500, "oops"), "unknown_outcome"),
            (answered(500, {"error": "x"}), "transient"),
            (answered(503, {"error": "x"}), "overloaded"),
            (answered(429, {"error": "x"}), "rate_limited"),
            (answered(400, {"error": "x"}), "bad_input"),
        ],
    )
    def test_a_create_that_goes_wrong(self, vendor, fault, kind):
        sent: list[int] = []
        vendor.next("POST", "/v1/images", fault)

        problem = failure(lambda: session_at(vendor.url, sent=sent).post("/images", paid=True))

        assert problem.kind == kind
        assert (len(sent), vendor.count()) == (1, 1)

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (drop_answer(), "transient"),
            (cut_answer(after=5), "bad_response"),
            (garbage(), "bad_response"),
            (answered(502, "<html>"), "transient"),
        ],
    )
    def test_the_same_for_a_poll(self, vendor, fault, code):
        sent: list[int] = []
        vendor.next("GET", "/v1/images/1", fault)

        problem = failure(lambda: session_at(vendor.url, sent=sent).get("/images/1"))

        assert (problem.kind, problem.code, sent) == ("transient", code, [])

    def test_nothing_was_sent_where_nobody_listens(self):
        sent: list[int] = []
        session = session_at("http://127.0.0.1:9", sent=sent)

        problem = failure(lambda: session.post("/images", paid=True))

        assert (problem.kind, problem.code, sent) == ("transient", "transient", [])

    def test_sending_comes_before_the_first_byte(self, vendor):
        seen = []
        session = Session(f"{vendor.url}/v1", sending=lambda: seen.append(vendor.count()))

        session.post("/images", paid=True)

        assert seen == [0]

    def test_a_replaced_attempt_sends_nothing(self, vendor):
        def replaced():
            raise Aborted("fenced")

        session = Session(f"{vendor.url}/v1", sending=replaced)
        with pytest.raises(Aborted):
            session.post("/images", paid=True)

        assert vendor.count() == 0
        assert session.get("/images/1").status == 200, "the session itself is well"

    def test_an_idle_connection_is_not_trusted_with_money(self, vendor, monkeypatch):
        monkeypatch.setattr("providers.exchange.PAID_IDLE_LIMIT", -1.0)
        session = session_at(vendor.url, connections=Connections())
        session.get("/images/1")
        session.get("/images/1")
        assert vendor.connections == 1

        session.post("/images", paid=True)

        assert vendor.connections == 2

    def test_a_connection_the_server_closed_is_noticed(self, vendor):
        connections = Connections()
        session = session_at(vendor.url, connections=connections)
        session.get("/images/1")
        vendor._server.cut_all()

        assert session.post("/images", paid=True).object() == {"id": "img-1"}


class TestTime:
    def test_a_server_that_never_answers(self, vendor):
        vendor.next("GET", "/v1/images/1", silence())

        problem = failure(lambda: session_at(vendor.url).get("/images/1", timeout=0.2))

        assert (problem.kind, problem.code) == ("transient", "upstream_timeout")

    def test_a_paid_request_that_is_never_answered(self, vendor):
        vendor.next("POST", "/v1/images", silence())

        problem = failure(lambda: session_at(vendor.url).post("/images", timeout=0.2, paid=True))

        assert problem.kind == "unknown_outcome"

    def test_a_server_that_drips_is_cut_from_outside(self, vendor):
        problem = failure(lambda: session_at(vendor.url).get("/drip", timeout=0.4))

        assert problem.code == "upstream_timeout"

    def test_the_deadline_of_the_call_limits_every_request(self, vendor):
        session = session_at(vendor.url, deadline=time.monotonic() + 1)
        vendor.next("GET", "/v1/images/1", delayed(30))

        assert failure(lambda: session.get("/images/1", timeout=60)).code == "upstream_timeout"

    def test_with_nothing_left_nothing_is_begun(self, vendor):
        sent: list[int] = []
        session = session_at(vendor.url, sent=sent, deadline=time.monotonic())

        problem = failure(lambda: session.post("/images", paid=True))

        assert (problem.kind, problem.code) == ("transient", "upstream_timeout")
        assert (sent, vendor.count()) == ([], 0)

    def test_a_deadline_that_was_met_rings_no_more(self, vendor):
        session = session_at(vendor.url, connections=Connections())
        session.get("/images/1", timeout=3)
        time.sleep(3.05)

        assert session.get("/images/1").status == 200
        assert vendor.connections == 1


class TestAbort:
    @pytest.mark.parametrize("path", ["/images/1", "/drip"])
    @pytest.mark.parametrize("reason", ["canceled", "shutdown", "fenced"])
    def test_a_blocked_read_ends_at_once(self, vendor, path, reason):
        vendor.next("GET", "/v1/images/1", silence())
        session = session_at(vendor.url)
        threading.Timer(0.1, session.abort, [reason]).start()

        with pytest.raises(Aborted) as caught:
            session.get(path)

        assert caught.value.reason == reason

    def test_nothing_follows(self, vendor):
        session = session_at(vendor.url)
        session.abort("canceled")
        session.abort("shutdown")

        with pytest.raises(Aborted) as caught:
            session.get("/images/1")

        assert (caught.value.reason, session.aborted) == ("canceled", "canceled")
        assert vendor.count() == 0

    def test_between_two_pieces_of_a_stream(self, vendor):
        session = session_at(vendor.url)

        def read():
            with session.stream("GET", "/drip") as answer:
                for _ in answer.chunks():
                    session.abort()

        with pytest.raises(Aborted):
            read()

    def test_one_session_only(self, vendor):
        vendor.next("GET", "/v1/images/1", silence(), delayed(0.3))
        doomed, other = session_at(vendor.url), session_at(vendor.url)
        with ThreadPoolExecutor() as pool:
            lost = pool.submit(doomed.get, "/images/1")
            while vendor.count() < 1:
                time.sleep(0.005)
            kept = pool.submit(other.get, "/images/1")
            doomed.abort()

            assert isinstance(lost.exception(), Aborted)
            assert kept.result().status == 200

    def test_while_it_connects(self, backlog):
        session = Session(f"http://127.0.0.1:{backlog}")
        threading.Timer(0.1, session.abort).start()

        with pytest.raises(Aborted):
            session.get("/")


@pytest.fixture
def backlog():
    """A port whose accept queue is full: the kernel drops every further handshake."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        filling = [socket.socket() for _ in range(3)]
        for client in filling:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        yield port
        for client in filling:
            client.close()


class TestSharing:
    def test_connections_are_kept(self, vendor):
        connections = Connections()
        for _ in range(5):
            session_at(vendor.url, connections=connections).get("/images/1")

        assert vendor.connections == 1

    def test_64_threads_open_64_connections_once(self, vendor):
        connections = Connections()
        together = threading.Barrier(64)

        def several(_):
            session = session_at(vendor.url, connections=connections)
            together.wait()
            return [session.get("/images/1").status for _ in range(5)]

        with ThreadPoolExecutor(64) as pool:
            statuses = [status for group in pool.map(several, range(64)) for status in group]

        assert statuses == [200] * 320
        assert vendor.connections <= 64
        connections.close()

    def test_a_half_read_answer_gives_no_connection_back(self, vendor):
        connections = Connections()
        session = session_at(vendor.url, connections=connections)
        with session.stream("GET", "/drip") as answer:
            next(answer.chunks())

        assert session.get("/images/1").object()["id"] == "1"
        assert vendor.connections == 2

    def test_an_error_answer_leaves_the_connection_usable(self, vendor):
        connections = Connections()
        session = session_at(vendor.url, connections=connections)
        vendor.next("GET", "/v1/images/1", answered(500, {"error": "x"}))
        failure(lambda: session.get("/images/1"))

        assert json.loads(session.get("/images/1").content)["id"] == "1"
        assert vendor.connections == 1
