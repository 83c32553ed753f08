"""A tenth of the experiments with faults; all of them, at full size, run with `make chaos`.

Whatever is killed, doubled, frozen or cut here: nothing is lost, nothing is submitted or charged twice, and the
audit finds the books in order.
"""

import pytest

from tests.chaos import broker, commits, money, outcomes, workers
from tests.chaos.rig import Rig
from tests.integration.stack import Stack

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def rig(stack: Stack) -> Rig:
    """On the shared processes. The servers serve other tests too and stay."""
    return Rig(stack, scale=0.1)


def test_killed_processes(rig: Rig) -> None:
    rig.scale = 0.03
    workers.killed_processes(rig)


def test_a_frozen_worker_wakes_up_as_a_zombie(rig: Rig) -> None:
    workers.frozen_worker(rig)


def test_poison_kills_its_worker_and_nobody_else(rig: Rig) -> None:
    """One of them beside fifty healthy ones: two deaths among others, three alone."""
    workers.poison(rig)


def test_workers_are_stopped_in_order(rig: Rig) -> None:
    rig.scale = 0.05
    workers.rolling_deploy(rig)


def test_a_broker_that_forgets_everything(rig: Rig) -> None:
    broker.flushed(rig)


def test_doubled_and_reordered_messages(rig: Rig) -> None:
    rig.scale = 0.05
    broker.doubled(rig)


@pytest.mark.parametrize("experiment", [commits.died_after, commits.died_before])
def test_api_processes_that_die_beside_their_commit(rig: Rig, experiment) -> None:
    rig.scale = 0.03
    experiment(rig)


def test_a_vendor_hangs_up_after_it_took_the_job(rig: Rig) -> None:
    """Found by a look-up and adopted; without one nothing is sent again."""
    outcomes.with_look_up(rig)
    outcomes.with_neither(rig)


def test_cancel_at_any_moment(rig: Rig) -> None:
    money.canceled_at_random(rig)


def test_backends_of_the_database_are_killed(rig: Rig) -> None:
    money.database_down(rig)
