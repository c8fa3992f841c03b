"""Waiting for an experiment to change, for any number of requests at the price of one.

Invariant: all waiters together cost one short query a tick, in one thread, and no session is held between ticks. A
change between a request's own reading and its waiting is seen at the first tick, because a waiter compares versions.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from store import experiments
from store.database import Database
from store.experiments import Mark

_LOG = structlog.get_logger("api")


@dataclass(eq=False)
class _Waiter:
    experiment_id: str
    ready: Callable[[Mark | None], bool]
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class ChangeWatch:
    """One poller for all waiting requests of a process; it runs only while there are any."""

    def __init__(self, database: Database, poll_seconds: float) -> None:
        self._database = database
        self._poll_seconds = poll_seconds
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    async def wait(self, experiment_id: str, ready: Callable[[Mark | None], bool], timeout_seconds: float) -> None:
        """Return when `ready` holds for the experiment (None: it is gone), at the timeout, or at `close`."""
        if self._closed:
            return
        waiter = _Waiter(experiment_id, ready)
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await waiter.woken.wait()
        finally:
            self._waiters.discard(waiter)

    def close(self) -> None:
        """Wake everybody, now and from now on: the process is about to end. Call it in the event loop."""
        self._closed = True
        for waiter in self._waiters:
            waiter.woken.set()

    async def _poll(self) -> None:
        while self._waiters:
            ids = sorted({waiter.experiment_id for waiter in self._waiters})
            try:
                marks = await run_in_threadpool(self._read, ids)
            except SQLAlchemyError as error:
                # Waiters outlast a database outage; at their timeout they answer with what they find then.
                _LOG.warning("change_poll_failed", error=type(error).__name__)
            else:
                self._wake(set(ids), marks)
            await asyncio.sleep(self._poll_seconds)

    def _read(self, ids: list[str]) -> dict[str, Mark]:
        with self._database.read() as session:
            return experiments.marks(session, ids)

    def _wake(self, asked: set[str], marks: dict[str, Mark]) -> None:
        for waiter in self._waiters:
            if waiter.experiment_id in asked and waiter.ready(marks.get(waiter.experiment_id)):
                waiter.woken.set()
