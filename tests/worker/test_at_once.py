"""Of a short run everything is stored in one transaction, or one thing after another where that is not to be."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from bncore.events import CheckpointSaved, Event, FileSaved, MetricsBlock, StoredFile, encode
from bncore.spec import load_spec
from store import checkpoints, experiments, orphans, owners, recordings, work
from store.database import Database
from store.errors import QuotaExceeded, StaleLease
from store.experiments import Submission
from store.files import CHUNK_BYTES
from store.jobs import leases
from store.jobs.leases import Go, Lease, Terms, Worker
from store.tables import Content, ContentChunk, File, JobEvent, MetricSegment, Owner
from worker import at_once
from worker.file_upload import FileSender
from worker.reporting import Reporting

WEIGHTS, STATE, RECORDING = b"w" * 100, b"s" * 50, b"r" * 20
BLOCK = MetricsBlock(first_step=1, count=2, values={"train/loss": [1.0, 0.5]})


def taken(database: Database) -> Lease:
    """Of an experiment that is about to be trained."""
    with database.write() as session:
        owner = owners.create(session, "team")
        experiments.submit(session, Submission.of(load_spec({})), owner=owner, device="cpu")
    with database.write() as session:
        worker = Worker(process_id="prc_1", device="cpu", device_model="Model A", torch_version="2.13.0")
        claim = work.take(session, worker, Terms(60.0), leases.new_token())
    assert claim is not None
    return claim.lease


@pytest.fixture
def lease(database: Database) -> Lease:
    return taken(database)


def kept(directory: Path, name: str, content: bytes) -> StoredFile:
    (directory / name).write_bytes(content)
    return StoredFile(file=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def short_run(directory: Path, weights: bytes = WEIGHTS) -> list[Event]:
    """What a run leaves that ends at its best, with a recording."""
    recording = FileSaved(name="r", file_kind="diagnostic", file=kept(directory, "recording", RECORDING), step=2)
    best = CheckpointSaved(checkpoint_kind="best", step=2, epoch=0, weights=kept(directory, "best", weights))
    last = CheckpointSaved(
        checkpoint_kind="last",
        step=2,
        epoch=0,
        weights=kept(directory, "last", weights),
        state=kept(directory, "state", STATE),
    )
    return [BLOCK, recording, best, last]


def reporting(database: Database, lease: Lease, directory: Path, events: list[Event], owner_bytes: int) -> Reporting:
    (directory / "events.jsonl").write_text("".join(map(encode, events)))
    return Reporting(
        database,
        lease,
        directory,
        keep_periodic=False,
        owner_bytes=owner_bytes,
        renew_seconds=5.0,
        on_answer=lambda _: None,
    )


@contextmanager
def counted_commits(database: Database) -> Iterator[list[Any]]:
    commits: list[Any] = []

    def hear(connection: Any) -> None:
        commits.append(connection)

    event.listen(database.engine, "commit", hear)
    yield commits
    event.remove(database.engine, "commit", hear)


def assert_all_is_stored(database: Database, lease: Lease, weights: bytes = WEIGHTS) -> None:
    with database.read() as session:
        listed = checkpoints.listed(session, lease.job_id)
        assert [row.kind for row in listed] == ["best", "last"]
        assert [row.step for row in recordings.listed(session, lease.job_id)] == [2]
        assert session.scalars(select(MetricSegment.count)).all() == [2]
        used = session.scalars(select(Owner.stored_bytes).where(Owner.name == "team")).one()
        assert used == len(weights) + len(STATE) + len(RECORDING)
        assert orphans.find(session) == []
    for row in listed:
        assert b"".join(checkpoints.read(database, row.id, "weights")) == weights
    assert b"".join(checkpoints.read(database, listed[1].id, "state")) == STATE


def test_a_short_run_is_stored_in_one_transaction(database: Database, lease: Lease, tmp_path: Path) -> None:
    ended = reporting(database, lease, tmp_path, short_run(tmp_path), 1 << 30)
    with counted_commits(database) as commits:
        assert ended.flush()
    assert len(commits) == 1
    assert_all_is_stored(database, lease)
    assert not any((tmp_path / name).exists() for name in ("recording", "best", "last", "state"))
    assert not ended.flush()


def test_more_than_a_chunk_is_stored_piece_by_piece(database: Database, lease: Lease, tmp_path: Path) -> None:
    weights = b"w" * CHUNK_BYTES
    with counted_commits(database) as commits:
        reporting(database, lease, tmp_path, short_run(tmp_path, weights), 1 << 30).flush()
    assert len(commits) > 1
    assert_all_is_stored(database, lease, weights)
    assert not any((tmp_path / name).exists() for name in ("recording", "best", "last", "state"))


def test_what_is_stored_twice_is_there_once(database: Database, lease: Lease, tmp_path: Path) -> None:
    """The answer to the first was lost: what has come of it is found one thing after another, and nothing changes but
    the lease."""
    events = short_run(tmp_path)
    made = [one for one in events if isinstance(one, FileSaved)]
    saved = [one for one in events if isinstance(one, CheckpointSaved)]
    sender = FileSender(database, lease, tmp_path, owner_bytes=1 << 30, renew_seconds=5.0, on_answer=lambda _: None)
    assert at_once.stored(sender, events, made, saved) == Go()
    before = counted(database)
    assert at_once.stored(sender, events, made, saved) is None
    assert reporting(database, lease, tmp_path, events, 1 << 30).flush()
    assert counted(database) == before
    assert_all_is_stored(database, lease)
    assert not any((tmp_path / name).exists() for name in ("recording", "best", "last", "state"))


def counted(database: Database) -> list[int]:
    with database.read() as session:
        tables = (File, Content, ContentChunk, JobEvent, MetricSegment)
        return [session.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]


def test_nothing_is_stored_without_the_lease(database: Database, lease: Lease, tmp_path: Path) -> None:
    late = reporting(database, lease, tmp_path, short_run(tmp_path), 1 << 30)
    with database.write() as session:
        work.finish(session, lease, work.Released())
    with pytest.raises(StaleLease):
        late.flush()
    with database.read() as session:
        for table in (File, Content, ContentChunk, MetricSegment):
            assert session.execute(select(func.count()).select_from(table)).scalar_one() == 0
    assert (tmp_path / "last").exists()


def test_bytes_that_are_there_and_damaged_are_stored_anew(database: Database, lease: Lease, tmp_path: Path) -> None:
    events = short_run(tmp_path)
    reporting(database, lease, tmp_path, events[:3], 1 << 30).flush()
    with database.write() as session:
        session.execute(update(ContentChunk).values(data=b"v" + WEIGHTS[1:]))
    reporting(database, lease, tmp_path, events[3:], 1 << 30).flush()
    with database.read() as session:
        last = next(row for row in checkpoints.listed(session, lease.job_id) if row.kind == "last")
    assert b"".join(checkpoints.read(database, last.id, "weights")) == WEIGHTS


def test_a_file_that_is_not_what_was_announced_is_no_checkpoint(
    database: Database, lease: Lease, tmp_path: Path
) -> None:
    events = short_run(tmp_path)
    (tmp_path / "state").write_bytes(b"t" + STATE[1:])
    reporting(database, lease, tmp_path, events, 1 << 30).flush()
    with database.read() as session:
        assert [row.kind for row in checkpoints.listed(session, lease.job_id)] == ["best"]
        kinds = session.scalars(select(JobEvent.kind)).all()
    assert "checkpoint_damaged" in kinds


def test_without_room_for_files_the_numbers_are_stored(database: Database, lease: Lease, tmp_path: Path) -> None:
    with pytest.raises(QuotaExceeded):
        reporting(database, lease, tmp_path, short_run(tmp_path), len(RECORDING) + 1).flush()
    with database.read() as session:
        assert session.scalars(select(MetricSegment.count)).all() == [2]
        assert [row.step for row in recordings.listed(session, lease.job_id)] == [2]
        assert checkpoints.listed(session, lease.job_id) == []
