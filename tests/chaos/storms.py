"""Vendors that refuse, die, or talk nonsense: E16, E17, CIRCUIT."""

import json
from collections import Counter

from django.db.models import QuerySet

from admin_integrations.models import Cooldown, Executor
from genpulse.events.models import Event
from tasks.models import Attempt, Chore, Task
from tests.chaos.rig import Rig, eventually, meanwhile
from tests.chaos.vendors import IMAGES, Mortal, Painter, Stormy
from tests.emulators.base import Fault, answered, cut_answer, garbage
from tests.integration.cast import Caller

CHAT = "/v1/chat/completions"
WELL = {"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
USAGES = (
    '{"prompt_tokens": NaN, "completion_tokens": 1}',
    '{"prompt_tokens": -5, "completion_tokens": -1}',
    '{"prompt_tokens": 1' + "0" * 400 + ', "completion_tokens": 1e999}',
    '{"prompt_tokens": "many", "completion_tokens": [1]}',
    '"none"',
)


def stormy_vendor(rig: Rig) -> None:
    """E16: refusals of every kind; nobody comes back before Retry-After, and all is well when the storm is over."""
    rig.stack.ensure("orchestrator", "media", "worker")
    with Stormy() as vendor:
        who, executor = rig.owner(), rig.executor("openai", vendor.base, slots=16)
        ids = rig.submit(who, "gpt-image-2", executor, rig.some(100), max_attempts=10)
        vendor.storming = True
        ids += rig.submit(who, "gpt-image-2", executor, rig.some(400), max_attempts=10)
        eventually(lambda: Cooldown.objects.filter(executor=executor).exists())
        eventually(lambda: vendor.refused.total() >= rig.some(100, 12))
        eventually(lambda: len(vendor.refused) == len(Stormy.REFUSALS))
        vendor.storming = False
        tasks = rig.ended(ids, 300)
        assert vendor.early == 0
        assert set(vendor.painted.values()) == {1}
        assert len(vendor.painted) == sum(task.status == "succeeded" for task in tasks)
        codes = {task.taskcontent.error["code"] for task in tasks if task.taskcontent.error}
        assert codes <= {"attempts_exhausted"}, codes
        rig.counts.update({f"refused {code}": n for code, n in vendor.refused.items()})
        rig.hit("refused with Retry-After", vendor.refused[429], rig.some(20, 1))
        rig.hit("refused otherwise", vendor.refused[503] + vendor.refused[500], rig.some(20, 1))
    rig.finish("E16 stormy vendor")


def nonsense(rig: Rig) -> None:
    """E17: answers nobody can read. A chat is asked again; a picture that may have been paid is not."""
    rig.stack.ensure("orchestrator", "media", "worker")
    before = rig.logged("job.failed")
    with Painter() as vendor:
        vendor.slowness = 0
        who = rig.owner()
        executor = rig.executor("openai", vendor.base, slots=16, verify_ttl=1)
        kinds = unreadable()
        rounds = rig.some(5)
        vendor.next("POST", IMAGES, *kinds * rounds)
        paid = rig.submit(who, "gpt-image-2", executor, len(kinds) * rounds)
        lost = rig.ended(paid, 200)
        assert {(task.taskcontent.error or {}).get("code") for task in lost} == {"outcome_unknown"}
        assert vendor.doubles() == []
        # One after the other: what is scripted for a task's first answer must not meet another task's second.
        for answer in (*kinds, *strange_usage()):
            vendor.next("POST", CHAT, answer)
            chat = rig.submit(
                who,
                "gpt-4o-mini",
                executor,
                1,
                input={"messages": [{"role": "user", "content": "hi"}]},
            )
            [task] = rig.ended(chat, 60)
            assert task.status == "succeeded", task.taskcontent.error
            assert 0 <= task.charged <= task.quoted
        tried = Attempt.objects.filter(task_id__in=paid).count()
    assert tried == len(paid), "what may have been paid was not tried again"
    assert rig.logged("job.failed") == before
    rig.hit("answers nobody can read", 2 * len(kinds) * rounds, 2 * len(kinds))
    rig.finish("E17 nonsense")


def unreadable() -> list[Fault]:
    return [
        answered(200, "<html>please log in</html>", content_type="application/json"),
        answered(200, '{"data": [{"b64_json": "iVBOR', content_type="application/json"),
        answered(200, "[" + "1," * 5_000_000 + "1]", content_type="application/json"),
        answered(200, '{"created": NaN}', content_type="application/json"),
        answered(200, {"data": "wrong", "choices": "wrong"}),
        garbage(),
        cut_answer(after=5),
    ]


def strange_usage() -> list[Fault]:
    body = '{"id": "x", "choices": [%s], "usage": %s}'
    return [
        answered(200, body % (json.dumps(WELL), usage), content_type="application/json")
        for usage in USAGES
    ]


def one_of_two_dies(rig: Rig) -> None:
    """CIRCUIT: two executors, one dies in mid-run and comes back: its circuit opens, and closes by itself."""
    rig.stack.ensure("orchestrator", "media", "worker")
    with Mortal() as mortal, Painter() as other:
        who = rig.owner()
        dying = rig.executor("openai", mortal.base, slots=4, verify_ttl=1)
        staying = rig.executor("openai", other.base, slots=4, verify_ttl=1)
        ids: list[str] = []

        def more() -> None:
            ids.extend(_anywhere(rig, who, dying, staying))

        with meanwhile(more, lambda: 0.1):
            eventually(lambda: mortal.busy and len(ids) > 8)
            mortal.die()
            eventually(lambda: circuit(dying).exists())
            before = other.creates().total()
            eventually(lambda: other.creates().total() > before + 5)
            mortal.live_again()
            Chore.objects.filter(name="probes").update(last_run=None)  # its turn would come
            eventually(lambda: not circuit(dying).exists())
            again = mortal.creates().total()
            eventually(lambda: mortal.creates().total() > again + 2)
        tasks = rig.ended(ids, 200)
        paid = mortal.creates() + other.creates()
        assert not [prompt for prompt, count in paid.items() if count > 1]
    unknown = [task for task in tasks if task.status != "succeeded"]
    for task in unknown:
        assert (task.taskcontent.error or {})["code"] == "outcome_unknown"
    told = Counter(Event.objects.filter(data__executor=dying.name).values_list("type", flat=True))
    assert told["executor.up"] >= 1
    rig.counts["outcome unknown"] = len(unknown)
    rig.hit("circuits opened", told["executor.down"])
    left = Task.objects.filter(pk__in=ids, attempt__gt=1, executor=staying.name).count()
    rig.hit("went to the other one", left, by_chance=True)
    rig.finish("CIRCUIT one of two dies")


def circuit(executor: Executor) -> QuerySet[Cooldown]:
    """Opened by errors in a row, or by a probe that was quicker."""
    return Cooldown.objects.filter(executor=executor, reason__in=["circuit_open", "unhealthy"])


def _anywhere(rig: Rig, who: Caller, *executors: Executor) -> list[str]:
    names = {"only": [executor.name for executor in executors]}
    return rig.submit(who, "gpt-image-2", executors[0], 1, executor=names)
