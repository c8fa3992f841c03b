"""Metrics in and out again, progress, and the log lines of a trainer."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from bncore.events import FirstStep, MetricsBlock, Note, PhaseChanged, Started, TargetReached
from store import results
from store.jobs import eventlog
from store.jobs.leases import Lease
from store.results.sampling import sample
from store.tables import MetricSegment

STARTED = Started(step=0, total_steps=500, device="cpu", device_model="Model A", torch_version="2.13.0", threads=1)


@pytest.fixture
def lease(lab: Any) -> Lease:
    return lab.running()


def segments(lab: Any, key: str) -> list[tuple[int, int, int]]:
    with lab.database.read() as session:
        columns = (MetricSegment.first_step, MetricSegment.last_step, MetricSegment.count)
        rows = session.execute(select(*columns).where(MetricSegment.key == key).order_by(MetricSegment.first_step))
        return [tuple(row) for row in rows]


def summary(lab: Any, lease: Lease, key: str) -> Any:
    with lab.database.read() as session:
        return next(row for row in results.summaries(session, lease.job_id) if row.key == key)


def test_points_come_back_bit_for_bit(lab: Any, lease: Lease, block: Any) -> None:
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.nan, math.inf, -math.inf]
    lab.append(lease, block(1, train__loss=values))
    steps, stored = lab.points(lease.job_id, "train/loss")
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    assert np.array(stored).tobytes() == np.array(values).tobytes()


def test_blocks_of_one_call_become_one_segment_a_key(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[1, 2], b=[3, 4]), block(3, a=[5]), block(3, test=[9]), block(6, a=[6]))
    assert segments(lab, "a") == [(1, 6, 4)]
    assert lab.points(lease.job_id, "a") == ([1, 2, 3, 6], [1, 2, 5, 6])
    assert segments(lab, "test") == [(3, 3, 1)]


def test_a_segment_never_spans_a_checkpoint(lab: Any, lease: Lease, block: Any, saved: Any) -> None:
    lab.append(lease, block(1, a=[1, 2]), saved("last", 2), block(3, a=[3]), saved("best", 3), block(4, a=[4, 5]))
    assert segments(lab, "a") == [(1, 2, 2), (3, 3, 1), (4, 5, 2)]


def test_a_very_long_call_is_cut_into_segments_of_bounded_size(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=list(range(150_000))))
    assert [count for _, _, count in segments(lab, "a")] == [65_536, 65_536, 150_000 - 2 * 65_536]


@pytest.mark.parametrize("again", [[0, 1], [1], [1, 2], [0, 1, 2, 3]])
def test_events_that_come_again_in_any_batch_are_stored_once(
    lab: Any, lease: Lease, block: Any, again: list[int]
) -> None:
    note = Note(code="careful", message="Once.", at=5.0)
    events = [block(1, a=[1, 2]), block(3, a=[3, 4]), block(5, a=[5]), note]
    lab.append(lease, events[0], events[1])
    lab.append(lease, *[events[number] for number in again])
    lab.append(lease, *events)
    lab.append(lease, note)
    assert lab.points(lease.job_id, "a") == ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    assert (summary(lab, lease, "a").count, summary(lab, lease, "a").last) == (5, 5)
    with lab.database.read() as session:
        assert [line.kind for line in eventlog.page(session, lease.job_id)] == [
            "submitted",
            "claimed",
            "careful",
        ]


def test_a_summary_knows_a_series_without_its_points(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[math.nan, 2]))
    lab.append(lease, block(3, a=[-3, math.inf]), block(5, a=[1]))
    found = summary(lab, lease, "a")
    assert (found.count, found.first_step, found.last_step, found.nonfinite) == (5, 1, 5, 2)
    assert (found.minimum, found.maximum, found.last) == (-3, 2, 1)
    assert math.isnan(found.first)


def test_a_series_without_a_finite_point_has_no_extremes(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[math.nan]))
    lab.append(lease, block(2, a=[math.inf]))
    found = summary(lab, lease, "a")
    assert math.isnan(found.minimum)
    assert math.isnan(found.maximum)
    assert found.last == math.inf


def test_last_values_are_one_number_a_key(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, train__loss=[3, 2], lr=[0.1, 0.2]), block(2, test__loss=[math.nan]))
    with lab.database.read() as session:
        found = results.last_values(session, lease.job_id)
    assert list(found) == ["lr", "test/loss", "train/loss"]
    assert (found["lr"], found["train/loss"]) == (0.2, 2)
    assert math.isnan(found["test/loss"])


def test_a_range_includes_both_ends(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, block(1, a=[1, 2, 3]))
    lab.append(lease, block(4, a=[4, 5, 6]))
    lab.append(lease, block(7, a=[7, 8, 9]))
    with lab.database.read() as session:
        found = results.series(session, lease.job_id, ["a", "unknown"], first_step=3, last_step=7)
        assert {key: (one.steps.tolist(), one.count) for key, one in found.items()} == {"a": ([3, 4, 5, 6, 7], 5)}
        assert results.series(session, lease.job_id, ["a"], first_step=10)["a"].count == 0


def test_of_a_million_points_a_thousand_are_read_and_no_spike_is_lost(lab: Any, lease: Lease) -> None:
    values = np.sin(np.arange(1_000_000) / 1e4)
    values[123_456], values[777_777], values[500_000] = 50.0, -50.0, np.nan
    for start in range(0, 1_000_000, 100_000):
        part = values[start : start + 100_000].tolist()
        lab.append(lease, MetricsBlock(first_step=start + 1, count=len(part), values={"a": part}))
    with lab.database.read() as session:
        found = results.series(session, lease.job_id, ["a"], max_points=1000)["a"]
    assert found.count == 1_000_000
    assert len(found.steps) <= 1000
    by_step = dict(zip(found.steps.tolist(), found.values.tolist(), strict=True))
    assert (by_step[123_457], by_step[777_778]) == (50.0, -50.0)
    assert math.isnan(by_step[500_001])
    assert {1, 1_000_000} <= by_step.keys()


def test_thinning_while_reading_is_thinning_of_all_that_was_read(lab: Any, lease: Lease) -> None:
    dice = np.random.default_rng(0)
    values = np.round(dice.standard_normal(3000), 1)
    values[dice.integers(0, 3000, 9)] = np.nan
    start = 0
    while start < len(values):
        part = values[start : start + int(dice.integers(1, 150))].tolist()
        lab.append(lease, MetricsBlock(first_step=start + 1, count=len(part), values={"a": part}))
        start += len(part)
    with lab.database.read() as session:
        for _ in range(40):
            first, last = sorted(map(int, dice.integers(-5, 3010, 2)))
            inside = {"first_step": first, "last_step": last}
            most = int(dice.integers(10, 200))
            everything = results.series(session, lease.job_id, ["a"], **inside)["a"]
            found = results.series(session, lease.job_id, ["a"], **inside, max_points=most)["a"]
            steps, expected = sample(everything.steps, everything.values, most)
            assert (found.steps.tolist(), found.values.tobytes()) == (steps.tolist(), expected.tobytes())
            assert found.count == everything.count


def test_ten_points_of_a_long_series_read_a_few_of_its_segments(lab: Any, lease: Lease) -> None:
    for start in range(0, 200_000, 1000):
        part = [float(start)] * 1000
        lab.append(lease, MetricsBlock(first_step=start + 1, count=1000, values={"a": part}))
    tracemalloc.start()
    with lab.database.read() as session:
        found = results.series(session, lease.job_id, ["a"], max_points=10)["a"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.count, len(found.steps) <= 10) == (200_000, True)
    # All points would be 3.2 MB.
    assert peak < 800_000


def test_events_move_phase_step_and_progress(lab: Any, lease: Lease, block: Any) -> None:
    lab.append(lease, PhaseChanged(phase="loading_data"))
    assert lab.get(lease.job_id).phase == "loading_data"
    lab.append(lease, STARTED, block(1, a=[1, 2, 3]))
    row = lab.get(lease.job_id)
    assert (row.phase, row.step, row.total_steps) == ("training", 3, 500)
    begun = row.started_at
    lab.append(lease, block(4, a=[4]), PhaseChanged(phase="evaluating"), STARTED.model_copy(update={"at": 9.0}))
    row = lab.get(lease.job_id)
    assert (row.step, row.started_at) == (4, begun)


def test_a_call_without_news_changes_no_version(lab: Any, lease: Lease) -> None:
    seen = lab.get(lease.job_id).version
    lab.append(lease)
    assert lab.get(lease.job_id).version == seen


def test_what_matters_becomes_a_line_of_the_log(lab: Any, lease: Lease, block: Any) -> None:
    events = [STARTED, FirstStep(step=1), block(1, a=[1]), TargetReached(step=1, test_accuracy=0.9)]
    lab.append(lease, *events)
    lab.append(lease, Note(code="odd", message="a\x00b"))
    with lab.database.read() as session:
        lines = eventlog.page(session, lease.job_id, after=2)
        assert [line.number for line in eventlog.page(session, lease.job_id)] == [1, 2, 3, 4, 5, 6]
    assert [line.kind for line in lines] == ["started", "first_step", "target_reached", "odd"]
    assert lines[2].data == {"step": 1, "test_accuracy": 0.9, "metric": "test/accuracy", "value": None}
    assert lines[3].message == "a\N{REPLACEMENT CHARACTER}b"


def test_keys_and_counts_of_many_are_known_without_a_point(lab: Any, block: Any) -> None:
    one, two = lab.running(), lab.running()
    lab.append(one, block(1, a=[1, 2], b=[3, 4]))
    lab.append(two, block(1, a=[1, 2, 3], c=[1, 1, 1]))
    with lab.database.read() as session:
        both = [one.job_id, two.job_id, "exp_of_nobody"]
        assert results.keys_of(session, both) == ["a", "b", "c"]
        assert results.keys_of(session, [one.job_id]) == ["a", "b"]
        assert results.points_of(session, both) == {"a": 5, "b": 2, "c": 3}
        assert results.points_of(session, both, ["a", "d"]) == {"a": 5}
        assert results.points_of(session, []) == {}
