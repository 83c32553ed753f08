"""The chat dialect's server-sent events: the answers of a fan-out while they are written."""

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

from django.http import StreamingHttpResponse

from genpulse.dialects.openai.chunks import DONE, Voice, frame
from genpulse.events.cursors import START
from tasks import channels
from tasks.deltas import Deltas
from tasks.events import TASK_ENDS
from tasks.hub import Watch, hub
from tasks.streams import DELTA, EVENT_STREAM, HEADERS, PING, PING_EVERY, BatchSource

Voices = dict[str, Voice]  # by task


def respond(
    first: Mapping[str, Any], account_id: UUID, voices: list[Voice]
) -> StreamingHttpResponse:
    """`first` is the answer of the submit."""
    return StreamingHttpResponse(
        follow(first, account_id, {voice.task_id: voice for voice in voices}),
        content_type=EVENT_STREAM,
        headers=HEADERS,
    )


async def follow(first: Mapping[str, Any], account_id: UUID, voices: Voices) -> AsyncIterator[str]:
    """Frames until every task has ended, also those whose answer broke off before."""
    yield frame({name: value for name, value in first.items() if name != "message"})
    here = hub()
    source = BatchSource(UUID(first["batch_id"]), account_id, START)
    watch, deltas = source.watch(), Deltas(here.redis)
    pinged = here.loop.time()
    with here.hearing(watch, channels.stored(account_id), channels.passing(account_id)):
        while voices:
            if said := await news(source, watch, deltas, voices):
                yield said
            if here.loop.time() - pinged >= PING_EVERY:
                pinged = here.loop.time()
                yield PING
    yield DONE


async def news(source: BatchSource, watch: Watch, deltas: Deltas, voices: Voices) -> str:
    """What came since the last look; tasks that have ended are taken out of `voices`."""
    rung, passing = await watch.woken()
    heard = {message["task"] for message in passing if message["type"] == DELTA}
    said = ""
    for task_id in list(voices) if rung else heard & voices.keys():
        said += voices[task_id].says(await deltas.news(task_id))
    for event in await source.read(watch) if rung else ():
        voice = voices.pop(str(event.task_id), None) if event.type in TASK_ENDS else None
        if voice is not None:
            rest = await deltas.rest(voice.task_id, event.data.get("output"))
            said += voice.ends(event, rest)
    return said
