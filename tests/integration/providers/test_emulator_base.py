"""The ground the vendor emulators stand on is tested too."""

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from urllib3 import PoolManager
from urllib3.exceptions import ProtocolError

from tests.emulators.base import (
    Answer,
    Emulator,
    Request,
    Response,
    answered,
    cut_answer,
    delayed,
    drop_answer,
    drop_request,
    garbage,
    route,
    sse,
)


class Jobs(Emulator):
    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.together = threading.Barrier(3)

    @route("POST", "/jobs")
    def create(self, request: Request) -> Answer:
        self.made += 1
        return {"id": self.made, "got": request.json}

    @route("GET", "/jobs/{job}")
    def job(self, request: Request, job: str) -> Answer:
        return Response(200, {"id": job, "query": request.query}, {"X-Seen": "yes"})

    @route("GET", "/files/{path*}")
    def file(self, request: Request, path: str) -> Answer:
        return Response(body=path)

    @route("GET", "/stream")
    def stream(self, request: Request) -> Answer:
        return sse({"n": 1}, "plain")

    @route("GET", "/broken")
    def broken(self, request: Request) -> Answer:
        raise LookupError("a bug of the emulator")

    @route("GET", "/meet")
    def meet(self, request: Request) -> Answer:
        self.together.wait(5)
        return {}


@pytest.fixture
def jobs():
    with Jobs() as server:
        yield server


@pytest.fixture
def ask(jobs):
    pool = PoolManager(retries=False)

    def send(method, path, **more):
        return pool.request(method, f"{jobs.url}{path}", retries=False, **more)

    yield send
    pool.clear()


def test_routes_journal_and_answers(jobs, ask):
    assert ask("POST", "/jobs", json={"a": "ü"}).json() == {"id": 1, "got": {"a": "ü"}}
    answer = ask("GET", "/jobs/j%201?x=1&x=2")
    assert (answer.json(), answer.headers["x-seen"]) == (
        {"id": "j 1", "query": {"x": ["1", "2"]}},
        "yes",
    )
    assert ask("GET", "/files/a/b.png").data == b"a/b.png"
    assert ask("GET", "/stream").data == b'data: {"n": 1}\n\ndata: plain\n\ndata: [DONE]\n\n'

    assert [(r.method, r.path) for r in jobs.calls()] == [
        ("POST", "/jobs"),
        ("GET", "/jobs/j 1"),
        ("GET", "/files/a/b.png"),
        ("GET", "/stream"),
    ]
    assert (jobs.count("GET"), jobs.count("POST", "/jobs"), jobs.connections) == (3, 1, 1)
    jobs.verify()


def test_what_no_route_takes_fails_the_test(jobs, ask):
    assert ask("GET", "/jobs").status == 404

    with pytest.raises(AssertionError, match="GET /jobs"):
        jobs.verify()


def test_a_bug_of_the_emulator_fails_the_test(jobs, ask):
    assert ask("GET", "/broken").status == 500

    with pytest.raises(LookupError):
        jobs.verify()


@pytest.mark.parametrize(
    ("fault", "made"), [(drop_request(), 0), (drop_answer(), 1), (garbage(), 1), (cut_answer(3), 1)]
)
def test_faults_break_one_request(jobs, ask, fault, made):
    jobs.next("POST", "/jobs", None, fault)
    assert ask("POST", "/jobs", json=1).status == 200

    with pytest.raises((ProtocolError, http.client.HTTPException)):
        ask("POST", "/jobs", json=2)

    assert jobs.made == 1 + made
    assert ask("POST", "/jobs", json=3).json()["id"] == 2 + made


def test_a_scripted_answer(jobs, ask):
    jobs.next("POST", "/jobs", answered(429, {"error": "slow"}, retry_after="2"), delayed(0.01))

    refused, late = ask("POST", "/jobs", json=1), ask("POST", "/jobs", json=1)

    assert (refused.status, refused.headers["retry-after"], late.json()["id"]) == (429, "2", 1)


def test_requests_in_flight_are_counted(jobs, ask):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: ask("GET", "/meet"), range(3)))

    assert jobs.high_water == 3
