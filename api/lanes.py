"""Threads that ask the database, so that the event loop never does.

Invariant: a request takes one thread, once, and a database connection only inside it; a lane has no more threads than
there are connections for it, so nobody who holds one of the two waits for the other. Reads and writes go in lanes of
their own: a database that lets nobody write holds up no reader. And a caller waits so many seconds and no longer,
however long the thread does. What takes long has a lane of its own, and what is short waits in none of those.
"""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from starlette.requests import ClientDisconnect, Request

Given = ParamSpec("Given")
Answer = TypeVar("Answer")


class DatabaseSilent(Exception):
    """The database let a caller wait for too long; what was asked of it may still happen."""


class LaneBusy(DatabaseSilent):
    """The turn came late or not at all, though others were answered: more is asked than can be done."""


@dataclass(eq=False, slots=True)
class _Turn:
    """A call that waits, with the context of its request for the lines that it logs."""

    call: Callable[[], Any]
    context: Context
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    came_at: float
    before: int
    """How many the lane had answered when it came."""
    waited_seconds: float | None = None
    """In line; None as long as it does."""


class Lane:
    """A few threads and a queue before them.

    Not the standard library's pool: the process does not wait for these threads at its end, when one may stand in a
    database that does not answer; and a turn costs a third.
    """

    def __init__(
        self, name: str, threads: int, wait_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._turns: SimpleQueue[_Turn | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(threads)]
        self._is_started = False
        self._answered = 0

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """What `call` returns, made in a thread of this lane.

        When that takes too long it raises `DatabaseSilent`, or `LaneBusy` when most of that time others were answered.
        A call whose caller is gone before its turn is dropped.
        """
        self._start()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        turn = _Turn(call, copy_context(), loop, answer, self._clock(), self._answered)
        self._turns.put(turn)
        timer = loop.call_later(self._wait_seconds, self._give_up, turn)
        try:
            return await answer
        finally:
            timer.cancel()

    def close(self) -> None:
        """Begin nothing more once all that waits is done, and wait for nothing."""
        for _ in self._threads:
            self._turns.put(None)

    def _give_up(self, turn: _Turn) -> None:
        waited = turn.waited_seconds
        was_late = waited is None or waited > self._wait_seconds / 2
        fail(turn.answer, LaneBusy() if was_late and self._answered > turn.before else DatabaseSilent())

    def _start(self) -> None:
        if not self._is_started:
            self._is_started = True
            for thread in self._threads:
                thread.start()

    def _work(self) -> None:
        while (turn := self._turns.get()) is not None:
            if turn.answer.done():
                continue
            turn.waited_seconds = self._clock() - turn.came_at
            settle: Callable[[asyncio.Future[Any], Any], None] = succeed
            try:
                result = turn.context.run(turn.call)
                self._answered += 1  # another thread may do so at this moment: that it grows is enough
            except BaseException as error:
                settle, result = fail, error
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                turn.loop.call_soon_threadsafe(settle, turn.answer, result)


def succeed(answer: asyncio.Future[Any], result: Any) -> None:
    """Give a caller what came of it, unless the caller is gone."""
    if not answer.done():
        answer.set_result(result)


def fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    """Raise it where the caller waits, unless the caller is gone."""
    if not answer.done():
        answer.set_exception(error)


class HasLanes(Protocol):
    """What is asked for a service."""

    @property
    def reads(self) -> Lane: ...
    @property
    def long_reads(self) -> Lane: ...
    @property
    def writes(self) -> Lane: ...


class OfService(Protocol):
    """What a route that takes a hop has to be given as `asked`."""

    @property
    def service(self) -> HasLanes: ...
    @property
    def request(self) -> Request: ...


def reading(route: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """Run a route that asks the database in one of the threads for reading, its answer's making included."""
    return _hopping(route, lambda service: service.reads)


def reading_long(route: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """The same for a route that may read a million rows, and must not hold up those that read a few.

    It is not begun when its client has left: who waits for long gives up and asks again, and those who are still there
    would wait for what nobody hears.
    """
    hop = _hopping(route, lambda service: service.long_reads)

    @functools.wraps(route)
    async def hop_while_there(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        return await unless_left(cast(OfService, kwargs["asked"]).request, hop(*args, **kwargs))

    return hop_while_there


def writing(route: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
    """Run a route that changes something in one of the threads for that."""
    return _hopping(route, lambda service: service.writes)


async def left(request: Request) -> None:
    """Return when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def unless_left(request: Request, answering: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer, unless the client leaves before it is there. Raises `ClientDisconnect`."""
    answer, leaving = asyncio.ensure_future(answering), asyncio.ensure_future(left(request))
    # Heard, though nobody may wait any more.
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        leaving.cancel()


def _hopping(
    route: Callable[Given, Answer], lane: Callable[[HasLanes], Lane]
) -> Callable[Given, Coroutine[Any, Any, Answer]]:
    @functools.wraps(route)
    async def hop(*args: Given.args, **kwargs: Given.kwargs) -> Answer:
        asked = cast(OfService, kwargs["asked"])
        return await lane(asked.service).run(functools.partial(route, *args, **kwargs))

    return hop
