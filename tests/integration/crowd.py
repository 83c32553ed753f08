"""Many at once: real threads, each with its own connection to PostgreSQL."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from django.db import connection

T = TypeVar("T")


def at_once(times: int, act: Callable[[int], T]) -> list[T]:
    """`act(0) .. act(times - 1)`, started together; their results in order."""
    barrier = Barrier(times)

    def run(number: int) -> T:
        try:
            barrier.wait(timeout=30)
            return act(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))
