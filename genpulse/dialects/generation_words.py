"""How the generation dialect shows tasks."""

from collections.abc import Mapping
from typing import Any

from genpulse.dialects.doors import error_text, shown, updated_at, urls_of
from tasks.models import Attempt, Status, Task

WORDS: Mapping[Status, str] = {
    Status.QUEUED: "pending",
    Status.BLOCKED: "pending",
    Status.ADMITTED: "pending",
    Status.RUNNING: "processing",
    Status.AWAITING: "processing",
    Status.VERIFYING: "processing",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELED: "failed",
    Status.EXPIRED: "failed",
}
PRIORITIES = {"critical": "high", "default": "normal", "low": "low"}


def documents(tasks: list[Task]) -> list[dict[str, Any]]:
    """Status documents in the order of `tasks`."""
    prompts = prompt_ids(tasks)
    return [
        document(
            one.object,
            one.remembered.get("task_type"),
            prompts.get(one.row.id),
        )
        for one in shown(tasks)
    ]


def prompt_ids(tasks: list[Task]) -> dict[Any, str]:
    """What ComfyUI calls the tasks it has run."""
    ran = [task.id for task in tasks if task.provider == "comfyui" and task.finished_at]
    rows = Attempt.objects.filter(task_id__in=ran, outcome="succeeded") if ran else ()
    return {row.task_id: row.external_id for row in rows}


def document(
    task: Mapping[str, Any], task_type: str | None = None, prompt_id: str | None = None
) -> dict[str, Any]:
    """The status document of a task object."""
    return {
        "task_id": task["id"],
        "status": WORDS[Status(task["status"])],
        "progress": task["progress"],
        "result": result(task, prompt_id),
        "task_type": task_type or task["task_type"],
        "provider": task["provider"],
        "priority": PRIORITIES[task["priority"]],
        "error": error_text(task),
        "created_at": task["created_at"],
        "updated_at": updated_at(task),
    }


def result(task: Mapping[str, Any], prompt_id: str | None) -> dict[str, Any] | None:
    if not task["terminal"]:
        return None
    if task["status"] != Status.SUCCEEDED:
        return {"error": error_text(task)}
    output = task["output"] or {}
    found: dict[str, Any] = {"provider": task["provider"]}
    for kind in ("image", "video", "audio"):
        urls = urls_of(task, kind)
        found |= {f"{kind}s": urls, f"{kind}_url": urls[0] if urls else None}
    found |= {"text": output.get("text"), "assets": output.get("assets", [])}
    if output.get("data") is not None:
        found["data"] = output["data"]
    if prompt_id:
        found["prompt_id"] = prompt_id
    return found


def called_back(task: dict[str, Any], remembered: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a callback."""
    prompt = remembered.get("external_id") if task["provider"] == "comfyui" else None
    return document(task, remembered.get("task_type"), prompt)
