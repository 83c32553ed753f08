"""Models and providers: what is listed, what it takes, and whether it can be used now."""

from datetime import UTC, datetime

import pytest
from jsonschema import Draft202012Validator

from admin_integrations.models import Executor, Workflow, WorkflowBinding
from tasks import catalogue, insight
from tests.integration.cast import caller
from tests.integration.floor import Floor

pytestmark = pytest.mark.django_db
URL = "/api/v1/models"
GRAPH = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
}


@pytest.fixture
def alice(db):
    return caller("alice")


def get(who, path):
    insight.forget()
    answer = who.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def names(page):
    return [item["id"] for item in page["items"]]


def test_a_model_says_what_it_is_and_whether_it_can_be_used(alice):
    item = get(alice, f"{URL}/sandbox-image")
    assert item["unavailable_reason"] == "no executor of provider sandbox; add one to serve this"
    floor = Floor()
    floor.executor("gpu-1", 2)
    assert get(alice, f"{URL}/sandbox-image")["unavailable_reason"] == (
        "no worker online for family sandbox"
    )
    floor.worker()
    floor.queue("bob", 7)
    item = get(alice, f"{URL}/sandbox-image")
    listed = {name: item.pop(name) for name in ("input_schema", "defaults", "example")}
    assert item == {
        "id": "sandbox-image",
        "object": "model",
        "name": "sandbox-image",
        "provider": "sandbox",
        "family": "sandbox",
        "task_types": ["text-to-image", "image-to-image"],
        "description": item["description"],
        "aliases": [],
        "available": True,
        "unavailable_reason": None,
        "price": [{"unit": "image", "price": "1"}],
        "queue_depth": 7,
        "eta_seconds": None,
        "sandbox": True,
    }
    assert item in get(alice, URL)["items"]
    assert listed["input_schema"]["additionalProperties"] is False
    assert listed["defaults"]["n"] == 1
    assert alice.get(f"{URL}/nobody-knows").status_code == 404


def test_every_example_is_accepted_and_fits_its_schema(db):
    entries = catalogue.entries()
    assert len(entries) > 50
    for entry in entries:
        given = catalogue.example(entry)
        assert catalogue.accepts(entry, given), (entry.name, given)
        schema = catalogue.details(entry)["input_schema"]
        Draft202012Validator.check_schema(schema)
        assert Draft202012Validator(schema).is_valid(given), entry.name


def test_an_example_can_be_sent(alice):
    for model in ("sandbox-text", "sandbox-embedding"):
        body = get(alice, f"{URL}/{model}")["example"]
        assert alice.post("/api/v1/quote", body).status_code == 200


def test_filters_and_pages(alice):
    floor = Floor()
    floor.executor("gpu-1", 2)
    floor.worker()
    everything = names(get(alice, URL))
    assert everything[:2] == ["sandbox-audio", "sandbox-embedding"]
    assert names(get(alice, f"{URL}?available=true")) == [
        name for name in everything if name.startswith("sandbox")
    ]
    assert names(get(alice, f"{URL}?task_type=transcription&provider=sandbox")) == [
        "sandbox-transcribe"
    ]
    assert set(names(get(alice, f"{URL}?q=DOUBAO&family=volcengine"))) <= set(everything)
    walked, cursor = [], ""
    while cursor is not None:
        page = get(alice, f"{URL}?limit=7&cursor={cursor}")
        walked += names(page)
        cursor = page["next_cursor"]
    assert walked == everything
    for bad in ("limit=0", "limit=101", "cursor=bm9uc2Vuc2U", "task_type=sculpture"):
        assert alice.get(f"{URL}?{bad}").status_code == 422


def test_inventories_and_bindings_add_models(alice):
    floor = Floor()
    floor.executor("box", 1, "qwen", known_models=["mistral-small", "qwen*"])
    workflow = Workflow.objects.create(
        name="portrait", type="comfyui", status="active", definition=GRAPH
    )
    WorkflowBinding.objects.create(action="sdxl-portrait", workflow=workflow)
    found = names(get(alice, URL))
    assert "mistral-small" in found
    assert "sdxl-portrait" in found
    item = get(alice, f"{URL}/sdxl-portrait")
    assert [item["provider"], item["family"]] == ["comfyui", "sd"]
    assert get(alice, f"{URL}/gpt-5")["family"] == "openai"


def test_openai_clients_are_told_since_when_a_model_is_there(alice):
    first, later = (datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3))
    floor = Floor()
    for name, made in (("gpu-1", later), ("gpu-2", first)):
        executor = floor.executor(name, 1)
        Executor.objects.filter(pk=executor.id).update(created_at=made)
    workflow = Workflow.objects.create(
        name="portrait", type="comfyui", status="active", definition=GRAPH
    )
    WorkflowBinding.objects.create(action="sdxl-portrait", workflow=workflow)
    WorkflowBinding.objects.update(created_at=later)
    floor.worker()
    wanted = {
        "sandbox-text": first,
        "sdxl-portrait": later,
        "gpt-5": datetime(1970, 1, 1, tzinfo=UTC),
    }
    for name, made in wanted.items():
        model = get(alice, f"/openai/v1/models/{name}")
        assert datetime.fromtimestamp(model["created"], UTC) == made
    listed = get(alice, "/openai/v1/models")["data"]
    assert {model["created"] for model in listed} == {int(first.timestamp())}


def test_providers_say_what_they_can(alice):
    Floor().executor("gpu-1", 2)
    shown = {item["name"]: item for item in get(alice, "/api/v1/providers")["items"]}
    assert shown["sandbox"]["configured"]
    assert shown["sandbox"]["executors"] == 1
    assert {"poll", "find", "stream"} <= set(shown["sandbox"]["capabilities"])
    assert shown["comfyui"]["families"] == ["sd", "comfyui"]
    assert not shown["openai"]["configured"]
    assert caller("bob", "media").get("/api/v1/providers").status_code == 403
