"""Images as server-sent events: the previews of a task, then its pictures."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from django.http import StreamingHttpResponse

from genpulse.dialects.openai.failures import of_end
from tasks import channels
from tasks.events import TASK_ENDS, Stored
from tasks.hub import hub
from tasks.models import Status, Task
from tasks.streams import EVENT_STREAM, HEADERS, PING, PING_EVERY, TaskSource

PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"
Pictures = Callable[[], list[dict[str, Any]]]


def respond(task: Task, completed: Pictures) -> StreamingHttpResponse:
    """`completed` reads the finished pictures; it runs in a thread."""
    return StreamingHttpResponse(
        follow(task, completed), content_type=EVENT_STREAM, headers=HEADERS
    )


async def follow(task: Task, completed: Pictures) -> AsyncIterator[str]:
    here = hub()
    source = TaskSource(task.id, task.account_id, 0, streamed=False)
    watch, pinged, shown = source.watch(), here.loop.time(), 0
    told = channels.stored(task.account_id), channels.passing(task.account_id)
    with here.hearing(watch, *told):
        while True:
            rung, passing = await watch.woken()
            for preview in (one["data"] for one in passing if one["type"] == "task.preview"):
                yield partial(preview, shown)
                shown += 1
            found = await source.read(watch) if rung else []
            for event in (one for one in found if one.type in TASK_ENDS):
                yield await last(event, completed)
                return
            if here.loop.time() - pinged >= PING_EVERY:
                pinged = here.loop.time()
                yield PING


async def last(event: Stored, completed: Pictures) -> str:
    """The pictures, or why there are none."""
    if event.type == "task.succeeded":
        pictures = await hub().threads.ask(completed)
        return "".join(frame({"type": COMPLETED, **picture}) for picture in pictures or [])
    status = Status(event.type.removeprefix("task."))
    failure = of_end(status, event.data.get("error"), drawn=True)
    return f"data: {json.dumps(failure.body)}\n\n"


def partial(preview: Mapping[str, Any], index: int) -> str:
    encoded = str(preview["data_url"]).partition("base64,")[2]
    return frame({"type": PARTIAL, "b64_json": encoded, "partial_image_index": index})


def frame(event: Mapping[str, Any]) -> str:
    return f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"
