"""The AI service dialect."""

import pytest

from admin_integrations import fleet
from admin_integrations.models import Executor
from genpulse.dialects import ai_words
from genpulse.ids import new_id
from tasks.models import Status, Task, TaskContent
from tests.integration.cast import caller
from tests.integration.stack import all_ended, sandbox
from wallet import services as wallet

QUICK = {"latency": 0}
IMAGE = {"prompt": "kite", "user_id": "carol", "provider": "sandbox", "sandbox": QUICK}


@pytest.fixture
def service(db):
    sandbox()
    carol = caller("carol")
    wallet.deposit(carol.user.account_id, 100_000_000, reason="test")
    return caller("shop", "act_as", "tasks", "media", "wallet", "webhooks")


def submit(who, kind="image", expect=201, base="/ai", **fields):
    answer = who.post(f"{base}/{kind}/task", {**IMAGE, **fields})
    assert answer.status_code == expect, answer.content
    return answer.json()


@pytest.mark.parametrize("base", ["/ai", "/api/v1/ai"])
def test_submit_read_and_delete(service, base):
    made = submit(service, base=base)
    task_id = made["data"].pop("task_id")
    assert made["success"] is True
    assert made["data"] == {
        "status": "pending",
        "provider": "sandbox",
        "model": "sandbox-image",
        "type": "image",
        "size": "1024x1024",
    }
    assert Task.objects.get().account.name == "carol"
    for path in (f"{base}/image/result/{task_id}", f"{base}/task/result/{task_id}"):
        answer = service.get(path)
        assert [answer.status_code, answer.json()["message"]] == [202, "任务处理中"]
    assert service.get(f"{base}/text/result/{task_id}").status_code == 404
    assert service.delete(f"{base}/video/task/{task_id}").status_code == 404
    gone = service.delete(f"{base}/image/task/{task_id}").json()
    assert gone == {"success": True, "data": {"task_id": task_id}, "message": "任务已删除"}
    missing = service.get(f"{base}/image/result/{task_id}")
    assert missing.status_code == 404
    assert missing.json()["error"] == "任务不存在"
    assert missing.json()["message"] == "Task not found"
    assert Task.objects.get().status == Status.CANCELED


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"prompt": None}, "prompt", ""),
        ({"prompt": " "}, "prompt", "blank"),
        ({"user_id": None}, "user_id", ""),
        ({"user_id": "../x"}, "user_id", ""),
        ({"provider": "nobody"}, "provider", "volcengine"),
        ({"provider": None, "size": "100x100"}, "size", "1512x648"),
        ({"size": "huge"}, "size", ""),
        ({"seed": -2}, "seed", ""),
        ({"priority": "urgent"}, "priority", ""),
        ({"delay": "31d"}, "delay", ""),
        ({"mode": "later"}, "mode", ""),
    ],
)
def test_bad_fields_are_400_with_details(service, change, field, says):
    body = {name: value for name, value in {**IMAGE, **change}.items() if value is not None}
    answer = service.post("/ai/image/task", body)
    assert answer.status_code == 400, answer.content
    assert [answer.json()["success"], answer.json()["error"]] == [False, "请求参数验证失败"]
    details = {item["field"]: item["message"] for item in answer.json()["details"]}
    assert says in details[field]
    assert not Task.objects.exists()


def test_what_nobody_named(service):
    for kind, model in (
        ("image", "doubao-seedream-3.0-t2i"),
        ("text", "doubao-pro-4k"),
        ("video", "doubao-video-pro"),
    ):
        made = service.post(f"/ai/{kind}/task", {"prompt": "kite", "user_id": "carol"})
        assert made.status_code == 201, made.content
        assert [made.json()["data"][name] for name in ("provider", "model")] == [
            "volcengine",
            model,
        ]
    alias = service.post(
        "/ai/image/task", {"prompt": "x", "user_id": "carol", "model": "doubao-seedream"}
    )
    assert alias.json()["data"]["model"] == "doubao-seedream"


def test_videos_of_words_and_of_images(service):
    words = submit(service, "video", seed=7)["data"]
    assert [words["task_type"], words["seed"], words["image_count"]] == ["text_to_video", 7, 0]
    moved = submit(service, "video", image_urls=["http://127.0.0.1:9/a.png"])["data"]
    assert [moved["task_type"], moved["image_count"]] == ["image_to_video", 1]
    assert moved["aspect_ratio"] == "16:9"


def test_later_and_first(service):
    submit(service, delay="2h", priority="critical")
    task = Task.objects.get()
    assert [task.ready, task.priority] == [False, 0]
    submit(service, schedule_at="2026-11-21T10:00:00Z")
    both = submit(service, delay=5, schedule_at="2026-11-21T10:00:00Z", expect=400)
    assert both["details"][0]["field"] == "schedule_at"


def test_money_and_people(service):
    poor = submit(service, user_id="dave", expect=402)
    assert poor["error"] == "积分不足"
    own = caller("eve")
    stranger = submit(own, expect=403)
    assert [stranger["success"], stranger["code"]] == [False, "user_mismatch"]
    task = submit(service)["data"]["task_id"]
    assert own.get(f"/ai/image/result/{task}").status_code == 404
    assert own.delete(f"/ai/image/task/{task}").status_code == 404
    assert service.get(f"/ai/task/result/{new_id()}").status_code == 404
    assert service.get("/ai/nothing").json()["success"] is False


