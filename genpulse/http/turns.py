"""Turns: a few sync views work at a time, the others wait in the event loop, where they cost nothing.

More at once would only take the interpreter from each other: no more is done, and each takes longer. Clients take turns
with their requests, so that whoever sends thousands at once keeps mostly himself waiting. With those who carry files
they are no more than the pool has connections, but for the two of the hub.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from genpulse.errors import Unavailable

AT_ONCE = 6
CARRIERS = 8  # requests with files beside them: these mostly wait for a storage
PATIENCE = 8.0  # seconds; with the work itself no answer takes more than ten
AGAIN = "again"  # answers that have waited do not stand behind new requests
PLAIN = frozenset({"", None, "application/json", "application/x-www-form-urlencoded", "text/plain"})
SHOWN = ("HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_COOKIE", "REMOTE_ADDR")


class Turns:
    """Places for those who work; the others in one line for each client, and the lines in a circle.

    No client works in all places: whoever else comes finds one.
    """

    def __init__(self, places: int) -> None:
        self._free, self._most = places, max(places - 1, 1)
        self._busy: Counter[str] = Counter()  # places by client
        self._lines: dict[tuple[str, str], deque[asyncio.Future[None]]] = {}

    async def take(self, client: str, patience: float | None, line: str = "") -> None:
        """Raises TimeoutError after `patience` seconds. A client's requests may stand in more than one line."""
        if self._free and self._may_work(client):
            return self._begin(client)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault((client, line), deque()).append(place)
        try:
            async with asyncio.timeout(patience):
                await place
        except BaseException:
            if not place.cancelled():  # it was dealt at the last moment
                self.give_back(client)
            raise

    def give_back(self, client: str) -> None:
        """To the first who still waits of the next line that may be served."""
        self._free += 1
        self._busy -= Counter({client: 1})
        for who in [who for who in self._lines if self._may_work(who[0])]:
            if self._deal(who):
                return

    def _may_work(self, client: str) -> bool:
        return self._busy[client] < self._most

    def _begin(self, client: str) -> None:
        self._free -= 1
        self._busy[client] += 1

    def _deal(self, who: tuple[str, str]) -> bool:
        """False: nobody of that line waits any more."""
        line = self._lines.pop(who)
        while line:
            place = line.popleft()
            if not place.done():
                if line:
                    self._lines[who] = line  # as the last line
                self._begin(who[0])
                place.set_result(None)
                return True
        return False


class Rooms:
    """Where the requests of one event loop work."""

    def __init__(self) -> None:
        self.plain, self.carriers = Turns(AT_ONCE), Turns(CARRIERS)


_rooms: WeakKeyDictionary[asyncio.AbstractEventLoop, Rooms] = WeakKeyDictionary()


@asynccontextmanager
async def turn(request: HttpRequest, patience: float | None, line: str = "") -> AsyncIterator[None]:
    """Raises Unavailable after `patience` seconds; None: waits for as long as it takes."""
    rooms = _rooms.setdefault(asyncio.get_running_loop(), Rooms())
    turns = rooms.plain if request.content_type in PLAIN else rooms.carriers
    client = client_of(request)
    try:
        await turns.take(client, patience, line)
    except TimeoutError:
        raise Unavailable(
            "More is asked for at once than can be answered.", retry_after=5
        ) from None
    try:
        yield
    finally:
        turns.give_back(client)


async def begun(view: Callable[..., Any], request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
    """The answer of a sync view, when its turn comes. Raises Unavailable."""
    async with turn(request, PATIENCE):
        return await sync_to_async(rendered)(view, request, *args, **kwargs)


async def ended(again: Callable[[], HttpResponseBase], request: HttpRequest) -> HttpResponseBase:
    """The answer of somebody who has waited for it, and is not refused."""
    async with turn(request, None, AGAIN):
        response: HttpResponseBase = await sync_to_async(rendered)(again)
        return response


def rendered(view: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The answer of a sync view, rendered in the same trip to its thread."""
    response = view(*args, **kwargs)
    if hasattr(response, "render") and not hasattr(response, "held"):
        response = response.render()
        response.render = None  # Django would make another trip to find it done
    return response


def client_of(request: HttpRequest) -> str:
    """Whose line it waits in: what it shows of itself, before anybody has checked it."""
    return next((str(request.META[name]) for name in SHOWN if request.META.get(name)), "")
