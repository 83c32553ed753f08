"""Whatever a client sends, the server does not break: invented bodies and parameters for every documented operation.

FUZZ_EXAMPLES=100 looks longer.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from genpulse.http import openapi
from tests.integration.cast import caller
from tests.integration.stack import sandbox

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1"))  # of each operation, valid and invalid


def test_no_input_breaks_the_server(web):
    sandbox()
    headers = caller("root", "admin", "tasks", "keys", "act_as").headers
    document = schemathesis.openapi.from_dict(openapi.document())
    broken: list[str] = []
    for found in document.get_all_operations():
        assert isinstance(found, Ok)
        for mode in GenerationMode:
            fuzz(found.ok().as_strategy(generation_mode=mode), web, headers, broken)
    assert not broken


def fuzz(cases: Any, base: str, headers: Mapping[str, str], broken: list[str]) -> None:
    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def once(case: Case[Any]) -> None:
        answer = case.call(base_url=base, headers=dict(headers), timeout=60)
        # 503 says that nobody serves the model, which is true here.
        if answer.status_code >= 500 and answer.status_code != 503:
            broken.append(f"{answer.status_code} {case.as_curl_command()}")

    with suppress(Unsatisfiable):  # some operations take nothing that could be wrong
        once()
