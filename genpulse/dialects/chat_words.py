"""How the chat dialect shows tasks, batches and conversations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from genpulse.dialects.doors import IMAGE_TYPES, VIDEO_TYPES, Shown, error_text, updated_at, urls_of
from genpulse.http.parsing import render_time
from tasks.conversations import Turn
from tasks.models import TERMINAL, Batch, Status
from tasks.render import batch_status, text

WORDS: Mapping[Status, tuple[str, int]] = {
    Status.QUEUED: ("PENDING", 0),
    Status.BLOCKED: ("PENDING", 0),
    Status.ADMITTED: ("PENDING", 0),
    Status.RUNNING: ("PROCESSING", 3),
    Status.AWAITING: ("PROCESSING", 3),
    Status.VERIFYING: ("PROCESSING", 3),
    Status.SUCCEEDED: ("SUCCESS", 1),
    Status.FAILED: ("FAILED", 2),
    Status.CANCELED: ("CANCELLED", 2),
    Status.EXPIRED: ("FAILED", 2),
}
TYPES = {
    **dict.fromkeys(IMAGE_TYPES, "IMAGE"),
    **dict.fromkeys(VIDEO_TYPES, "VIDEO"),
    "text-to-audio": "AUDIO",
    "comfy-workflow": "IMAGE",
}


def document(one: Shown) -> dict[str, Any]:
    return task_document(one.object, one.remembered.get("model_name"))


def task_document(task: Mapping[str, Any], model_name: str | None = None) -> dict[str, Any]:
    """The task document of a task object."""
    word, code = WORDS[Status(task["status"])]
    urls = urls_of(task)
    return {
        "task_id": task["id"],
        "batch_id": task["batch_id"],
        "conversation_id": task["conversation_id"],
        "status": word,
        "status_code": code,
        "task_type": type_of(task),
        "prompt": (task["input"] or {}).get("prompt"),
        "model": task["model"],
        "model_name": model_name or task["model"],
        "response_text": (task["output"] or {}).get("text"),
        "result_url": urls[0] if urls else None,
        "result_urls": urls,
        "error_msg": error_text(task),
        "cost_time": task["duration_seconds"] if task["terminal"] else None,
        "created_at": task["created_at"],
        "updated_at": updated_at(task),
    }


def type_of(task: Mapping[str, Any]) -> str:
    given = task["input"] or {}
    if task["task_type"] == "chat" and (given.get("images") or _has_files(given)):
        return "MULTIMODAL"
    return TYPES.get(task["task_type"], "TEXT")


def _has_files(given: Mapping[str, Any]) -> bool:
    contents = (message.get("content") for message in given.get("messages") or ())
    return any(isinstance(content, list) for content in contents)


def batch(row: Batch, children: Sequence[Shown]) -> dict[str, Any]:
    """The batch document; the prompt is that of the first task."""
    counts = Counter(child.row.status for child in children)
    open_ = sum(child.row.status not in TERMINAL for child in children)
    documents = [document(child) for child in children]
    return {
        "batch_id": str(row.id),
        "conversation_id": row.conversation_id,
        "status": batch_status(counts, open_, row.winner_id).upper(),
        "user_prompt": documents[0]["prompt"] if documents else None,
        "created_at": render_time(row.created_at),
        "finished_at": render_time(row.finished_at),
        "results": [
            {
                "task_id": one["task_id"],
                "model_name": one["model_name"],
                "status": one["status_code"],
                "status_name": one["status"],
                "response_text": one["response_text"],
                "result_url": one["result_url"],
                "cost_time": one["cost_time"],
                "error_msg": one["error_msg"],
            }
            for one in documents
        ],
    }


def message(turn: Turn) -> dict[str, Any]:
    """A line of a conversation's history."""
    asked = turn.role == "user"
    urls = [asset["url"] for asset in turn.assets]
    return {
        "role": turn.role,
        "content": turn.content,
        "model": None if asked else turn.task.model,
        "created_at": render_time(turn.task.created_at),
        "task_id": str(turn.task.id),
        "batch_id": text(turn.task.batch_id),
        "status": "SUCCESS" if asked else WORDS[Status(turn.task.status)][0],
        "result_url": None if asked or not urls else urls[0],
        "files": urls if asked else [],
        "is_loading": not turn.ended,
    }


def called_back(task: dict[str, Any], remembered: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a callback."""
    return task_document(task, remembered.get("model_name"))
