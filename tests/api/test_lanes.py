"""Threads before the database: what a caller is told when its turn does not come in time."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import errors
from api.lanes import DatabaseSilent, Lane, LaneBusy


def outcomes_of(lane: Lane, *calls: Callable[[], Any]) -> list[Any]:
    """What comes of calls that are made at once, in this order."""

    async def make_all() -> list[Any]:
        return await asyncio.gather(*map(lane.run, calls), return_exceptions=True)

    found = asyncio.run(make_all())
    lane.close()
    return found


def test_a_call_that_did_not_begin_because_others_were_answered_says_so() -> None:
    given_up = threading.Event()
    lane = Lane("one", 1, 0.1)
    first, stuck, behind = outcomes_of(lane, lambda: "first", lambda: given_up.wait(10), lambda: "behind")
    given_up.set()
    assert first == "first"
    # It is the database, or whatever it stands in, that does not answer; the one behind it never got there.
    assert type(stuck) is DatabaseSilent
    assert type(behind) is LaneBusy


def test_a_call_that_began_too_late_to_end_in_time_says_so() -> None:
    given_up = threading.Event()
    lane = Lane("one", 1, 0.5)
    # It is answered after most of the time that the second has.
    first, late = outcomes_of(lane, lambda: threading.Event().wait(0.3), lambda: given_up.wait(10))
    given_up.set()
    assert (first, type(late)) == (False, LaneBusy)


def test_where_nobody_is_answered_it_is_the_database() -> None:
    given_up = threading.Event()
    lane = Lane("one", 1, 0.1)
    stuck, behind = outcomes_of(lane, lambda: given_up.wait(10), lambda: "behind")
    given_up.set()
    assert (type(stuck), type(behind)) == (DatabaseSilent, DatabaseSilent)


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
