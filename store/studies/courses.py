"""How the runs that judge a study went: for the learning curves of its report.

Invariant: read from stored results alone, thinned as everything that is read to be drawn; no number of a verdict comes
from here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from store import results

_MOST_RUNS = 120
_POINTS = 120
_LEARNING = ("test/", "validation/", "train/")
_CONFIRMED = ("confirm", "extend")


def courses(session: Session, design: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each run that judges, up to 120, the series that the study is about first: where that is one over training."""
    keys = [str(measure["series"]) for measure in design["measures"] if "series" in measure]
    key = next((key for key in keys if key.startswith(_LEARNING)), None)
    judging = [run for run in runs if run["stage"].startswith(_CONFIRMED) and run["missing"] is None]
    if key is None or len(judging) > _MOST_RUNS:
        return []
    found = []
    for run in judging:
        points = results.series(session, run["experiment"], [key], max_points=_POINTS).get(key)
        if points is not None and len(points.steps) > 1:
            about = {name: run[name] for name in ("arm", "setting", "seed")}
            found.append({"key": key, **about, "steps": points.steps.tolist(), "values": _said(points.values.tolist())})
    return found


def _said(values: Sequence[float]) -> list[float | None]:
    """JSON has no NaN and no infinity."""
    return [value if abs(value) < float("inf") else None for value in values]
