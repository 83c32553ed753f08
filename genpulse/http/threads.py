"""The threads in which sync views run: few, kept, and shared by all requests.

Django would start a thread for each request and end it with it, which costs more than most requests, and lets any
number of them crowd the database. Here the next call waits for a thread; between two calls a thread keeps nothing.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries

T = TypeVar("T")
MOST = 64  # views that store files or ask other servers may hold some of them for seconds


class Threads(ThreadPoolExecutor):
    """After each call its connection goes back to the pool, whoever made the call."""

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(_clean, call, args, kwargs)


def _clean(call: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    try:
        return call(*args, **kwargs)
    finally:
        close_old_connections()


@cache
def threads() -> Threads:
    """Those of this process. Django's own clean-up, a thread change at both ends of each request, is not needed then."""
    request_started.disconnect(close_old_connections)
    request_started.disconnect(reset_queries)
    request_finished.disconnect(close_old_connections)
    return Threads(MOST, thread_name_prefix="view")
