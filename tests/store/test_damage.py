"""Checkpoints whose bytes are not what was announced: never shown, never restored, given up for the one before."""

from typing import Any

import pytest
from sqlalchemy import select, update

from store import checkpoints, experiments, files, purging, work
from store.errors import CheckpointDamaged
from store.jobs import eventlog
from store.jobs.leases import Lease
from store.jobs.states import State
from store.jobs.wishes import By
from store.tables import Checkpoint, ContentChunk, File

QUIETLY = {"synchronize_session": False}


@pytest.fixture
def lease(lab: Any) -> Lease:
    return lab.running()


def damage(lab: Any, checkpoint_id: str) -> None:
    """Of the state, as `lab.checkpoint` stores it."""
    with lab.database.write() as session:
        state = select(File.content_id).join(Checkpoint, Checkpoint.state_id == File.id)
        this = ContentChunk.content_id == state.where(Checkpoint.id == checkpoint_id).scalar_subquery()
        session.execute(update(ContentChunk).where(this).values(data=b"t" + b"s" * 49), execution_options=QUIETLY)


def kinds(lab: Any, lease: Lease) -> list[str]:
    with lab.database.read() as session:
        return [line.kind for line in eventlog.page(session, lease.job_id)]


@pytest.mark.parametrize("wrong", ["weights", "state"])
def test_wrong_bytes_never_become_a_checkpoint(lab: Any, lease: Lease, saved: Any, wrong: str) -> None:
    content = {"weights": b"w" * 100, "state": b"s" * 50}
    with lab.database.write() as session:
        begun = checkpoints.begin(session, lease, saved("last", 3, **content))
    for part, right in content.items():
        lab.send(lease, begun.files[part], b"x" + right[1:] if part == wrong else right)
    with pytest.raises(CheckpointDamaged) as caught:
        lab.complete(lease, begun)
    assert (caught.value.file, lab.checkpoints(lease.job_id)) == (wrong, [])
    # The bytes can be sent again.
    lab.send(lease, begun.files[wrong], content[wrong])
    lab.complete(lease, begun)
    assert lab.checkpoints(lease.job_id) == [("last", 3)]


def test_damage_is_found_before_anything_is_restored(lab: Any, lease: Lease) -> None:
    checkpoint_id = lab.checkpoint(lease, "last", 3)
    for file in ("weights", "state"):
        list(checkpoints.read(lab.database, checkpoint_id, file))
    damage(lab, checkpoint_id)
    list(checkpoints.read(lab.database, checkpoint_id, "weights"))
    with pytest.raises(CheckpointDamaged):
        list(checkpoints.read(lab.database, checkpoint_id, "state"))


def test_a_damaged_checkpoint_is_given_up_for_the_one_before(lab: Any, lease: Lease, block: Any) -> None:
    # The older one as retention leaves it while the newer is being stored: both are there.
    first = lab.checkpoint(lease, "last", 2)
    lab.append(lease, block(1, a=[1, 2]))
    second = lab.checkpoint(lease, "last", 4)
    with lab.database.write() as session:
        session.execute(update(Checkpoint).values(dropped_at=None))
        session.execute(update(File).values(dropped_at=None))
    lab.append(lease, block(3, a=[3, 4]))
    damage(lab, second)
    lab.release(lease)
    claim = lab.claim()
    assert claim.restore == second
    with lab.database.write() as session:
        checkpoints.give_up(session, claim.lease, second, "its SHA-256 is another.")
        before = work.go_back(session, claim.lease)
    assert before is not None
    assert (before.id, before.step) == (first, 2)
    assert lab.points(lease.job_id, "a") == ([1, 2], [1, 2])
    assert (lab.get(lease.job_id).step, lab.checkpoints(lease.job_id)) == (2, [("last", 2)])
    assert kinds(lab, lease)[-1] == "checkpoint_damaged"


def test_without_another_checkpoint_it_goes_back_to_the_beginning(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[1, 2]))
    only = lab.checkpoint(lease, "last", 2)
    lab.release(lease)
    again = lab.claim().lease
    with lab.database.write() as session:
        checkpoints.give_up(session, again, only, "it is gone.")
        checkpoints.give_up(session, again, only, "it is gone.")
        assert work.go_back(session, again) is None
    assert lab.points(lease.job_id, "a") == ([], [])
    assert kinds(lab, lease).count("checkpoint_damaged") == 1


def test_no_step_has_two_bests_after_a_restart(lab: Any, lease: Lease) -> None:
    lab.checkpoint(lease, "last", 2)
    lab.checkpoint(lease, "best", 2)
    lab.release(lease)
    again = lab.claim().lease
    # The best of the step it began at, and one further on, are made again.
    lab.checkpoint(again, "best", 2)
    lab.checkpoint(again, "last", 4)
    lab.checkpoint(again, "best", 4)
    lab.release(again)
    third = lab.claim().lease
    lab.checkpoint(third, "best", 4)
    found = lab.checkpoints(lease.job_id)
    assert len(found) == len(set(found)), found


@pytest.mark.parametrize("end", [work.Failed("trainer_error", "Broke."), work.Cancelled()])
def test_what_never_became_whole_is_purged_after_the_end_and_not_before(
    lab: Any, lease: Lease, saved: Any, end: work.Outcome
) -> None:
    lab.checkpoint(lease, "last", 2)
    with lab.database.write() as session:
        begun = checkpoints.begin(session, lease, saved("last", 4, b"v" * 100))
        files.write_chunk(session, lease, begun.files["weights"].file_id, 0, b"v")
    with lab.database.write() as session:
        assert purging.purge(session) == 0
    lab.finish(lease, end)
    with lab.database.read() as session:
        assert purging.is_due(session)
    with lab.database.write() as session:
        assert [purging.purge(session) for _ in range(5)] == [1, 2, 1, 1, 0]
    assert lab.checkpoints(lease.job_id) == [("last", 2)]
    with lab.database.read() as session:
        assert not purging.is_due(session)


def test_a_deleted_experiment_with_an_unfinished_checkpoint_leaves_nothing(lab: Any, lease: Lease, saved: Any) -> None:
    with lab.database.write() as session:
        checkpoints.begin(session, lease, saved("last", 4))
    row = lab.finish(lease, work.Failed("trainer_error", "Broke."))
    assert row.state is State.FAILED
    with lab.database.write() as session:
        experiments.delete(session, lease.job_id, By(None))
        while purging.purge(session):
            pass
    assert all(lease.job_id not in repr(rows) for rows in lab.everything().values())


def test_files_that_are_dropped_while_a_step_goes_on_wait_for_their_checkpoint(lab: Any, lease: Lease) -> None:
    lab.checkpoint(lease, "last", 2)

    def purge() -> None:
        with lab.database.write() as session:
            while purging.purge(session):
                pass

    # As a step sees it that has looked for checkpoints before a worker gave one up with its files, and for these after.
    with lab.database.write() as session:
        session.execute(update(File).values(dropped_at=1.0), execution_options=QUIETLY)
    purge()
    with lab.database.write() as session:
        assert len(session.scalars(select(File.id)).all()) == 2
        session.execute(update(Checkpoint).values(dropped_at=1.0), execution_options=QUIETLY)
    purge()
    with lab.database.read() as session:
        assert session.scalars(select(File.id)).all() == []
