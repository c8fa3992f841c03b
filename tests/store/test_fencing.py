"""A stale token changes no row in any table: not the state, nor metrics, series, checkpoints, chunks or the log."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from bncore.events import Note, PhaseChanged, Started, TargetReached
from store import checkpoints, files, results, work
from store.errors import CheckpointNotFound, FileNotFound, StaleLease
from store.files import Announced
from store.jobs import leases
from store.jobs.leases import Lease
from store.work import Cancelled, Failed, Paused, Released, Succeeded

Write = Callable[[Session, Lease, Any], object]

STARTED = Started(
    step=0, total_steps=2000, device="cpu", device_model="Model A", torch_version="2.13.0", threads=1, at=1.0
)
WRITES: dict[str, Write] = {
    "renewing": lambda session, lease, _: leases.renew(session, lease),
    "releasing": lambda session, lease, _: work.finish(session, lease, Released()),
    "restarting": lambda session, lease, _: work.finish(session, lease, Failed("trainer_killed", "Killed.")),
    "succeeding": lambda session, lease, _: work.finish(session, lease, Succeeded("budget", {"steps": 1})),
    "failing": lambda session, lease, _: work.finish(session, lease, Failed("trainer_error", "Broke.")),
    "cancelling": lambda session, lease, _: work.finish(session, lease, Cancelled()),
    "pausing": lambda session, lease, _: work.finish(session, lease, Paused()),
    "appending nothing": lambda session, lease, _: results.append(session, lease, []),
    "appending metrics": lambda session, lease, lab: results.append(
        session, lease, [lab.metrics(900, train__loss=[1, 2])]
    ),
    "appending phase and log": lambda session, lease, _: results.append(
        session,
        lease,
        [PhaseChanged(phase="saving"), STARTED, TargetReached(step=3, test_accuracy=0.9), Note(code="x", message="y")],
    ),
    "announcing a checkpoint": lambda session, lease, lab: checkpoints.begin(session, lease, lab.saved("last", 900)),
    "writing a chunk": lambda session, lease, lab: files.write_chunk(session, lease, lab.file, 0, b"other"),
    "completing a checkpoint": lambda session, lease, lab: checkpoints.complete(session, lease, lab.begun, {}),
    "announcing a file": lambda session, lease, _: files.begin(session, lease, Announced("a", "result", None, 1, "0")),
    "completing a file": lambda session, lease, lab: files.complete(session, lease, lab.file, ""),
    "starting a file over": lambda session, lease, lab: files.start_over(session, lease, lab.file),
    "giving a checkpoint up": lambda session, lease, lab: checkpoints.give_up(session, lease, lab.begun, "Damaged."),
    "going back": lambda session, lease, _: work.go_back(session, lease),
}


@pytest.fixture
def stale(lab: Any, block: Any, saved: Any) -> Lease:
    """The lease of an attempt that wrote to every table, was believed lost, and is followed by another attempt."""
    lease = lab.running(lease_seconds=60)
    lab.append(lease, STARTED, block(1, train__loss=[3, 2, 1]))
    lab.checkpoint(lease, "last", 3)
    with lab.database.write() as session:
        begun = checkpoints.begin(session, lease, saved("best", 5, b"12345", None))
        lab.begun, lab.file = begun.id, begun.files["weights"].file_id
        files.write_chunk(session, lease, lab.file, 0, b"12345")
    lab.metrics, lab.saved = block, saved
    lab.release(lease)
    return lease


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_stale_lease_changes_nothing_while_queued_while_running_and_after_the_end(
    lab: Any, stale: Lease, write: Write
) -> None:
    refused_without_a_trace(lab, stale, write)
    current = lab.claim().lease
    refused_without_a_trace(lab, stale, write)
    lab.finish(current, Succeeded("budget", {}))
    refused_without_a_trace(lab, stale, write)


def refused_without_a_trace(lab: Any, stale: Lease, write: Write) -> None:
    before = lab.everything()
    assert all(before[table] for table in ("jobs", "metric_segments", "metric_series", "content_chunks"))
    with lab.database.write() as session, pytest.raises(StaleLease):
        write(session, stale, lab)
    assert lab.everything() == before


def test_a_lease_opens_only_the_checkpoints_of_its_own_attempt(lab: Any, stale: Lease, saved: Any) -> None:
    current = lab.claim().lease
    before = lab.everything(but=["jobs"])
    with lab.database.write() as session, pytest.raises(FileNotFound):
        files.write_chunk(session, current, lab.file, 0, b"other")
    with lab.database.write() as session, pytest.raises(CheckpointNotFound):
        checkpoints.complete(session, current, lab.begun, {})
    assert lab.everything(but=["jobs"]) == before


def test_a_refused_write_leaves_nothing_of_its_transaction(lab: Any, stale: Lease, block: Any) -> None:
    other = lab.running()
    before = lab.everything()
    with pytest.raises(StaleLease):
        _write_both(lab, other, stale, block)
    assert lab.everything() == before


def _write_both(lab: Any, good: Lease, stale: Lease, block: Any) -> None:
    with lab.database.write() as session:
        results.append(session, good, [block(1, train__loss=[1])])
        results.append(session, stale, [block(1, train__loss=[1])])
