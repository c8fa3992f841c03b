"""Waiting for a job, a sweep or a study to change, for any number of requests at the price of one.

Invariant: all waiters together cost one thread, which hears from the database that something changed
(`store.signals`) and then looks, once for all of them; no session is held meanwhile. A change between a request's own
reading and its waiting is seen at the first look, because a waiter compares versions.
"""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from api.lanes import DatabaseSilent, Lane
from store import experiments, studies, sweeps
from store.database import Database
from store.experiments import Mark
from store.signals import signal_of

_LOG = structlog.get_logger("api")
_WAIT_SECONDS = 10.0
_LOOK_ANYWAY_SECONDS = 1.0
"""Should a signal ever be missed, this is how late a waiter is; those of sweeps and studies are at most."""
_COUNTED: Mapping[str, Callable[[Session, Collection[str]], Mapping[str, Mark]]] = {
    "swp": sweeps.marks,
    "stu": studies.marks,
}
"""By how an id begins, what counts them from their experiments: ten thousand perhaps, of which one changes at any
moment."""


@dataclass(eq=False)
class _Waiter:
    watched: str
    ready: Callable[[Mark | None], bool]
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class ChangeWatch:
    """One poller for all waiting requests of a process; it runs only while there are any."""

    def __init__(self, database_url: str, poll_seconds: float) -> None:
        self._database = Database(database_url, connections=2)
        self._signal = signal_of(self._database, "bnlab_jobs")
        self._lane = Lane("changes", 1, _WAIT_SECONDS)
        self._poll_seconds = poll_seconds
        self._waiters: set[_Waiter] = set()
        self._unseen = False
        self._poller: asyncio.Task[None] | None = None
        self._closed = False
        self._looked = 0.0
        self._counted = 0.0

    async def wait(
        self,
        watched: str,
        ready: Callable[[Mark | None], bool],
        timeout_seconds: float,
        gone: Callable[[], Awaitable[None]],
    ) -> bool:
        """Return when `ready` holds for what has that id (None: it is gone), at the timeout, or at
        `wake_all`.

        False as soon as `gone` returns: whoever waited does not any more.
        """
        if self._closed:
            return True
        waiter = _Waiter(watched, ready)
        self._waiters.add(waiter)
        self._unseen = True
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        woken = asyncio.ensure_future(waiter.woken.wait())
        left = asyncio.ensure_future(gone())
        try:
            await asyncio.wait((woken, left), timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
            return not left.done()
        finally:
            self._waiters.discard(waiter)
            woken.cancel()
            left.cancel()

    def wake_all(self) -> None:
        """Now and from now on: the process is about to end. Call it in the event loop."""
        self._closed = True
        for waiter in self._waiters:
            waiter.woken.set()

    def close(self) -> None:
        self._lane.close()
        self._signal.close()
        self._database.dispose()

    async def _poll(self) -> None:
        while self._waiters:
            ids = sorted({waiter.watched for waiter in self._waiters})
            anyway, self._unseen = self._unseen, False
            try:
                found = await self._lane.run(functools.partial(self._look, ids, anyway))
            except (SQLAlchemyError, DatabaseSilent) as error:
                # Waiters outlast a database outage; at their timeout they answer with what they find then.
                self._unseen = True
                _LOG.warning("change_poll_failed", error=type(error).__name__)
                await asyncio.sleep(self._poll_seconds)
            else:
                self._wake(found)

    def _look(self, ids: list[str], anyway: bool) -> dict[str, Mark | None]:
        """Nothing when nothing has changed for a tick; a waiter that has just come does not wait for that to be
        heard."""
        now = time.monotonic()
        due = now - self._looked > _LOOK_ANYWAY_SECONDS
        if not anyway and not due and not self._signal.wait(self._poll_seconds):
            return {}
        jobs = [one for one in ids if _noun(one) not in _COUNTED]
        looked_for = ids if now - self._counted > _LOOK_ANYWAY_SECONDS else jobs
        if not looked_for:
            return {}
        with self._database.read() as session:
            marks: dict[str, Mark | None] = dict.fromkeys(looked_for)
            marks |= experiments.marks(session, jobs)
            if len(looked_for) > len(jobs):
                for noun, count in _COUNTED.items():
                    marks |= count(session, [one for one in looked_for if _noun(one) == noun])
                self._counted = time.monotonic()
        self._looked = time.monotonic()
        return marks

    def _wake(self, found: dict[str, Mark | None]) -> None:
        for waiter in self._waiters:
            if waiter.watched in found and waiter.ready(found[waiter.watched]):
                waiter.woken.set()


def _noun(of: str) -> str:
    return of.partition("_")[0]
