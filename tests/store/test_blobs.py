"""Checkpoints: stored in pieces, shown when whole, given up when replaced."""

import hashlib
import os
from typing import Any, get_args

import pytest

from store import blobs, experiments, purging, work
from store.errors import CheckpointIncomplete, CheckpointNotFound
from store.jobs.leases import Lease, Stop
from store.jobs.wishes import By

MIB = blobs.CHUNK_BYTES


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def complete(lab: Any, lease: Lease, checkpoint_id: str) -> None:
    """Compare what is stored with what was announced, and show it, as a worker does."""
    digests = {file: blobs.digest(lab.database, checkpoint_id, file) for file in get_args(blobs.File)}
    with lab.database.write() as session:
        blobs.complete(session, lease, checkpoint_id, digests)


@pytest.fixture
def lease(lab: Any) -> Lease:
    return lab.running()


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3 * MIB])
def test_bytes_come_back_in_chunks(lab: Any, lease: Lease, size: int) -> None:
    weights, state = os.urandom(size), os.urandom(10)
    checkpoint_id = lab.checkpoint(lease, "last", 7, weights, state)
    chunks = list(blobs.read(lab.database, checkpoint_id, "weights"))
    assert b"".join(chunks) == weights
    assert all(len(chunk) == MIB for chunk in chunks[:-1])
    assert b"".join(blobs.read(lab.database, checkpoint_id, "state")) == state


def test_a_checkpoint_is_shown_with_what_the_trainer_said(lab: Any, lease: Lease) -> None:
    checkpoint_id = lab.checkpoint(lease, "last", 48)
    with lab.database.read() as session:
        found = blobs.get(session, lease.job_id, checkpoint_id)
    assert (found.kind, found.step, found.epoch, found.attempt) == ("last", 48, 2, 1)
    assert (found.size, found.sha256) == (100, sha256(b"w" * 100))
    assert (found.state_size, found.state_sha256) == (50, sha256(b"s" * 50))
    assert found.metrics == {"test/accuracy": 0.5, "test/loss": "Infinity"}


def test_a_checkpoint_is_invisible_until_it_is_whole(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        checkpoint_id = blobs.begin(session, lease, saved("last", 2, b"x" * MIB + b"y" * MIB, None))
        blobs.write_chunk(session, lease, checkpoint_id, "weights", 0, b"x" * MIB)
    with pytest.raises(CheckpointIncomplete) as caught:
        complete(lab, lease, checkpoint_id)
    assert (caught.value.expected_bytes, caught.value.stored_bytes) == (2 * MIB, MIB)
    assert lab.checkpoints(lease.job_id) == []
    with pytest.raises(CheckpointNotFound):
        blobs.read(lab.database, checkpoint_id, "weights")
    with lab.database.write() as session:
        blobs.write_chunk(session, lease, checkpoint_id, "weights", 1, b"y" * MIB)
    complete(lab, lease, checkpoint_id)
    assert lab.checkpoints(lease.job_id) == [("last", 2)]


def test_a_missing_state_keeps_a_checkpoint_invisible(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        checkpoint_id = blobs.begin(session, lease, saved("last", 2, b"x", b"y"))
        blobs.write_chunk(session, lease, checkpoint_id, "weights", 0, b"x")
    with pytest.raises(CheckpointIncomplete, match="state should have 1 bytes and has 0"):
        complete(lab, lease, checkpoint_id)


def test_chunks_that_add_up_but_leave_a_hole_are_not_whole(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        checkpoint_id = blobs.begin(session, lease, saved("best", 2, b"xx", None))
        for seq in (0, 2):
            blobs.write_chunk(session, lease, checkpoint_id, "weights", seq, b"x")
    with pytest.raises(CheckpointIncomplete):
        complete(lab, lease, checkpoint_id)


def test_repeats_of_every_step_change_nothing(lab: Any, lease: Lease) -> None:
    first = lab.checkpoint(lease, "last", 5, b"abc")
    before = lab.everything(but=["jobs"])
    assert lab.checkpoint(lease, "last", 5, b"xyz") == first
    assert lab.everything(but=["jobs"]) == before


def test_a_chunk_is_at_most_a_mebibyte(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        checkpoint_id = blobs.begin(session, lease, saved("best", 2, b"xx", None))
        with pytest.raises(ValueError, match="at most 1048576 bytes"):
            blobs.write_chunk(session, lease, checkpoint_id, "weights", 0, b"x" * (MIB + 1))


def test_writing_a_chunk_hears_a_wish_to_cancel(lab: Any, lease: Lease, saved: Any) -> None:
    lab.change(lease.job_id, desired="cancel")
    with lab.database.write() as session:
        checkpoint_id = blobs.begin(session, lease, saved("best", 2, b"x", None))
        answer = blobs.write_chunk(session, lease, checkpoint_id, "weights", 0, b"x")
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
        blobs.begin(session, lease, saved("last", 4))
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
        blobs.read(lab.database, checkpoint_id, "weights")


def test_a_purge_under_a_reader_is_an_error_and_not_a_short_file(lab: Any, lease: Lease) -> None:
    old = lab.checkpoint(lease, "last", 2, os.urandom(2 * MIB))
    reader = blobs.read(lab.database, old, "weights")
    assert len(next(reader)) == MIB
    lab.checkpoint(lease, "last", 4)
    with lab.database.write() as session:
        purging.purge(session)
    with pytest.raises(CheckpointNotFound):
        next(reader)


def test_an_end_gives_up_what_is_not_whole(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        blobs.begin(session, lease, saved("last", 4))
    lab.finish(lease, work.Failed("trainer_error", "Broke."))
    with lab.database.write() as session:
        assert purging.purge(session) == 1
    assert lab.everything()["checkpoints"] == []
