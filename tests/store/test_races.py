"""Many at once: one winner, nobody locked out."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text

from bncore.spec import load_spec
from store import experiments, files, idempotency, orphans, owners, purging, results, work
from store.database import Database
from store.errors import QuotaExceeded
from store.experiments import Filters, Submission
from store.files import Announced
from store.idempotency import Scope
from store.jobs.leases import Terms, Worker, new_token
from store.jobs.states import State
from store.jobs.wishes import By
from store.queueing import Limits
from store.tables import Content

CLAIMANTS, ROUNDS = 32, 50
# In this test's database: the server is that of all who test at the same time.
SO_MANY = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
WAITS = "wait_event_type = 'Lock'"


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Run `act(0..count-1)` in as many threads, all let go at the same moment."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_of_32_racing_claimants_one_wins_in_each_of_50_rounds(postgresql_url: str) -> None:
    database = Database(postgresql_url, connections=CLAIMANTS)
    submission = Submission.of(load_spec({}))

    def claim(number: int) -> bool:
        with database.write() as session:
            worker = Worker(f"prc_{number}", "cpu", "Model A", "2.13.0")
            return work.take(session, worker, Terms(60.0), new_token()) is not None

    with ThreadPoolExecutor(CLAIMANTS) as pool:
        for _ in range(ROUNDS):
            with database.write() as session:
                experiment_id = experiments.submit(session, submission, owner="own_1", device="cpu").id
            assert sum(pool.map(claim, range(CLAIMANTS))) == 1
            with database.read() as session:
                assert experiments.get(session, experiment_id).attempt == 1
    database.dispose()


def test_claimants_that_race_for_several_experiments_take_one_each(lab: Any) -> None:
    submitted = {lab.submit() for _ in range(8)}
    claims = at_once(8, lambda number: lab.claim(process_id=f"prc_{number}"))
    assert {claim.lease.job_id for claim in claims if claim is not None} <= submitted
    taken = [claim for claim in claims if claim is not None]
    # A claimant may find its row locked by another and go home; the next one to hear the bell takes what is left.
    while (claim := lab.claim()) is not None:
        taken.append(claim)
    assert sorted(claim.lease.job_id for claim in taken) == sorted(submitted)


def test_ten_threads_with_one_idempotency_key_make_one_experiment(lab: Any) -> None:
    scope = Scope("own_1", "POST", "/v1/experiments", "once")

    def submit(_number: int) -> tuple[str, bool]:
        with lab.database.write() as session:
            done = idempotency.submit_once(session, scope, lab.submission(), device="cpu")
            return done.experiment.id, done.replayed

    answers = at_once(10, submit)
    assert len({experiment_id for experiment_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 9
    assert len(lab.everything()["experiments"]) == len(lab.everything()["bells"]) == 1


def test_of_many_who_submit_for_one_owner_only_so_many_are_let_in_and_each_has_a_turn(lab: Any) -> None:
    with lab.database.write() as session:
        owner = owners.create(session, "crowd")

    def submit(_number: int) -> int | None:
        try:
            with lab.database.write() as session:
                limits = Limits(queued_jobs=10)
                return experiments.submit(session, lab.submission(), owner=owner, device="cpu", limits=limits).turn
        except QuotaExceeded:
            return None

    turns = [turn for turn in at_once(16, submit) if turn is not None]
    assert sorted(turns) == list(range(10))


def test_cancel_and_claim_at_once_end_cancelled_or_with_a_wish(lab: Any) -> None:
    for _ in range(10):
        experiment_id = lab.submit()

        def act(number: int, experiment_id: str = experiment_id) -> Any:
            if number:
                return lab.claim()
            return lab.ask(experiment_id, "cancel")

        at_once(2, act)
        row = lab.get(experiment_id)
        assert (row.state, row.desired) in ((State.CANCELLED, None), (State.RUNNING, "cancel"))


@pytest.mark.system
def test_eight_writing_processes_on_sqlite_never_meet_a_locked_database(sqlite_url: str) -> None:
    script = Path(__file__).with_name("writer.py")
    writers = [
        subprocess.Popen([sys.executable, str(script), sqlite_url], stderr=subprocess.PIPE, text=True) for _ in range(8)
    ]
    errors = [writer.communicate(timeout=400)[1] for writer in writers]
    assert errors == [""] * 8
    assert [writer.returncode for writer in writers] == [0] * 8
    database = Database(sqlite_url)
    with database.read() as session:
        rows = experiments.page(session, experiments.Filters(), limit=100).rows
        assert len(rows) == 16
        assert {row.state for row in rows} == {State.SUCCEEDED}
        assert {len(results.series(session, row.id)["train/loss"].steps) for row in rows} == {10}
    database.dispose()


def test_two_who_change_many_jobs_never_wait_for_one_another(postgresql_url: str) -> None:
    """An UPDATE locks rows as it meets them: in another order once one of them was changed meanwhile."""
    database = Database(postgresql_url)
    with database.write() as session:
        first, second, third = (
            experiments.submit(session, Submission.of(load_spec({"tags": tags})), owner="own_1", device="cpu").id
            for tags in ({"all": "", "some": ""}, {"all": ""}, {"all": "", "some": ""})
        )

    def cancel(tag: str) -> int:
        with database.write() as session:
            # In the order of the table, as a planner may always decide to.
            session.execute(text("SET LOCAL enable_indexscan = off"))
            # Who holds the lock lets it go when it has seen who waits, however long that takes.
            session.execute(text("SET LOCAL lock_timeout = 0"))
            return experiments.cancel_all(session, Filters(tags={tag: None}), By(None), limit=10)

    with (
        ThreadPoolExecutor(2) as pool,
        psycopg.connect(postgresql_url) as one,
        psycopg.connect(postgresql_url) as other,
    ):
        one.execute("UPDATE jobs SET turn = turn + 9 WHERE id = %s", [first])
        other.execute("UPDATE jobs SET turn = turn + 9 WHERE id = %s", [second])
        cancelled = [pool.submit(cancel, "all")]
        await_waiting_for(postgresql_url, one)
        one.commit()
        await_waiting_for(postgresql_url, other)
        cancelled.append(pool.submit(cancel, "some"))
        await_waiting(postgresql_url, 2)
        other.commit()
        # Those that the first has cancelled cannot be cancelled again.
        assert [one.result(60) for one in cancelled] == [3, 0]
    with database.read() as session:
        assert {experiments.get(session, one).state for one in (first, second, third)} == {State.CANCELLED}
    database.dispose()


def await_waiting_for(url: str, holder: psycopg.Connection[Any]) -> None:
    """Until somebody waits for a lock of this connection."""
    _await_so_many(url, 1, "%s = ANY(pg_blocking_pids(pid))", holder.info.backend_pid)


def await_waiting(url: str, count: int) -> None:
    """Until so many wait for locks."""
    _await_so_many(url, count, WAITS)


def _await_so_many(url: str, count: int, condition: str, *values: int) -> None:
    deadline = time.monotonic() + 60
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(SO_MANY + condition, values).fetchone() != (count,):
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_of_many_who_bring_the_same_bytes_at_once_all_have_them_and_they_count_once(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    data = b"x" * (files.CHUNK_BYTES + 1)
    announced = Announced("a", "source", None, len(data), hashlib.sha256(data).hexdigest())
    with database.write() as session:
        owner = owners.create(session, "team")

    def bring(_number: int) -> str:
        with database.write() as session:
            begun = files.begin_of(session, owner, announced)
        for seq in range(0 if begun.whole else 2):
            with database.write() as session:
                chunk = data[seq * files.CHUNK_BYTES : (seq + 1) * files.CHUNK_BYTES]
                files.write_chunk_of(session, owner, begun.file_id, seq, chunk)
        with database.write() as session:
            files.complete_of(session, owner, begun.file_id, announced.sha256)
        return begun.file_id

    for file_id in at_once(8, bring):
        assert b"".join(files.read(database, file_id)) == data
    purge_all(database)
    with database.read() as session:
        assert orphans.find(session) == []
        assert owners.find(session, owner).stored_bytes == len(data)
    database.dispose()


def test_bytes_announced_while_they_are_purged_are_there_for_whoever_was_told_so(postgresql_url: str) -> None:
    """Whoever comes before the last use ends has the bytes; whoever comes after is told to send them."""
    database = Database(postgresql_url)
    announced = Announced("a", "source", None, 1, hashlib.sha256(b"x").hexdigest())
    with database.write() as session:
        owner = owners.create(session, "team")

    def bring() -> str:
        with database.write() as session:
            begun = files.begin_of(session, owner, announced)
        if not begun.whole:
            with database.write() as session:
                files.write_chunk_of(session, owner, begun.file_id, 0, b"x")
                files.complete_of(session, owner, begun.file_id, announced.sha256)
        return begun.file_id

    for _ in range(20):
        old = bring()
        with database.write() as session:
            files.drop(session, [old])
        new = at_once(4, lambda number: bring() if number % 2 else purge_all(database))
        for file_id in filter(None, new):
            assert b"".join(files.read(database, file_id)) == b"x"
        with database.write() as session:
            assert orphans.find(session) == []
            files.drop(session, [file_id for file_id in new if file_id])
    purge_all(database)
    with database.read() as session:
        assert owners.find(session, owner).stored_bytes == 0
        assert session.scalars(select(Content.id)).all() == []
    database.dispose()


def test_one_who_refers_to_bytes_while_their_last_use_ends_waits_and_is_told_to_send_them(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    announced = Announced("a", "source", None, 0, hashlib.sha256(b"").hexdigest())
    with database.write() as session:
        owner = owners.create(session, "team")
        old = files.begin_of(session, owner, announced).file_id
        files.complete_of(session, owner, old, announced.sha256)
        files.drop(session, [old])

    def announce() -> files.Begun:
        with database.write() as session:
            return files.begin_of(session, owner, announced)

    with ThreadPoolExecutor(1) as pool:
        with database.write() as session:
            assert purging.purge(session) == 1
            waiting = pool.submit(announce)
            # It has found the content, whose row is locked here.
            until_somebody_waits_for_a_lock(database)
        assert not waiting.result().whole
    database.dispose()


def purge_all(database: Database) -> None:
    gone = 1
    while gone:
        with database.write() as session:
            gone = purging.purge(session)


def until_somebody_waits_for_a_lock(database: Database) -> None:
    waits = text(SO_MANY + WAITS)
    deadline = time.monotonic() + 60
    while True:
        with database.read() as session:
            if session.execute(waits).scalar_one():
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)
