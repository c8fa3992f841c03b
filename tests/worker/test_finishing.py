"""A job ends with the last of what its trainer reports, in one transaction, unless something else is to come first."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from bncore.events import Event, Failed, Finished, MetricsBlock, Stopped, Summary, encode
from bncore.run_directory import RunLayout
from store import experiments, logs, work
from store.database import Database
from store.errors import QuotaExceeded, StaleLease
from store.jobs import wishes
from store.jobs.leases import Lease
from store.jobs.moves import Moved
from store.jobs.states import State
from store.jobs.wishes import By
from store.tables import Experiment
from tests.worker.test_at_once import assert_all_is_stored, counted_commits, reporting, short_run, taken
from worker.ending import Exit, judge
from worker.reporting import Reporting

FINISHED = Finished(
    stop_reason="budget",
    step=2,
    summary=Summary(steps=2, seconds=0.5, test_loss=1.0, test_accuracy=0.5, best_test_accuracy=0.5),
)
ENOUGH = 1 << 30


@pytest.fixture
def lease(database: Database) -> Lease:
    return taken(database)


def drained(reporting: Reporting, database: Database, lease: Lease) -> Moved | None:
    """What an attempt makes of a trainer that has ended."""
    return reporting.drain(
        lambda session, last: work.finish_alone(session, lease, judge(Exit(last, 0, True, ""), None))
    )


def found(database: Database, lease: Lease) -> Experiment:
    with database.read() as session:
        return experiments.get(session, lease.job_id)


def test_a_training_that_finished_is_stored_and_ended_in_one_transaction(
    database: Database, lease: Lease, tmp_path: Path
) -> None:
    ended = reporting(database, lease, tmp_path, [*short_run(tmp_path), FINISHED], ENOUGH)
    with counted_commits(database) as commits:
        moved = drained(ended, database, lease)
    assert len(commits) == 1
    assert moved is not None
    assert moved.state is State.SUCCEEDED
    assert_all_is_stored(database, lease)
    row = found(database, lease)
    assert (row.state, row.stop_reason, row.lease_token) == (State.SUCCEEDED, "budget", None)
    assert row.summary is not None
    assert row.summary["test_accuracy"] == 0.5
    assert not any((tmp_path / name).exists() for name in ("recording", "best", "last", "state"))


def test_so_is_one_whose_files_were_stored_before(database: Database, lease: Lease, tmp_path: Path) -> None:
    events = short_run(tmp_path)
    ended = reporting(database, lease, tmp_path, events, ENOUGH)
    assert ended.flush()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write(encode(FINISHED))
    with counted_commits(database) as commits:
        moved = drained(ended, database, lease)
    assert len(commits) == 1
    assert moved is not None
    assert found(database, lease).state is State.SUCCEEDED
    assert_all_is_stored(database, lease)


def test_what_it_printed_is_stored_before_it_ends(database: Database, lease: Lease, tmp_path: Path) -> None:
    ended = reporting(database, lease, tmp_path, [*short_run(tmp_path), FINISHED], ENOUGH)
    printed = b"a line\n" * 40_000
    RunLayout(tmp_path).log.write_bytes(printed)
    assert drained(ended, database, lease) is not None
    with database.read() as session:
        assert logs.read(session, lease.job_id, lease.attempt, 0, 1 << 20).data == printed


@pytest.mark.parametrize(
    "last", [Stopped(step=2), Failed(code="trainer_error", message="m"), MetricsBlock(first_step=3, count=1, values={})]
)
def test_any_other_end_is_stored_and_left_to_be_judged(
    database: Database, lease: Lease, tmp_path: Path, last: Event
) -> None:
    ended = reporting(database, lease, tmp_path, [*short_run(tmp_path), last], ENOUGH)
    assert drained(ended, database, lease) is None
    assert_all_is_stored(database, lease)
    assert found(database, lease).state is State.RUNNING
    assert ended.last_event == last


def test_whose_job_it_is_no_more_stores_and_ends_nothing(database: Database, lease: Lease, tmp_path: Path) -> None:
    late = reporting(database, lease, tmp_path, [*short_run(tmp_path), FINISHED], ENOUGH)
    with database.write() as session:
        work.finish(session, lease, work.Released())
    with pytest.raises(StaleLease):
        drained(late, database, lease)
    row = found(database, lease)
    assert (row.state, row.summary, row.step) == (State.QUEUED, None, 0)
    assert (tmp_path / "last").exists()


def test_an_end_whose_answer_was_lost_is_found_and_not_done_again(
    database: Database, lease: Lease, tmp_path: Path
) -> None:
    """Killed behind the commit, or told nothing of it: whoever comes next with the lease has none."""
    events = [*short_run(tmp_path), FINISHED]
    assert drained(reporting(database, lease, tmp_path, events, ENOUGH), database, lease) is not None
    before = found(database, lease)
    short_run(tmp_path)
    with pytest.raises(StaleLease):
        drained(reporting(database, lease, tmp_path, events, ENOUGH), database, lease)
    with pytest.raises(StaleLease), database.write() as session:
        work.finish(session, lease, work.Failed("worker_lost", "m"))
    after = found(database, lease)
    assert (after.state, after.version, after.finished_at) == (before.state, before.version, before.finished_at)


def test_a_wish_that_comes_at_the_end_comes_too_late(database: Database, lease: Lease, tmp_path: Path) -> None:
    with database.write() as session:
        wishes.ask(session, lease.job_id, "cancel", By(None))
    ended = reporting(database, lease, tmp_path, [*short_run(tmp_path), FINISHED], ENOUGH)
    assert drained(ended, database, lease) is not None
    row = found(database, lease)
    assert (row.state, row.desired) == (State.SUCCEEDED, None)


def test_without_room_its_numbers_are_stored_and_it_does_not_end_here(
    database: Database, lease: Lease, tmp_path: Path
) -> None:
    ended = reporting(database, lease, tmp_path, [*short_run(tmp_path), FINISHED], 1)
    with pytest.raises(QuotaExceeded):
        drained(ended, database, lease)
    row = found(database, lease)
    assert (row.state, row.step) == (State.RUNNING, 2)


def test_many_end_at_once_each_once(database: Database, tmp_path: Path) -> None:
    """Of one owner, with the same bytes, all at the same moment."""
    held = [taken(database) for _ in range(4)]
    ends = []
    for number, lease in enumerate(held):
        folder = tmp_path / str(number)
        folder.mkdir()
        ends.append(reporting(database, lease, folder, [*short_run(folder), FINISHED], ENOUGH))
    gate = Barrier(len(held))

    def end(number: int) -> Moved | None:
        gate.wait()
        return drained(ends[number], database, held[number])

    with ThreadPoolExecutor(len(held)) as pool:
        moved = list(pool.map(end, range(len(held))))
    assert [one.state for one in moved if one is not None] == [State.SUCCEEDED] * len(held)
    for lease in held:
        assert found(database, lease).state is State.SUCCEEDED


@pytest.mark.parametrize("broken", range(1, 8))
def test_what_an_outage_interrupted_is_stored_before_it_ends(
    database: Database, lease: Lease, tmp_path: Path, broken: int
) -> None:
    """The database is away at the first commit, and again at another one of those that come after."""
    ended = reporting(database, lease, tmp_path, [*short_run(tmp_path), FINISHED], ENOUGH)
    with breaking_commit(database, 1), pytest.raises(OperationalError):
        ended.flush()
    ended.hold_on()
    with breaking_commit(database, broken), pytest.raises(OperationalError):
        drained(ended, database, lease)
    assert drained(ended, database, lease) is None
    assert_all_is_stored(database, lease)


@contextmanager
def breaking_commit(database: Database, number: int) -> Iterator[None]:
    """The commit of that number, from 1, fails, and nothing of it is stored."""
    commits = itertools.count(1)

    def fail(_: object) -> None:
        if next(commits) == number:
            raise OperationalError("COMMIT", None, ConnectionError("cut off"))

    event.listen(database.engine, "commit", fail)
    yield
    event.remove(database.engine, "commit", fail)
