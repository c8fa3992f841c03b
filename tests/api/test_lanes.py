"""Threads before the database: what a caller is told when its turn does not come in time."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import errors
from api.lanes import DatabaseSilent, Lane, LaneBusy

PATIENCE_SECONDS = 3600.0
"""Nobody waits as long: the clock is put forward."""


class Forward(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    def __init__(self) -> None:
        super().__init__()
        self._ahead_seconds = 0.0

    def time(self) -> float:
        return super().time() + self._ahead_seconds

    def put_forward(self, share: float) -> None:
        """By a share of the patience, from within the loop."""
        self._ahead_seconds += share * PATIENCE_SECONDS


class Held:
    """A call that is not answered before it may go."""

    def __init__(self) -> None:
        self._began = threading.Event()
        self.may_go = threading.Event()

    def __call__(self) -> str:
        self._began.set()
        self.may_go.wait()
        return "held"

    async def begun(self) -> None:
        """Wait until a thread of the lane stands in it."""
        await asyncio.to_thread(self._began.wait)


def in_time(play: Callable[[Lane, Forward], Coroutine[Any, Any, list[Any]]]) -> list[Any]:
    """What comes of calls in a lane of one thread, on a clock that can be put forward."""
    with asyncio.Runner(loop_factory=Forward) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Forward)
        lane = Lane("one", 1, PATIENCE_SECONDS, loop.time)
        found = runner.run(play(lane, loop))
    lane.close()
    return found


def ask(lane: Lane, *calls: Callable[[], Any]) -> list[asyncio.Future[Any]]:
    """Calls that are made at once, in this order."""
    return [asyncio.ensure_future(lane.run(call)) for call in calls]


async def given_up(*asked: asyncio.Future[Any]) -> list[type]:
    return [type(outcome) for outcome in await asyncio.gather(*asked, return_exceptions=True)]


def test_a_call_that_did_not_begin_because_others_were_answered_says_so() -> None:
    stands = Held()

    async def play(lane: Lane, loop: Forward) -> list[Any]:
        first, stuck, behind = ask(lane, lambda: "first", stands, lambda: "behind")
        assert await first == "first"
        await stands.begun()
        loop.put_forward(1)
        return await given_up(stuck, behind)

    # It is the database, or whatever it stands in, that does not answer; the one behind it never got there.
    assert in_time(play) == [DatabaseSilent, LaneBusy]
    stands.may_go.set()


@pytest.mark.parametrize(
    ("waited", "stood", "says"),
    [(0.6, 0.4, LaneBusy), (0.4, 0.6, DatabaseSilent)],
    ids=["it began too late to end in time", "it began soon and the database holds it up"],
)
def test_a_call_behind_another_says_what_took_most_of_its_time(
    waited: float, stood: float, says: type[Exception]
) -> None:
    before, stands = Held(), Held()

    async def play(lane: Lane, loop: Forward) -> list[Any]:
        first, late = ask(lane, before, stands)
        await before.begun()
        loop.put_forward(waited)
        before.may_go.set()
        assert await first == "held"
        await stands.begun()
        loop.put_forward(stood)
        return await given_up(late)

    assert in_time(play) == [says]
    stands.may_go.set()


def test_where_nobody_is_answered_it_is_the_database() -> None:
    stands = Held()

    async def play(lane: Lane, loop: Forward) -> list[Any]:
        stuck, behind = ask(lane, stands, lambda: "behind")
        await stands.begun()
        loop.put_forward(1)
        return await given_up(stuck, behind)

    assert in_time(play) == [DatabaseSilent, DatabaseSilent]
    stands.may_go.set()


@pytest.mark.parametrize(("error", "code"), [(LaneBusy, "overloaded"), (DatabaseSilent, "database_unavailable")])
def test_only_a_database_that_does_not_answer_is_said_not_to(error: type[Exception], code: str) -> None:
    app = FastAPI()
    errors.install(app)

    @app.get("/")
    async def fails() -> None:
        raise error

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"]) == (503, code)
    assert int(answer.headers["retry-after"]) >= 1
