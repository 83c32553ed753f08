"""The machine as a model in small; `make chaos` goes through many more worlds."""

import pytest

from tests.chaos.model import Broken, explore


def test_no_order_of_events_breaks_a_promise():
    worlds, happened = explore(attempts=4)
    assert worlds > 5_000
    assert happened["claim fenced refused"]
    assert happened["announce fenced refused"]
    assert happened["accepted fenced refused"]


def test_the_search_finds_what_is_wrong():
    with pytest.raises(Broken, match="submitted twice"):
        explore(attempts=2, resend=True)
