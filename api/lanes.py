"""Threads that ask the database, so that the event loop never does.

Invariant: a request takes one thread, once, and a database connection only inside it; a lane has no more threads than
there are connections for it, so nobody who holds one of the two waits for the other. Reads and writes go in lanes of
their own: a database that lets nobody write holds up no reader. And a caller waits so many seconds and no longer,
however long the thread does.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import ParamSpec, Protocol, TypeVar, cast

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class DatabaseSilent(Exception):
    """The database let a caller wait for too long; what was asked of it may still happen."""


class Lane:
    """A few threads and a queue before them."""

    def __init__(self, name: str, threads: int, wait_seconds: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._wait_seconds = wait_seconds

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """What `call` returns, made in a thread of this lane. Raises `DatabaseSilent` when that takes too long.

        A call whose caller is gone before its turn is dropped.
        """
        answer = asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, call)
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await answer
        except TimeoutError:
            raise DatabaseSilent from None

    def close(self) -> None:
        """Begin nothing more, and wait for nothing: a thread may stand in a database that does not answer."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class HasLanes(Protocol):
    """What a route that takes a hop has to be given as `service`."""

    @property
    def reads(self) -> Lane: ...
    @property
    def writes(self) -> Lane: ...


def reading(route: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """Run a route that asks the database in one of the threads for reading, its answer's making included."""
    return _hopping(route, lambda service: service.reads)


def writing(route: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """The same for a route that changes something."""
    return _hopping(route, lambda service: service.writes)


def _hopping(route: Callable[Given, Answer], lane: Callable[[HasLanes], Lane]) -> Callable[Given, Awaitable[Answer]]:
    @functools.wraps(route)
    async def hop(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        service = cast(HasLanes, kwargs["service"])
        return await lane(service).run(functools.partial(route, *args, **kwargs))

    return hop
