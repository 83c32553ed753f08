"""A vendor that answers at once: `uvicorn benchmarks.upstream:application`. One process keeps everything.

Chat as OpenAI speaks it, in pieces when asked for (`n` of them, given as `max_tokens`, PIECE_SECONDS apart); jobs
that end after some time, looked up in batches; and what it has seen, under `/seen`.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

PIECE_SECONDS = float(os.environ.get("PIECE_SECONDS", "0.01"))
SHORTEST, LONGEST = (float(text) for text in os.environ.get("JOB_SECONDS", "30,120").split(","))
MOST_LOOKUPS = float(os.environ.get("MOST_LOOKUPS", "50"))  # requests a second, else 429
Send = Callable[[dict[str, Any]], Awaitable[None]]
arrived: dict[str, float] = {}  # prompt -> time
jobs: dict[str, float] = {}  # id -> end
seen: dict[str, float] = {}  # id -> when it was first told to have ended
counts = {"lookups": 0, "asked": 0, "refused": 0}
tokens = {"left": MOST_LOOKUPS, "at": 0.0}


async def application(scope: dict[str, Any], receive: Any, send: Send) -> None:
    raw = b""
    while True:
        message = await receive()
        raw += message.get("body", b"")
        if not message.get("more_body"):
            break
    body = json.loads(raw) if raw else {}
    path = scope["path"]
    if path.endswith("/chat/completions"):
        await chat(body, send)
    elif path.endswith("/jobs"):
        await answer(send, {"id": make(body)})
    elif path.endswith("/jobs/query"):
        await look_up(body["ids"], send)
    elif path.endswith("/seen"):
        await answer(send, {"arrived": arrived, "jobs": jobs, "seen": seen, **counts})
    else:
        await answer(send, {"object": "list", "data": [{"id": "qwen-bench", "object": "model"}]})


async def answer(send: Send, body: Any, status: int = 200) -> None:
    await begin(send, "application/json", status)
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def begin(send: Send, kind: str, status: int = 200) -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def chat(body: dict[str, Any], send: Send) -> None:
    arrived[str(body["messages"][-1]["content"])] = time.time()
    count = int(body.get("max_tokens") or body.get("max_completion_tokens") or 1)
    usage = {"prompt_tokens": 1, "completion_tokens": count, "total_tokens": count + 1}
    head = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        message = {"role": "assistant", "content": "word " * count}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        await answer(send, {**head, "choices": [choice], "usage": usage})
        return
    await begin(send, "text/event-stream")
    head["object"] = "chat.completion.chunk"
    for number in range(count):
        choice = {"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": None}
        await piece(send, {**head, "choices": [choice]})
        await asyncio.sleep(PIECE_SECONDS)
    await piece(send, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    await piece(send, {**head, "choices": [], "usage": usage})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def piece(send: Send, event: dict[str, Any]) -> None:
    data = f"data: {json.dumps(event)}\n\n".encode()
    await send({"type": "http.response.body", "body": data, "more_body": True})


def make(body: dict[str, Any]) -> str:
    id_ = f"job-{len(jobs)}"
    jobs[id_] = time.time() + random.uniform(SHORTEST, LONGEST)
    return id_


async def look_up(ids: list[str], send: Send) -> None:
    """At most MOST_LOOKUPS requests a second, as vendors do."""
    now = time.time()
    tokens["left"] = min(MOST_LOOKUPS, tokens["left"] + (now - tokens["at"]) * MOST_LOOKUPS)
    tokens["at"] = now
    if tokens["left"] < 1:
        counts["refused"] += 1
        await answer(send, {"error": "slow down"}, 429)
        return
    tokens["left"] -= 1
    counts["lookups"] += 1
    counts["asked"] += len(ids)
    ended = {id_: jobs[id_] <= now for id_ in ids}
    for id_, is_over in ended.items():
        if is_over:
            seen.setdefault(id_, now)
    await answer(send, {"ended": ended})
