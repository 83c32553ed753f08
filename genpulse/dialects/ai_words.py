"""How the AI service dialect shows tasks and says no."""

from collections.abc import Mapping
from typing import Any

from genpulse.dialects.doors import IMAGE_TYPES, VIDEO_TYPES, error_text, updated_at, urls_of
from genpulse.errors import IdempotencyKeyReused, Problem
from genpulse.http.problems import Rendered
from tasks.models import Status

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
TYPES = {"image": IMAGE_TYPES, "text": ("chat",), "video": VIDEO_TYPES}
ALL_TYPES = [name for names in TYPES.values() for name in names]
SHORT = {
    400: "请求参数验证失败",
    401: "未授权",
    402: "积分不足",
    403: "没有权限",
    404: "资源不存在",
    409: "请求冲突",
    413: "请求体过大",
    429: "请求过于频繁",
    500: "服务器内部错误",
    503: "服务不可用",
}


def type_of(task: Mapping[str, Any]) -> str:
    fitting = (kind for kind, names in TYPES.items() if task["task_type"] in names)
    return next(fitting, task["task_type"])


def accepted(kind: str, task: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` of a submit."""
    given = task["input"] or {}
    found = {
        "task_id": task["id"],
        "status": WORDS[Status(task["status"])],
        "provider": task["provider"],
        "model": task["model"],
        "type": kind,
    }
    if kind == "image":
        found["size"] = given.get("size")
    if kind == "video":
        found |= {
            "task_type": task["task_type"].replace("-", "_"),
            "seed": given.get("seed", -1),
            "aspect_ratio": given.get("aspect_ratio"),
            "image_count": len(given.get("images") or ()),
        }
    return found


def data(task: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` of a result; what a kind has not is null."""
    given = task["input"] or {}
    images, videos = urls_of(task, "image"), urls_of(task, "video")
    kind = type_of(task)
    options = ("aspect_ratio", "size", "max_tokens", "temperature")
    return {
        "task_id": task["id"],
        "type": kind,
        "status": WORDS[Status(task["status"])],
        "provider": task["provider"],
        "model": task["model"],
        "created": task["created_at"],
        "updated": updated_at(task),
        "image_url": images[0] if images else None,
        "image_urls": images or None,
        "video_url": videos[0] if videos else None,
        "text_result": (task["output"] or {}).get("text"),
        **{name: given.get(name) for name in options},
        "seed": given.get("seed", None if kind == "text" else -1),
        "error": error_text(task),
    }


def result_status(task: Mapping[str, Any]) -> int:
    return 200 if task["terminal"] else 202


def result_body(task: Mapping[str, Any]) -> dict[str, Any]:
    shown = data(task)
    if not task["terminal"]:
        return {"success": True, "data": shown, "message": "任务处理中"}
    if task["status"] == Status.SUCCEEDED:
        return {"success": True, "data": shown, "message": "任务完成"}
    return {"success": False, "error": shown["error"], "message": "任务失败", "data": shown}


def called_back(task: dict[str, Any], remembered: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a callback."""
    return result_body(task)


def envelope(problem: Problem, request_id: str) -> Rendered:
    """Validation is 400 here; a key used for another body stays 422 as at every door."""
    invalid = problem.status == 422 and not isinstance(problem, IdempotencyKeyReused)
    status = 400 if invalid else problem.status
    body: dict[str, Any] = {
        "success": False,
        "error": SHORT.get(status, problem.title),
        "message": problem.detail,
        "code": problem.code,
        "request_id": request_id,
    }
    if status == 404 and problem.detail == "Task not found":
        body["error"] = "任务不存在"
    if invalid:
        known = problem.extra.get("known")
        more = f" Known: {', '.join(known)}." if known else ""
        body["details"] = [
            {"field": item.field, "message": f"{item.message}{more}"} for item in problem.errors
        ]
    return Rendered(status=status, body=body)
