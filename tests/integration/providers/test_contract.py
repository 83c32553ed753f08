"""The contract of adapters: an honest one passes, and each way of breaking it is found."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import pytest

from providers.base import (
    Absent,
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ExecutorInfo,
    Family,
    Health,
    Inventory,
    Model,
    Output,
    Params,
    Provider,
    ProviderError,
    Update,
)
from providers.contract import ProviderContract
from providers.params import Images, Prompt
from providers.testing import make_call
from tests.emulators.base import (
    Answer,
    Emulator,
    Request,
    Response,
    answered,
    as_fixture,
    drop_answer,
    route,
)


class AcmeVendor(Emulator):
    """Takes a job, works on it for two looks, lists its jobs by our key."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: dict[str, int] = {}

    @route("POST", "/jobs")
    def create(self, request: Request) -> Answer:
        self.looks[request.json["key"]] = 0
        return {"id": request.json["key"]}

    @route("GET", "/jobs/{job}")
    def job(self, request: Request, job: str) -> Answer:
        if job not in self.looks:
            return Response(404, {"error": "unknown"})
        self.looks[job] += 1
        return {"done": self.looks[job] > 2, "url": f"{self.url}/files/{job}.png"}

    @route("POST", "/jobs/{job}/cancel")
    def cancel(self, request: Request, job: str) -> Answer:
        return {}

    @route("GET", "/models")
    def models(self, request: Request) -> Answer:
        return ["acme-kite-1"]


class KiteParams(Params):
    prompt: Prompt
    images: Images | None = None


class Acme(Provider):
    """The adapter of the documentation, complete."""

    name = "acme"
    families = (Family("acme", ("acme-*",)),)
    models = (Model("acme-kite-1", ("text-to-image", "image-to-image"), KiteParams),)
    retry_submit = "find"

    def submit(self, call: Call) -> Completed | Accepted:
        body = {"prompt": call.given()["prompt"], "key": call.submit_key}
        return Accepted(call.http.post("/jobs", json=body, paid=True).object()["id"])

    def poll(self, calls: Sequence[Call]) -> Iterable[Update]:
        for call in calls:
            job = call.http.get(f"/jobs/{quote(call.external_id or '')}").object()
            picture = Completed([Output("image", url=job["url"])], usage={"images": 1})
            yield Update(call, picture if job["done"] else "working")

    def find(self, call: Call) -> Accepted | Absent:
        try:
            call.http.get(f"/jobs/{call.submit_key}")
        except ProviderError as problem:
            if problem.kind == "not_available":
                return Absent()
            raise
        return Accepted(call.submit_key)

    def cancel(self, call: Call) -> CancelOutcome:
        call.http.post(f"/jobs/{call.external_id}/cancel")
        return "canceled"

    def probe(self, executor: ExecutorInfo) -> Health:
        executor.http.get("/models")
        return Health("healthy", "ok")

    def inventory(self, executor: ExecutorInfo) -> Inventory:
        return Inventory(models=executor.http.get("/models").json())


acme = as_fixture(AcmeVendor)


class AcmeContract(ProviderContract):
    provider: ClassVar[Provider] = Acme()
    acme: AcmeVendor
    faults: ClassVar = {
        "rate_limited": lambda self: self.acme.next("POST", "/jobs", answered(429)),
        "bad_credentials": lambda self: self.acme.next(
            "POST", "/jobs", answered(401, {"error": "test-credential-0123456789"})
        ),
        "unknown_outcome": lambda self: self.acme.next("POST", "/jobs", drop_answer()),
    }

    @pytest.fixture(autouse=True)
    def vendor(self, acme: AcmeVendor) -> None:
        self.acme = acme

    def make(self, **more: Any) -> Call:
        given = {"prompt": "a kite"}
        return make_call(self.provider, "acme-kite-1", given, base_url=self.acme.url, **more)

    def creates(self) -> int:
        return self.acme.count("POST", "/jobs")


class TestAnHonestAdapter(AcmeContract):
    pass


class Insistent(Acme):
    """Tries again by itself."""

    def submit(self, call: Call) -> Completed | Accepted:
        try:
            return super().submit(call)
        except ProviderError:
            return super().submit(call)


class Careless(Acme):
    """Does not say that its request costs money."""

    def submit(self, call: Call) -> Completed | Accepted:
        call.http.post("/jobs", json={"key": call.submit_key})
        return Accepted(call.submit_key)


class Forgetful(Acme):
    """Keeps in memory what it should keep in the external id."""

    def __init__(self) -> None:
        self.jobs: dict[str, Call] = {}

    def submit(self, call: Call) -> Completed | Accepted:
        accepted = super().submit(call)
        self.jobs[call.submit_key] = call
        return accepted

    def poll(self, calls: Sequence[Call]) -> Iterable[Update]:
        return super().poll([call for call in calls if self.jobs[call.submit_key] is not None])


class Talkative(Acme):
    """Shows the vendor's answer, with the key in it."""

    def submit(self, call: Call) -> Completed | Accepted:
        try:
            return super().submit(call)
        except ProviderError as problem:
            assert call.credential
            raise ProviderError(problem.kind, f"{call.credential.reveal()} refused") from problem


class Sloppy(Acme):
    """Declares what nobody can route."""

    models = (Model("acme-kite-1", ("poem",), KiteParams),)  # type: ignore[arg-type]
    families = (Family("Acme Inc.", ("*",)),)


@pytest.mark.parametrize(
    ("adapter", "check"),
    [
        (Insistent, "test_claimed_errors"),
        (Careless, "test_a_submit_ends_with_a_result"),
        (Careless, "test_nothing_is_sent_by_a_replaced_attempt"),
        (Forgetful, "test_a_submit_ends_with_a_result"),
        (Talkative, "test_claimed_errors"),
        (Sloppy, "test_names"),
        (Sloppy, "test_models_declare_closed_schemas"),
    ],
)
def test_a_broken_promise_is_found(acme, adapter, check):
    contract = type("Broken", (AcmeContract,), {"provider": adapter(), "acme": acme})()

    with pytest.raises((AssertionError, KeyError)):
        getattr(contract, check)()
