"""What a claim forgets so that the next attempt leaves no gap and no duplicate."""

import math
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert

from store import checkpoints, results
from store.jobs.leases import Lease
from store.results.segments import segment_values
from store.tables import MetricSegment, MetricSeries


@pytest.fixture
def lease(lab: Any) -> Lease:
    return lab.running(max_restarts=3)


def test_without_a_checkpoint_everything_begins_again(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(0, test__loss=[9]), block(1, a=[1, 2, 3]))
    lab.checkpoint(lease, "best", 2)
    lab.release(lease)
    claim = lab.claim()
    assert (claim.restore, claim.restore_step) == (None, 0)
    assert lab.get(lease.job_id).step == 0
    assert lab.checkpoints(lease.job_id) == []
    assert lab.everything()["metric_segments"] == lab.everything()["metric_series"] == []


def test_a_claim_goes_back_to_the_newest_whole_last_checkpoint(lab: Any, lease: Lease, block: Any, saved: Any) -> None:
    lab.append(lease, block(1, a=[1, 2]), saved("last", 2))
    lab.checkpoint(lease, "last", 2)
    lab.append(lease, block(3, a=[3, 4]), block(4, test=[9]), saved("last", 4))
    restorable = lab.checkpoint(lease, "last", 4)
    lab.append(lease, block(5, a=[5, 6], late=[1, 2]), saved("last", 6))
    lab.checkpoint(lease, "best", 5)
    with lab.database.write() as session:
        checkpoints.begin(session, lease, saved("last", 6))
    lab.release(lease)
    claim = lab.claim()
    assert (claim.restore, claim.restore_step) == (restorable, 4)
    assert lab.get(lease.job_id).step == 4
    assert lab.points(lease.job_id, "a") == ([1, 2, 3, 4], [1, 2, 3, 4])
    assert lab.points(lease.job_id, "test") == ([4], [9])
    assert lab.checkpoints(lease.job_id) == [("last", 4)]
    with lab.database.read() as session:
        assert results.last_values(session, lease.job_id) == {"a": 4, "test": 9}


def test_the_next_attempt_continues_the_series_without_gap_or_duplicate(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[1, math.nan]))
    lab.checkpoint(lease, "last", 2)
    lab.append(lease, block(3, a=[3, 4, 50]))
    lab.release(lease)
    again = lab.claim().lease
    lab.append(again, block(3, a=[3, 4, 5, 6]))
    steps, values = lab.points(lease.job_id, "a")
    assert steps == [1, 2, 3, 4, 5, 6]
    assert values[2:] == [3, 4, 5, 6]
    with lab.database.read() as session:
        found = results.summaries(session, lease.job_id)[0]
    assert (found.count, found.minimum, found.maximum, found.nonfinite, found.last) == (6, 1, 6, 1, 6)


def test_a_segment_that_spans_the_checkpoint_after_all_is_cut(lab: Any, lease: Lease) -> None:
    lab.checkpoint(lease, "last", 3)
    packed = segment_values(np.array([1, 2, 3, 5, 8]), np.array([1.0, 2, 3, 5, 8]))
    with lab.database.write() as session:
        session.execute(insert(MetricSegment).values(experiment_id=lease.job_id, key="a", attempt=1, **packed))
        session.execute(
            insert(MetricSeries).values(
                experiment_id=lease.job_id,
                key="a",
                **{name: packed[name] for name in packed if name not in ("steps", "points")},
            )
        )
    lab.release(lease)
    lab.claim()
    assert lab.points(lease.job_id, "a") == ([1, 2, 3], [1, 2, 3])
    with lab.database.read() as session:
        assert results.last_values(session, lease.job_id) == {"a": 3}


def test_only_the_claimed_experiment_is_rewound(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[1, 2]))
    other = lab.running()
    lab.append(other, block(1, a=[7]))
    lab.release(other)
    lab.claim()
    assert lab.points(lease.job_id, "a") == ([1, 2], [1, 2])
    assert lab.points(other.job_id, "a") == ([], [])
