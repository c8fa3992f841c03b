"""Submissions on their way into the database: those of one owner that come while others are stored, go in together.

Invariant: they would wait for one another anyway, as each counts what the ones before have added. What comes of one is
no other's business: a refusal is its own, and what the database has against one it says again of that one alone. A
caller waits so many seconds and no longer, and what nobody waits for any more is not begun.
"""

import asyncio
import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.lanes import DatabaseSilent, Lane, fail, succeed
from store import experiments
from store.database import Database
from store.errors import DatasetUnusable, QuotaExceeded
from store.experiments import Submission
from store.queueing import Limits
from store.tables import Experiment

_MOST_AT_ONCE = 100
"""A transaction of so many takes some hundredths of a second, and others wait for it."""


@dataclass(frozen=True)
class Order:
    """What one request submits: for whom, to which queue, and the answer that is made of it."""

    owner: str
    key_id: str
    submission: Submission
    device: Callable[[Session], str]
    answer: Callable[[Experiment], Response]


_Outcome = Response | Exception
_Refused = QuotaExceeded | DatasetUnusable


class _Waiting(NamedTuple):
    """An order, with the context of its request for the lines that it logs."""

    order: Order
    context: Context
    answer: asyncio.Future[Response]


class Intake:
    """A queue for each owner who submits at this moment."""

    def __init__(self, database: Database, writes: Lane, limits: Limits, wait_seconds: float) -> None:
        self._database = database
        self._writes = writes
        self._limits = limits
        self._wait_seconds = wait_seconds
        self._lines: dict[str, deque[_Waiting]] = {}
        self._storing: set[asyncio.Task[None]] = set()

    async def submit(self, order: Order) -> Response:
        """The answer, once it is stored.

        Raises `QuotaExceeded`, `DatasetUnusable`, what the database raised, or `DatabaseSilent` when that takes too
        long.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(order, copy_context(), loop.create_future())
        if (line := self._lines.get(order.owner)) is None:
            line = self._lines[order.owner] = deque()
            storing = loop.create_task(self._store_all(order.owner, line), context=Context())
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)
        line.append(waiting)
        timer = loop.call_later(self._wait_seconds, fail, waiting.answer, DatabaseSilent())
        try:
            return await waiting.answer
        finally:
            timer.cancel()

    async def _store_all(self, owner: str, line: deque[_Waiting]) -> None:
        """Store what waits, until nothing does."""
        while line:
            together = [line.popleft() for _ in range(min(len(line), _MOST_AT_ONCE))]
            try:
                outcomes = await self._writes.run(functools.partial(self._store, together))
            except Exception as error:
                outcomes = [(waiting, error) for waiting in together]
            for waiting, outcome in outcomes:
                if isinstance(outcome, Exception):
                    fail(waiting.answer, outcome)
                else:
                    succeed(waiting.answer, outcome)
        del self._lines[owner]

    def _store(self, together: Sequence[_Waiting]) -> list[tuple[_Waiting, _Outcome]]:
        wanted: list[_Waiting] = []
        try:
            with self._database.write() as session:
                session.connection()  # it waits for the write lock, where a database has one
                wanted = [waiting for waiting in together if not waiting.answer.done()]
                stored = self._stored(session, [waiting.order for waiting in wanted])
        except (DataError, IntegrityError) as error:
            if len(wanted) > 1:
                return [outcome for waiting in wanted for outcome in self._store([waiting])]
            return [(waiting, error) for waiting in wanted]
        return [(waiting, _answered(waiting, one)) for waiting, one in zip(wanted, stored, strict=True)]

    def _stored(self, session: Session, orders: Sequence[Order]) -> list[Experiment | _Refused]:
        """What is stored of each, in this order."""
        stored: list[Experiment | _Refused] = []
        for alike, group in itertools.groupby(orders, lambda order: (order.device(session), order.key_id)):
            stored += self._stored_alike(session, list(group), *alike)
        return stored

    def _stored_alike(
        self, session: Session, orders: Sequence[Order], device: str, key_id: str
    ) -> Sequence[Experiment | _Refused]:
        submissions = [order.submission for order in orders]
        where: dict[str, Any] = {"owner": orders[0].owner, "device": device, "key_id": key_id, "limits": self._limits}
        try:
            return experiments.submit_many(session, submissions, **where)
        except (QuotaExceeded, DatasetUnusable) as error:
            # It is raised before anything is written.
            if len(orders) == 1:
                return [error]
            return [one for order in orders for one in self._stored_alike(session, [order], device, key_id)]


def _answered(waiting: _Waiting, stored: Experiment | _Refused) -> _Outcome:
    if isinstance(stored, _Refused):
        return stored
    try:
        return waiting.context.run(waiting.order.answer, stored)
    except Exception as error:
        return error
