"""The pieces of one chat answer as server-sent events, without a thread or connection of its own."""

from collections.abc import AsyncIterator
from uuid import UUID

from django.http import StreamingHttpResponse

from genpulse.dialects.openai.chunks import DONE, Voice
from genpulse.dialects.openai.leaving import Leaves, background, give_up
from tasks import channels
from tasks.deltas import Deltas
from tasks.events import TASK_ENDS
from tasks.hub import Watch, hub
from tasks.streams import DELTA, EVENT_STREAM, HEADERS, PING, PING_EVERY, TaskSource


def respond(
    task_id: UUID, account_id: UUID, voice: Voice, leaves: Leaves | None
) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        follow(task_id, account_id, voice, leaves), content_type=EVENT_STREAM, headers=HEADERS
    )


async def follow(
    task_id: UUID, account_id: UUID, voice: Voice, leaves: Leaves | None
) -> AsyncIterator[str]:
    """Frames until the answer is complete, or cannot be; a client that goes away before leaves its task."""
    here = hub()
    source = TaskSource(task_id, account_id, 0, streamed=True)
    watch, deltas = source.watch(), Deltas(here.redis)
    pinged = here.loop.time()
    try:
        with here.hearing(watch, channels.stored(account_id), channels.passing(account_id)):
            while not voice.over:
                rung, passing = await watch.woken()
                more = rung or any(message["type"] == DELTA for message in passing)
                if more and (said := voice.says(await deltas.news(voice.task_id))):
                    yield said
                if rung and (said := await ended(source, watch, deltas, voice)):
                    yield said
                if here.loop.time() - pinged >= PING_EVERY:
                    pinged = here.loop.time()
                    yield PING
    finally:
        if leaves is not None and not voice.over:
            background(give_up(leaves))


async def ended(source: TaskSource, watch: Watch, deltas: Deltas, voice: Voice) -> str:
    """Nothing, or at the task's end all that is left and the mark of completeness."""
    said = ""
    for event in await source.read(watch):
        if event.type in TASK_ENDS and not voice.over:
            said += voice.ends(event, await deltas.rest(voice.task_id, event.data.get("output")))
    return said + DONE if voice.complete else said
