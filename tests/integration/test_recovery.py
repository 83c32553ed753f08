"""Some of the experiments in small, with the tests; all of them, at full size, run with `make chaos`.

Whatever is killed, doubled, frozen or cut here: nothing is lost, nothing is submitted or charged twice, and the
audit finds the books in order.
"""

import pytest

from tests.chaos import broker, leaders, workers
from tests.chaos.rig import Rig
from tests.integration.stack import Stack

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def rig(stack: Stack) -> Rig:
    """On the shared processes. The servers serve other tests too and stay."""
    return Rig(stack, scale=0.05)


def test_every_process_is_killed_in_turn(rig: Rig) -> None:
    workers.every_child(rig)


def test_no_place_is_given_twice(rig: Rig) -> None:
    """Three workers, two orchestrators, a broker that forgets, leaders that die."""
    leaders.places_kept(rig)


def test_a_frozen_worker_wakes_up_as_a_zombie(rig: Rig) -> None:
    workers.frozen_worker(rig)


def test_doubled_and_reordered_messages(rig: Rig) -> None:
    broker.doubled(rig)
