"""What every adapter promises, as tests. See `ProviderContract`."""

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar, get_args

from providers.base import (
    ERROR_KINDS,
    TASK_TYPES,
    Aborted,
    Absent,
    Accepted,
    Call,
    CancelOutcome,
    Completed,
    ErrorKind,
    Health,
    Inventory,
    Params,
    Provider,
    ProviderError,
)

PATIENCE = 30.0  # seconds for a whole run against an emulator
THREADS = 8


class ProviderContract:
    """Subclass it, say how to make a call, and pytest does the rest.

        class TestAcme(ProviderContract):
            provider = Acme()

            @pytest.fixture(autouse=True)
            def vendor(self, acme):
                self.acme = acme

            def make(self, **more):                 # a submit that succeeds
                return make_call(self.provider, "acme-image-1", {"prompt": "x"}, base_url=self.acme.url, **more)

            def creates(self):                      # submits that reached the vendor
                return self.acme.count("POST", "/images")

            faults = {"rate_limited": lambda self: self.acme.next("POST", "/images", answered(429))}

    `faults`: for every error kind the adapter claims, what makes the next call fail with it. `paid`: the submit of
    `make` costs money. `remote = False`: there is no vendor, so nothing is counted.
    """

    provider: ClassVar[Provider]
    paid: ClassVar[bool] = True
    remote: ClassVar[bool] = True
    faults: ClassVar[Mapping[ErrorKind, Callable[[Any], None]]] = {}

    def make(self, **more: Any) -> Call:
        raise NotImplementedError

    def creates(self) -> int:
        raise NotImplementedError

    def run(self, call: Call) -> Completed:
        """Submit and poll to the end, as the engine does. Raises ProviderError."""
        result = self.provider.submit(call)
        return result if isinstance(result, Completed) else self.wait_for(call, result)

    def wait_for(self, call: Call, accepted: Accepted) -> Completed:
        """Poll with a fresh instance each time: nothing may be remembered between two calls."""
        waiting = accepted_call(call, accepted)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            for update in type(self.provider)().poll([waiting]):
                assert update.call is waiting
                assert update.progress is None or 0 <= update.progress <= 1
                if isinstance(update.state, Completed):
                    return update.state
                if isinstance(update.state, ProviderError):
                    raise update.state
            time.sleep(0.02)
        raise AssertionError("the job did not end")

    def test_names(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", self.provider.name)
        for family in self.provider.families:
            assert re.fullmatch(r"[a-z][a-z0-9_-]*", family.name)
            for pattern in family.patterns:
                assert re.fullmatch(r"[^*?\[\]]+\*?", pattern), f"{pattern} is no literal prefix"

    def test_models_declare_closed_schemas(self) -> None:
        names = [name for m in self.provider.models for name in (m.name, *m.aliases)]
        assert len({name.lower() for name in names}) == len(names)
        for model in self.provider.models:
            assert model.task_types
            assert set(model.task_types) <= set(TASK_TYPES)
            if model.params is not None:
                assert issubclass(model.params, Params)
                assert model.params.model_config.get("frozen")
                assert model.params.model_json_schema()["type"] == "object"

    def test_a_submit_ends_with_a_result(self) -> None:
        sent: list[float] = []
        result = self.run(self.make(sent=sent))
        assert result.outputs or result.text is not None or result.data is not None
        assert all(value >= 0 for value in result.usage.values())
        if self.remote:
            assert self.creates() == 1
            assert len(sent) == int(self.paid), "`sending` is recorded for paid requests, once"

    def test_nothing_is_sent_by_a_replaced_attempt(self) -> None:
        def replaced() -> None:
            raise Aborted("fenced")

        if self.paid:
            with _raises(Aborted):
                self.provider.submit(self.make(sending=replaced))
            assert self.creates() == 0

    def test_a_call_taken_back_stops(self) -> None:
        call = self.make()
        call.http.abort("canceled")
        with _raises(Aborted):
            self.provider.submit(call)
        if self.remote:
            assert self.creates() == 0

    def test_claimed_errors(self) -> None:
        for kind, provoke in self.faults.items():
            assert kind in ERROR_KINDS
            before = self.creates() if self.remote else 0
            provoke(self)
            with _raises(ProviderError) as caught:
                self.run(self.make())
            problem = caught[0]
            assert problem.kind == kind, f"{problem!r} instead of {kind}"
            assert problem.message
            self._keeps_secrets(problem)
            if self.remote:
                assert self.creates() <= before + 1, "an adapter never tries again"

    def _keeps_secrets(self, problem: ProviderError) -> None:
        credential = self.make().credential
        if credential is not None:
            shown = f"{problem.message} {problem.raw} {problem.refusal} {problem!r}"
            assert credential.reveal() not in shown

    def test_an_unknown_outcome_can_be_looked_up(self) -> None:
        if "unknown_outcome" not in self.faults or self.provider.retry_submit != "find":
            return
        self.faults["unknown_outcome"](self)
        call = self.make()
        with _raises(ProviderError):
            self.provider.submit(call)
        found = type(self.provider)().find(call)
        assert found is None or isinstance(found, Accepted | Completed | Absent)
        if isinstance(found, Accepted):
            assert isinstance(self.wait_for(call, found), Completed)

    def test_cancel_answers(self) -> None:
        call = self.make()
        result = self.provider.submit(call)
        if isinstance(result, Accepted):
            assert self.provider.cancel(accepted_call(call, result)) in get_args(CancelOutcome)

    def test_probe_and_inventory_answer(self) -> None:
        executor = self.make().executor
        assert isinstance(self.provider.probe(executor), Health)
        assert isinstance(self.provider.inventory(executor), Inventory)

    def test_threads_share_an_instance(self) -> None:
        calls = [self.make(submit_key=f"key-{number}") for number in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(self.run, calls))
        assert all(isinstance(result, Completed) for result in results)
        if self.remote:
            assert self.creates() == THREADS


def accepted_call(call: Call, accepted: Accepted) -> Call:
    """The call the engine polls with, after an attempt was accepted."""
    return replace(call, external_id=accepted.external_id)


class _raises:  # noqa: N801 - reads like pytest.raises, which this file does without
    """Expect an exception; the block's target is a list that holds it afterwards."""

    def __init__(self, kind: type[BaseException]) -> None:
        self._kind = kind
        self._caught: list[Any] = []

    def __enter__(self) -> list[Any]:
        return self._caught

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> bool:
        assert kind is not None, f"{self._kind.__name__} was not raised"
        self._caught.append(error)
        return issubclass(kind, self._kind)
