"""What a trainer prints reaches the store with its metrics, however much it is."""

from pathlib import Path
from typing import Any

import pytest

from bncore.run_directory import RunLayout
from bncore.spec import load_spec
from store import experiments, logs, work
from store.database import Database
from store.experiments import Submission
from store.jobs import leases
from store.jobs.leases import Lease, Terms, Worker
from worker.reporting import Reporting


@pytest.fixture
def lease(database: Database) -> Lease:
    with database.write() as session:
        experiments.submit(session, Submission.of(load_spec({})), owner="own_tests", device="cpu")
        claim = work.take(session, Worker("prc_1", "cpu", "m", "2"), Terms(60.0), leases.new_token())
    assert claim is not None
    return claim.lease


@pytest.fixture
def reporting(database: Database, lease: Lease, tmp_path: Path) -> Any:
    return Reporting(
        database,
        lease,
        tmp_path,
        keep_periodic=False,
        owner_bytes=1 << 40,
        renew_seconds=60.0,
        on_answer=lambda _answer: None,
    )


def stored(database: Database, lease: Lease, after: int = 0) -> logs.Piece:
    with database.read() as session:
        return logs.read(session, lease.job_id, lease.attempt, after, 4 << 20)


def test_each_flush_stores_what_was_printed_since(
    database: Database, lease: Lease, reporting: Any, tmp_path: Path
) -> None:
    assert not reporting.flush()
    with RunLayout(tmp_path).log.open("ab", buffering=0) as log:
        for line in (b"first\n", b"second\n"):
            log.write(line)
            assert reporting.flush()
            assert not reporting.flush()
    assert stored(database, lease).data == b"first\nsecond\n"


def test_a_trainer_that_prints_without_end_is_caught_up_with(
    database: Database, lease: Lease, reporting: Any, tmp_path: Path
) -> None:
    with RunLayout(tmp_path).log.open("wb") as log:
        log.write(b"head\n")
        log.truncate(1 << 34)
        log.seek(1 << 34)
        log.write(b"tail\n")
    flushes = 0
    while reporting.flush():
        flushes += 1
    assert flushes <= 2 * logs.KEPT_BYTES // logs.MAX_PIECE_BYTES + 1
    head = stored(database, lease)
    tail = stored(database, lease, head.end)
    assert (head.data[:5], head.end) == (b"head\n", logs.KEPT_BYTES)
    assert (tail.data[-5:], tail.end) == (b"tail\n", (1 << 34) + 5)
