"""Studies whose runs are made up, so that the truth is known, batch by batch until the report."""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from bncore.studies.claim import Batch, Design
from bncore.studies.claims import CLAIMS
from bncore.studies.looks import Looks, level
from bncore.studies.reports import Report, answer
from bncore.studies.results import Place, Results, Run
from bncore.studies.verdict import Verdict

DIVERGED = "diverged"
MISSING = "missing"
Truth = Callable[[Place, int], Mapping[str, float | None] | str]
"""The metrics of a run of a place with a seed, or that it diverged, or is missing."""


def reported(name: str, truth: Truth, seeds: int | None = None) -> tuple[Design, Report, list[Run]]:
    """The design of scale `cpu`, what comes out of it, and the runs it asked for."""
    claim = CLAIMS[name]
    design = claim.design("cpu", seeds)
    runs: list[Run] = []
    done: tuple[str, ...] = ()
    while isinstance(step := answer(claim, design, Results(tuple(runs), done)), Batch):
        assert step == answer(claim, design, Results(tuple(reversed(runs)), done)), "asked twice it says the same"
        for place in step.places:
            for seed in step.seeds:
                made = truth(place, seed)
                if made != MISSING:
                    metrics = {} if isinstance(made, str) else made
                    runs.append(Run(place.arm, seed, metrics, place.setting, made == DIVERGED, step.stage))
        done = (*done, step.stage)
    return design, step, runs


def outcomes(report: Report) -> dict[str, str]:
    """By question, with the label."""
    return {each.name: each.outcome + (f" {each.label}" if each.label else "") for each in report.verdicts}


def about(mean: float, place: Place, seed: int, key: str = "", sd: float = 0.004) -> float:
    """A number of a run: the mean, and normal noise that this run and this number always have."""
    words = zlib.crc32(f"{place} {key}".encode())
    return mean + sd * float(np.random.default_rng((seed, words)).standard_normal())


def same_effect(verdict: Verdict, design: Design, values: Sequence[float]) -> None:
    """The effect of a verdict is the mean of these values, and its interval is Student's."""
    found = verdict.estimated
    assert found is not None
    assert found.effect == pytest.approx(np.mean(values), abs=1e-12)
    low, high = DescrStatsW(values).tconfint_mean(level(Looks(design.most, (len(values),))))
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=1e-12)