def test_lists_by_user_and_type(service):
    made = [submit(service)["data"]["task_id"] for _ in range(3)]
    submit(service, "text")
    page = service.get("/ai/image/tasks?user_id=carol&limit=1000").json()["data"]
    assert [task["task_id"] for task in page.pop("tasks")] == made[::-1]
    assert page == {"limit": 100, "offset": 0, "count": 3, "total": 3, "type": "image"}
    text = service.get("/ai/tasks?user_id=carol&type=text&limit=1").json()["data"]
    assert [text["count"], text["total"], text["type"]] == [1, 1, "text"]
    assert service.get("/ai/tasks?user_id=carol").json()["data"]["total"] == 4
    assert service.get("/ai/tasks?user_id=zoe").json()["data"]["total"] == 0
    nobody = service.get("/ai/tasks")
    assert [nobody.status_code, nobody.json()["details"][0]["field"]] == [400, "user_id"]


def test_the_same_key_makes_one_task(service):
    first, again = (service.post("/ai/image/task", IMAGE, Idempotency_Key="k") for _ in range(2))
    assert first.json() == again.json()
    other = service.post("/ai/image/task", {**IMAGE, "seed": 5}, Idempotency_Key="k")
    assert [other.status_code, other.json()["code"]] == [422, "idempotency_key_reused"]


def test_providers_and_queues(service):
    Executor.objects.create(name="off", type="gemini", status="inactive")
    fleet.forget()
    listed = service.get("/ai/providers").json()["data"]["providers"]
    status = {item["name"]: item["status"] for item in listed}
    assert [status["sandbox"], status["gemini"], status["volcengine"]] == [
        "ready",
        "down",
        "not_configured",
    ]
    submit(service, priority="low")
    assert service.get("/ai/queue/stats").status_code == 403
    stats = caller("root", "admin").get("/ai/queue/stats").json()["data"]
    assert stats["queues"]["low"]["pending"] == 1
    assert stats["queues"]["critical"]["pending"] == 0


def test_users_of_an_admin(service):
    root = caller("root", "admin")
    made = root.post("/ai/users", {"email": "Zoe@example.com", "name": "zoe"})
    assert made.status_code == 201, made.content
    user = made.json()["data"]
    assert [user["name"], user["email"]] == ["zoe", "zoe@example.com"]
    assert root.get(f"/ai/users/{user['id']}").json()["data"] == user
    changed = root("PUT", f"/ai/users/{user['id']}", {"email": "z@example.com"}).json()["data"]
    assert [changed["name"], changed["email"]] == ["zoe", "z@example.com"]
    renamed = root("PUT", f"/ai/users/{user['id']}", {"name": "zora"}).json()["data"]
    assert [renamed["name"], renamed["email"]] == ["zora", "z@example.com"]
    assert root.get("/api/v1/users/zora").json()["id"] == user["id"]
    taken = root("PUT", f"/ai/users/{user['id']}", {"name": "root"})
    assert [item["field"] for item in taken.json()["details"]] == ["name"]
    assert root.post("/ai/users", {"email": "x", "name": "q"}).status_code == 400
    assert root.delete(f"/ai/users/{user['id']}").json()["success"] is True
    assert root.get(f"/ai/users/{user['id']}").status_code == 404
    assert service.get("/ai/users").status_code == 403


def test_every_status_has_its_word():
    assert set(ai_words.WORDS) == set(Status)


def test_a_story(stack, service):
    """Results of all kinds, a failure, and a caller that waits."""
    image = submit(service, size="32x32")["data"]["task_id"]
    text = submit(service, "text", max_tokens=9)["data"]["task_id"]
    video = submit(service, "video", duration=1, aspect_ratio="1:1")["data"]["task_id"]
    bad = submit(service, sandbox={**QUICK, "fail": "content_refused"})["data"]["task_id"]
    all_ended([image, text, video, bad])
    done = service.get(f"/ai/image/result/{image}")
    assert [done.status_code, done.json()["message"]] == [200, "任务完成"]
    assert done.json()["data"]["image_url"] == done.json()["data"]["image_urls"][0]
    said = service.get(f"/ai/text/result/{text}").json()["data"]
    assert [said["text_result"], said["max_tokens"]] == ["[sandbox] sandbox-text: kite", 9]
    assert service.get(f"/ai/video/result/{video}").json()["data"]["video_url"]
    failed = service.get(f"/ai/task/result/{bad}")
    assert [failed.status_code, failed.json()["success"]] == [200, False]
    assert failed.json()["error"] == failed.json()["data"]["error"] != ""

    waited = service.post("/ai/text/task?mode=sync", IMAGE)
    assert waited.status_code == 200, waited.content
    assert waited.json()["data"]["text_result"] == "[sandbox] sandbox-text: kite"
    assert waited["X-GenPulse-Task-Id"] == waited.json()["data"]["task_id"]
    slow = {**IMAGE, "mode": "sync", "wait": 1, "sandbox": {"latency": 30}}
    early = service.post("/ai/text/task", slow)
    assert [early.status_code, early.json()["message"]] == [202, "任务处理中"]
    assert TaskContent.objects.filter(pk=early.json()["data"]["task_id"]).exists()
