"""Checkpoints: stored in pieces, shown when whole, given up when replaced."""

import hashlib
import os
from typing import Any

import pytest

from store import checkpoints, experiments, files, purging, work
from store.errors import CheckpointNotFound, FileIncomplete
from store.jobs.leases import Lease, Stop
from store.jobs.wishes import By

MIB = files.CHUNK_BYTES


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def lease(lab: Any) -> Lease:
    return lab.running()


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3 * MIB])
def test_bytes_come_back_in_chunks(lab: Any, lease: Lease, size: int) -> None:
    weights, state = os.urandom(size), os.urandom(10)
    checkpoint_id = lab.checkpoint(lease, "last", 7, weights, state)
    chunks = list(checkpoints.read(lab.database, checkpoint_id, "weights"))
    assert b"".join(chunks) == weights
    assert all(len(chunk) == MIB for chunk in chunks[:-1])
    assert b"".join(checkpoints.read(lab.database, checkpoint_id, "state")) == state


def test_a_checkpoint_is_shown_with_what_the_trainer_said(lab: Any, lease: Lease) -> None:
    checkpoint_id = lab.checkpoint(lease, "last", 48)
    with lab.database.read() as session:
        found = checkpoints.get(session, lease.job_id, checkpoint_id)
    assert (found.kind, found.step, found.epoch, found.attempt) == ("last", 48, 2, 1)
    assert (found.weights.size, found.weights.sha256) == (100, sha256(b"w" * 100))
    assert (found.state.size, found.state.sha256) == (50, sha256(b"s" * 50))
    assert found.metrics == {"test/accuracy": 0.5, "test/loss": "Infinity"}


def test_a_checkpoint_is_invisible_until_it_is_whole(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        begun = checkpoints.begin(session, lease, saved("last", 2, b"x" * MIB + b"y" * MIB, None))
        weights = begun.files["weights"].file_id
        files.write_chunk(session, lease, weights, 0, b"x" * MIB)
    with pytest.raises(FileIncomplete) as caught:
        lab.complete(lease, begun)
    assert (caught.value.expected_bytes, caught.value.stored_bytes) == (2 * MIB, MIB)
    assert lab.checkpoints(lease.job_id) == []
    with pytest.raises(CheckpointNotFound):
        checkpoints.read(lab.database, begun.id, "weights")
    with lab.database.write() as session:
        files.write_chunk(session, lease, weights, 1, b"y" * MIB)
    lab.complete(lease, begun)
    assert lab.checkpoints(lease.job_id) == [("last", 2)]


def test_a_missing_state_keeps_a_checkpoint_invisible(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        begun = checkpoints.begin(session, lease, saved("last", 2, b"x", b"y"))
    lab.send(lease, begun.files["weights"], b"x")
    with pytest.raises(FileIncomplete, match="should have 1 bytes and has 0"):
        lab.complete(lease, begun)
    assert lab.checkpoints(lease.job_id) == []


def test_repeats_of_every_step_change_nothing(lab: Any, lease: Lease) -> None:
    first = lab.checkpoint(lease, "last", 5, b"abc")
    before = lab.everything(but=["jobs"])
    assert lab.checkpoint(lease, "last", 5, b"xyz") == first
    assert lab.everything(but=["jobs"]) == before


@pytest.mark.parametrize(("seq", "size"), [(0, MIB + 1), (0, 3), (1, 1), (-1, 1)])
def test_a_chunk_lies_within_what_was_announced(lab: Any, lease: Lease, saved: Any, seq: int, size: int) -> None:
    with lab.database.write() as session:
        file = checkpoints.begin(session, lease, saved("best", 2, b"xx", None)).files["weights"]
        with pytest.raises(ValueError, match="has no place in 2 bytes"):
            files.write_chunk(session, lease, file.file_id, seq, b"x" * size)


def test_writing_a_chunk_hears_a_wish_to_cancel(lab: Any, lease: Lease, saved: Any) -> None:
    lab.change(lease.job_id, desired="cancel")
    with lab.database.write() as session:
        file = checkpoints.begin(session, lease, saved("best", 2, b"x", None)).files["weights"]
        answer = files.write_chunk(session, lease, file.file_id, 0, b"x")
    assert answer == Stop("cancel")


def test_the_newest_last_and_its_best_and_newer_bests_stay(lab: Any, lease: Lease) -> None:
    for kind, step in [("best", 1), ("best", 2), ("last", 2), ("best", 3), ("best", 4)]:
        lab.checkpoint(lease, kind, step)
    assert lab.checkpoints(lease.job_id) == [("best", 4), ("best", 3), ("best", 2), ("last", 2)]
    lab.checkpoint(lease, "last", 5)
    assert lab.checkpoints(lease.job_id) == [("last", 5), ("best", 4)]


def test_nothing_is_given_up_before_the_newer_one_is_whole(lab: Any, lease: Lease, saved: Any) -> None:
    lab.checkpoint(lease, "last", 2)
    with lab.database.write() as session:
        checkpoints.begin(session, lease, saved("last", 4))
    assert lab.checkpoints(lease.job_id) == [("last", 2)]


def test_periodic_checkpoints_stay_when_the_spec_asks_for_them(lab: Any) -> None:
    lease = lab.running(checkpoint={"keep_periodic": True})
    for step in (2, 4, 6):
        lab.checkpoint(lease, "last", step)
    assert lab.checkpoints(lease.job_id) == [("last", 6), ("periodic", 4), ("periodic", 2)]


def test_a_deleted_experiment_shows_no_bytes(lab: Any, lease: Lease) -> None:
    checkpoint_id = lab.checkpoint(lease, "last", 2)
    lab.finish(lease, work.Cancelled())
    with lab.database.write() as session:
        experiments.delete(session, lease.job_id, By(None))
    with pytest.raises(CheckpointNotFound):
        checkpoints.read(lab.database, checkpoint_id, "weights")


def test_a_purge_under_a_reader_is_an_error_and_not_a_short_file(lab: Any, lease: Lease) -> None:
    old = lab.checkpoint(lease, "last", 2, os.urandom(2 * MIB))
    reader = checkpoints.read(lab.database, old, "weights")
    assert len(next(reader)) == MIB
    lab.checkpoint(lease, "last", 4)
    with lab.database.write() as session:
        while purging.purge(session):
            pass
    with pytest.raises(CheckpointNotFound):
        next(reader)


def test_an_end_gives_up_what_is_not_whole(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        checkpoints.begin(session, lease, saved("last", 4))
    lab.finish(lease, work.Failed("trainer_error", "Broke."))
    with lab.database.write() as session:
        assert [purging.purge(session) for _ in range(4)] == [1, 2, 2, 0]
    assert lab.everything()["checkpoints"] == lab.everything()["files"] == lab.everything()["contents"] == []
