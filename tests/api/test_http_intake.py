"""Many submit at once: what is stored together is as if each had come alone."""

import asyncio
import dataclasses
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from api.intake import Intake, Order
from api.lanes import Lane
from bncore.spec import load_spec
from store.columns import core
from store.database import Database
from store.experiments import Submission
from store.jobs import bells, eventlog
from store.owners import DEFAULT_OWNER
from store.queueing import Limits
from store.tables import Experiment, Job
from tests.api.holders import holder
from tests.api.trouble import until


def jobs(database: Database) -> list[Any]:
    with database.read() as session:
        return list(session.execute(select(core(Job)).order_by(core(Job).c.created_at, core(Job).c.turn)))


@contextmanager
def owner_held(database: Database) -> Iterator[None]:
    """Somebody else queues something of the default owner, and takes their time."""
    with database.write() as session:
        session.execute(text("SELECT 1 FROM owners WHERE id = :id" + for_update(session)), {"id": DEFAULT_OWNER})
        yield


def for_update(session: Any) -> str:
    return " FOR UPDATE" if session.get_bind().dialect.name == "postgresql" else ""


@contextmanager
def posting(api: Any, count: int) -> Iterator[Callable[[], Future[httpx.Response]]]:
    """A way to post up to so many at once, each with a name of its own."""
    numbers = itertools.count()
    with ThreadPoolExecutor(count) as pool, httpx.Client(base_url=api.url, headers=api.client.headers) as client:
        yield lambda: pool.submit(client.post, "/v1/experiments", json={"name": f"n{next(numbers)}"}, timeout=300)


def post_while_held(api: Any, count: int) -> list[httpx.Response]:
    """The answers to so many posts: the first was being stored, and could not be, until all others waited for it."""
    lines = api.server._service.intake._lines
    with posting(api, count) as post:
        with owner_held(api.database):
            sent = [post()]
            # Not in line any more: it has begun.
            until(lambda: [len(line) for line in lines.values()] == [0])
            sent += [post() for _ in range(count - 1)]
            until(lambda: [len(line) for line in lines.values()] == [count - 1])
        return [one.result() for one in sent]


def test_each_of_many_is_stored_once_and_told_which_it_is(api: Any) -> None:
    together = threading.Barrier(24)
    with holder(api, "default") as same_owner, holder(api, "other") as other:
        clients = {"mine": api.client, "same": same_owner, "other": other}
        wanted = [(who, f"{who}-{n}") for who in clients for n in range(8)]

        def post(who: str, name: str) -> dict[str, Any]:
            together.wait()
            answer = clients[who].post("/v1/experiments", json={"name": name, "tags": {"of": name}})
            assert answer.status_code == 202, answer.text
            return {"who": who, **answer.json()}

        with ThreadPoolExecutor(24) as pool:
            shown = list(pool.map(post, *zip(*wanted, strict=True)))
        assert [one["name"] for one in shown] == [name for _, name in wanted]
        for one in shown:
            got = clients[one["who"]].get(one["links"]["self"]).json()
            assert (got["name"], got["tags"], got["created_at"]) == (
                one["name"],
                {"of": one["name"]},
                one["created_at"],
            )
        keys = {"same": same_owner.key.id, "other": other.key.id}  # type: ignore[attr-defined]
    stored = jobs(api.database)
    assert sorted(job.id for job in stored) == sorted(one["id"] for one in shown)
    by_key = Counter(job.key_id for job in stored)
    assert sorted(by_key.values()) == [8, 8, 8]
    assert {who: by_key[key] for who, key in keys.items()} == {"same": 8, "other": 8}
    for owner in {job.owner for job in stored}:
        turns = [job.turn for job in stored if job.owner == owner]
        assert len(set(turns)) == len(turns)
    with api.database.read() as session:
        assert sum(bell.jobs for bell in bells.hanging(session)) == 24
        for job in stored:
            [line] = eventlog.page(session, job.id)
            assert (line.number, line.kind, line.data) == (1, "submitted", {"key_id": job.key_id})


def test_those_that_come_while_one_is_stored_are_one_transaction(api: Any) -> None:
    answers = post_while_held(api, 12)
    assert [answer.status_code for answer in answers] == [202] * 12
    # A transaction looks at the clock once: the first that came, and all others.
    assert len({answer.json()["created_at"] for answer in answers[1:]}) == 1


def test_the_last_places_go_to_those_who_came_first(database_url: str, serve: Any) -> None:
    with serve(database_url, queued_per_owner=5) as api:
        answers = post_while_held(api, 9)
        assert Counter(answer.status_code for answer in answers) == {202: 5, 429: 4}
        assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {"quota_exceeded"}
        assert len(jobs(api.database)) == 5


def test_what_nobody_waits_for_any_more_is_not_begun(sqlite_url: str, serve: Any) -> None:
    with serve(sqlite_url, database_seconds=0.4) as api:
        with posting(api, 6) as post, owner_held(api.database):
            sent = [post() for _ in range(6)]
            assert {one.result().status_code for one in sent} == {503}
        # The one that had begun may still happen. After it, the service stores what comes, and nothing else.
        until(lambda: api.client.post("/v1/experiments", json={"name": "after"}).status_code == 202)
        with api.database.read() as session:
            names = Counter(session.scalars(select(core(Experiment).c.name)))
        # On a busy machine one that says "after" may be told the same, and happen.
        assert names.pop("after") >= 1
        assert names.total() <= 1


@pytest.mark.parametrize("place", [0, 2, 4])
def test_what_the_database_has_against_one_costs_no_other(database: Database, place: int) -> None:
    good = Submission.of(load_spec({}))
    wrong = dataclasses.replace(good, tags={"key": None})
    writes = Lane("writes", 1, 120.0)

    async def submit_all() -> list[Any]:
        intake = Intake(database, writes, Limits(), 120.0)
        orders = [
            Order(
                DEFAULT_OWNER,
                "key_1",
                wrong if n == place else good,
                lambda _session: "cpu",
                lambda row: Response(row.id),
            )
            for n in range(5)
        ]
        return await asyncio.gather(*(intake.submit(order) for order in orders), return_exceptions=True)

    outcomes = asyncio.run(submit_all())
    writes.close()
    assert isinstance(outcomes[place], IntegrityError)
    answered = [outcome.body.decode() for n, outcome in enumerate(outcomes) if n != place]
    assert [job.id for job in jobs(database)] == answered
    with database.read() as session:
        assert len(session.scalars(select(core(Experiment).c.id)).all()) == 4


def test_an_answer_that_cannot_be_made_costs_no_other(database: Database) -> None:
    writes = Lane("writes", 1, 120.0)

    def answer(row: Any) -> Response:
        if row.name == "bad":
            raise LookupError(row.id)
        return Response(row.name)

    async def submit_all() -> list[Any]:
        intake = Intake(database, writes, Limits(), 120.0)
        orders = [
            Order(DEFAULT_OWNER, "key_1", Submission.of(load_spec({"name": name})), lambda _session: "cpu", answer)
            for name in ("a", "bad", "b")
        ]
        return await asyncio.gather(*(intake.submit(order) for order in orders), return_exceptions=True)

    first, bad, last = asyncio.run(submit_all())
    writes.close()
    assert (first.body, last.body) == (b"a", b"b")
    assert isinstance(bad, LookupError)
