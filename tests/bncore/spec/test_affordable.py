"""What norm_health may take of a run: bounded, by the steps that are done and nothing else, and told in numbers."""

import itertools

import pytest

from bncore.spec import load_spec
from bncore.spec.diagnostics import NormHealthSpec
from bncore.spec.diagnostics.affordable import LEAST_PRECISE, LEAST_TESTED, affordable, least_steps

RUNS = [*itertools.product((1, 2, 16, 60, 1024), (50, 1200, 60_000), (10, 300, 597, 10_000))]
"""Examples in a batch, to train on, to test on."""


def passes(tested: int, precise: int, tests: int) -> int:
    """Of one example each: all are known with running statistics, a part is evaluated with each of three kinds."""
    return precise + tested * (2 if tested == tests else 3)


@pytest.mark.parametrize(("batch", "train", "tests"), RUNS)
def test_it_never_takes_more_than_a_sixteenth_of_the_examples_and_not_less_than_it_may(
    batch: int, train: int, tests: int
) -> None:
    before = 0
    for step in (*range(1, 400), 1000, 5000, 100_000, 3_000_000):
        budget = step * max(batch, 16) // 16
        precise = min(max(step * batch // 96, 256), 10_000, train)
        found = affordable(step, batch, train, tests)
        if found is None:
            assert before == 0
            assert min(passes(tests, precise, tests), passes(LEAST_TESTED, precise, 0)) > budget
            continue
        assert found.precise == precise >= min(LEAST_PRECISE, train)
        assert passes(*found, tests) <= budget
        # One more would be too many, or all are there.
        assert found.tested == tests or passes(found.tested + 1, precise, 0) > budget
        assert before <= found.tested
        before = found.tested
    assert before == tests


@pytest.mark.parametrize(("batch", "train", "tests"), RUNS[::3])
def test_the_first_step_that_is_named_is_the_first_there_is(batch: int, train: int, tests: int) -> None:
    found = next(step for step in itertools.count(1) if affordable(step, batch, train, tests) is not None)
    assert least_steps(batch, train, tests) == found


@pytest.mark.parametrize(
    ("asked", "full"),
    [
        ({}, False),
        ({"examples": 100}, False),
        ({"full": True}, True),
        ({"at": [3]}, True),
        ({"every_steps": 3}, True),
        ({"every_steps": 3, "full": False}, False),
    ],
)
def test_who_asks_for_it_gets_all_of_it(asked: dict[str, object], full: bool) -> None:
    spec = load_spec({"diagnostics": [{"kind": "norm_health", **asked}], "train": {"steps": 10}})
    (one,) = spec.diagnostics
    assert isinstance(one, NormHealthSpec)
    assert one.is_full is full
