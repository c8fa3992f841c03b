"""Intervals cover what they say they do, over a few hundred simulated studies; `bench/coverage.py` has thousands."""

import math

import numpy as np
import pytest

from bench.coverage import KINDS, rates

STUDIES = 400
"""With no effect, and as many with one at the margin: three standard errors of 95 % of 800 are 2.3 points."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_interval_covers_and_holds_comes_out_by_chance_no_oftener_than_it_may(kind) -> None:
    found = rates(kind, "normal", 10, STUDIES, np.random.default_rng(11))
    assert found.covers == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / (2 * STUDIES)))
    most = 0.025 + 3 * math.sqrt(0.025 * 0.975 / STUDIES)
    assert found.holds_at_margin <= most
    assert found.not_at_margin <= most
    assert kind.margin.kind == "equality" or found.holds_without <= most
