"""Vendors that take the job and hang up before they say so: E13 with keys, E14 with a look-up, E15 with neither."""

from genpulse import sql
from tasks import audit
from tasks.models import Attempt, Task
from tests.chaos.rig import Rig, eventually
from tests.chaos.vendors import IMAGES, JOBS, Keyed, Painter, solid
from tests.emulators.base import drop_answer
from tests.emulators.comfyui import ComfyUI

HELD = """
SELECT count(*) FROM tasks_task t JOIN wallet_hold h ON h.id = t.hold_id
WHERE t.id = ANY(%s) AND h.status = 'open'
"""


def with_keys(rig: Rig) -> None:
    """E13: sent again with the same key, the vendor makes one job of it."""
    rig.stack.ensure("orchestrator", "media", "worker")
    count = rig.some(300)
    with Keyed() as vendor:
        who, executor = rig.owner(), rig.executor("keyed", vendor.base, slots=16)
        vendor.next("POST", JOBS, *[drop_answer()] * count)
        ids = rig.submit(who, "keyed-1", executor, count, provider="keyed", max_attempts=10)
        tasks = rig.ended(ids, 300)
        assert {task.status for task in tasks} == {"succeeded"}
        assert vendor.accepted().total() == count
        assert set(vendor.accepted().values()) == {1}
        resent = vendor.sent().total() - count
    rig.hit("sent again with the same key", resent, count)
    rig.finish("E13 idempotent vendor")


def with_look_up(rig: Rig) -> None:
    """E14: looked up and adopted, never sent again."""
    rig.stack.ensure("orchestrator", "media", "worker")
    count = rig.some(300)
    with ComfyUI() as vendor:
        who, executor = rig.owner(), rig.executor("comfyui", vendor.url, slots=16)
        vendor.next("POST", "/prompt", *[drop_answer()] * count)
        ids = []
        for number in range(count):
            ids += rig.submit(who, "comfyui", executor, 1, input={"workflow": solid(number)})
        tasks = rig.ended(ids, 300)
        assert {task.status for task in tasks} == {"succeeded"}
        assert vendor.count("POST", "/prompt") == count
    found = Attempt.objects.filter(task_id__in=ids, error__kind="unknown_outcome").count()
    rig.hit("looked up", found, count)
    rig.finish("E14 vendor with a look-up")


def with_neither(rig: Rig) -> None:
    """E15: not sent again; the hold stays until an operator decides, or the time for that is over."""
    rig.stack.ensure("orchestrator", "media", "worker")
    count = rig.some(300)
    with Painter() as vendor:
        vendor.slowness = 0
        who = rig.owner()
        executor = rig.executor("openai", vendor.base, slots=count, verify_ttl=3600)
        vendor.next("POST", IMAGES, *[drop_answer()] * count)
        ids = rig.submit(who, "gpt-image-2", executor, count)
        verifying = Task.objects.filter(pk__in=ids, status="verifying")
        eventually(lambda: verifying.count() == count, 200)
        assert rig.count(HELD, ids) == Task.objects.filter(pk__in=ids, quoted__gt=0).count()
        assert not audit.breaches()
        # The time for an operator to decide is over.
        executor.config = {"verify_ttl": 1}
        executor.save()
        tasks = rig.ended(ids, 200)
        assert vendor.doubles() == []
        assert vendor.count("POST", IMAGES) == count
    codes = {(task.taskcontent.error or {}).get("code") for task in tasks}
    assert codes == {"outcome_unknown"}
    assert Attempt.objects.filter(task_id__in=ids, possible_cost=True).count() == count
    told = "SELECT count(*) FROM events_event WHERE type = 'audit.outcome_unknown' AND data->>'task_id' = ANY(%s)"
    assert sql.fetch(told, [ids])[0][0] == count
    rig.hit("verifying", count, count)
    rig.finish("E15 vendor with neither")
