"""What diagnostics recorded: of a disturbed run as of an undisturbed one, gone with the experiment, found by step."""

from typing import Any

import numpy as np
import pytest

from bncore.events import NormsChecked
from bncore.recording import FILE_KIND, Recording, from_bytes
from store import experiments, files, owners, recordings, work
from store.errors import DiagnosticNotFound
from store.jobs import eventlog
from store.jobs.leases import Lease
from store.jobs.wishes import By


def record(lab: Any, lease: Lease, *steps: int, kind: str = "weight_norms", value: float = 1.0) -> None:
    for step in steps:
        one = Recording(kind, step, {"norm": np.array([value])}, {"norm": ("unit",)})
        lab.file(lease, one.file_name, one.to_bytes(), FILE_KIND, step)


def stored(lab: Any, experiment_id: str) -> dict[tuple[str, int], float]:
    with lab.database.read() as session:
        rows = recordings.listed(session, experiment_id)
    found = [from_bytes(recordings.content(lab.database, row.id)) for row in rows]
    assert len(found) == len({(one.kind, one.step) for one in found})
    return {(one.kind, one.step): float(one.arrays["norm"][0]) for one in found}


def test_an_attempt_that_goes_on_leaves_what_an_undisturbed_one_would(lab: Any) -> None:
    lease = lab.running(max_restarts=3)
    record(lab, lease, 0, 10, 20)
    record(lab, lease, 20, kind="step_probe")
    lab.checkpoint(lease, "last", 20)
    record(lab, lease, 30, 40, value=7.0)
    other = lab.file(lease, "of no diagnostic", b"kept", "report")
    lab.release(lease)
    again = lab.claim().lease
    kept = {("weight_norms", 0): 1.0, ("weight_norms", 10): 1.0, ("weight_norms", 20): 1.0, ("step_probe", 20): 1.0}
    assert stored(lab, lease.job_id) == kept
    record(lab, again, 30, value=2.0)
    # What comes twice, because an answer was lost, is there once.
    record(lab, again, 30, value=2.0)
    assert stored(lab, lease.job_id) == {**kept, ("weight_norms", 30): 2.0}
    with lab.database.read() as session:
        assert files.get(session, other).name == "of no diagnostic"


def test_where_training_begins_again_nothing_stays(lab: Any) -> None:
    lease = lab.running(max_restarts=3)
    record(lab, lease, 0, 5)
    lab.release(lease)
    lab.claim()
    assert stored(lab, lease.job_id) == {}


def test_a_step_or_the_newest_is_found_and_else_what_is_near(lab: Any) -> None:
    lease = lab.running()
    record(lab, lease, *range(0, 100, 10))
    record(lab, lease, 200, kind="weight_norms_of")
    with lab.database.read() as session:
        assert recordings.find(session, lease.job_id, "weight_norms").step == 90
        assert recordings.find(session, lease.job_id, "weight_norms", 30).step == 30
        with pytest.raises(DiagnosticNotFound) as missing:
            recordings.find(session, lease.job_id, "weight_norms", 42)
        assert missing.value.steps == [20, 30, 40, 50, 60]
        with pytest.raises(DiagnosticNotFound, match="under `diagnostics` of a spec"):
            recordings.find(session, lease.job_id, "step_probe")


def test_their_bytes_count_and_are_gone_with_the_experiment(lab: Any) -> None:
    with lab.database.write() as session:
        owner = owners.create(session, "team")
    lease = lab.running(owner=owner)
    record(lab, lease, 0)
    with lab.database.read() as session:
        (row,) = recordings.listed(session, lease.job_id)
        assert owners.find(session, owner).stored_bytes == row.size
    lab.finish(lease, work.Succeeded("budget", {}))
    with lab.database.write() as session:
        experiments.delete(session, lease.job_id, By(None))
    assert stored(lab, lease.job_id) == {}


def test_what_is_wrong_with_normalizations_is_a_line_in_words(lab: Any) -> None:
    lease = lab.running()
    said = ("norm1: use a larger momentum.", "norm2: dead.")
    for event, now in ((NormsChecked(step=3, warnings=said), said), (NormsChecked(step=5), ())):
        lab.append(lease, event)
        with lab.database.read() as session:
            assert recordings.norm_warnings(session, lease.job_id) == now
    with lab.database.read() as session:
        lines = [line.message for line in eventlog.page(session, lease.job_id) if line.kind == "norm_health"]
    assert lines == [" ".join(said), "Nothing is wrong with the normalizations any more."]
