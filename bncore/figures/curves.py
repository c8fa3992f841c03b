"""Learning curves: series over steps, of one run or of many, with the mean over seeds and its 95 % interval.

Invariant: what a line says is a point of one run, or a mean over all seeds of an arm; a gap is where there is none.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bncore.figures import theme
from bncore.figures.arms import Arm, Arms, arms_of_results
from bncore.figures.bands import Trace, band, bucketed
from bncore.figures.document import (
    PANEL_HEIGHT,
    Figure,
    Row,
    View,
    below,
    figure,
    number,
    plot_width,
    quantity,
    step_axis,
    told_apart,
)
from bncore.figures.results import FigureRefused, Options, Results

MOST_SERIES = 6
_POINTS = 400
"""Of a mean: as many as a page has room for."""
_MOST_POINTS = 40_000
"""Of all lines together, unless that were too few for each."""
_FEWEST_POINTS = 60
_MOST_POINTS_OF_ONE = 4000
_FIRST_CHOICE = ("train/loss", "test/accuracy", "validation/accuracy", "test/loss", "validation/loss", "train/accuracy")
_CHOSEN = 2
_STRETCH = [{"field": "stretch"}]
"""Of a mean, that no line goes across a gap."""


def curves(results: Results, options: Options) -> Figure:
    """Series over steps, a panel each, with the mean over the seeds of each arm.

    Raises `FigureRefused`.
    """
    keys = _keys(results, options)
    arms = arms_of_results(results)
    if len(arms.arms) > theme.most_lines(options):
        detail = f"{len(arms.arms)} kinds of experiments are more than can be told apart, {theme.most_lines(options)}"
        raise FigureRefused("too_many_arms", detail)
    panels, notes = [], []
    for key in keys:
        drawn = _drawn(key, results, arms, _points(arms, len(keys), options), options)
        panels.append(_panel(key, drawn, arms, options))
        notes += [] if drawn.width == 1 else [f"{key} as means of {drawn.width} steps each."]
    title = keys[0] if len(keys) == 1 else "Learning curves"
    return figure(below(panels, over="one"), title, " ".join([_said(arms), *notes, options.note]).strip(), options)


def chosen_keys(keys: Sequence[str]) -> list[str]:
    """The series that are shown where nobody says which."""
    known = [key for key in _FIRST_CHOICE if key in keys][:_CHOSEN]
    return known or sorted(keys)[:_CHOSEN]


@dataclass(frozen=True)
class _Drawn:
    """The rows of one panel."""

    means: list[Row]
    """Of arms with several seeds."""
    traces: list[Row]
    """Of single runs."""
    ends: list[Row]
    """Where a run stops being finite."""
    width: int
    """Steps that became one point."""


def _keys(results: Results, options: Options) -> list[str]:
    there = list(dict.fromkeys(key for result in results.values() for key in result.series))
    wanted = list(dict.fromkeys(options.keys)) or chosen_keys(there)
    if missing := [key for key in wanted if key not in there]:
        raise FigureRefused("no_such_series", f"There is no series {', '.join(missing)}")
    if not wanted:
        raise FigureRefused("nothing_to_draw", "There is no series yet")
    if len(wanted) > MOST_SERIES:
        raise FigureRefused("too_many_series", f"A figure has at most {MOST_SERIES} series")
    return wanted


def _said(arms: Arms) -> str:
    sizes = {len(arm.experiments) for arm in arms.arms}
    if sizes == {1}:
        return arms.arms[0].label if len(arms.arms) == 1 else ""
    alone = f"{arms.arms[0].label}: " if len(arms.arms) == 1 else ""
    count = f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"
    return f"{alone}Mean and 95 % interval (t) over {count} seeds, where all have a value."


def _points(arms: Arms, panels: int, options: Options) -> int:
    """How many points a line may have."""
    seeds = [len(arm.experiments) for arm in arms.arms]
    lines = panels * (len(seeds) + (sum(seeds) if options.traces else 0))
    most = _POINTS if max(seeds) > 1 else _MOST_POINTS_OF_ONE
    return min(most, max(_FEWEST_POINTS, _MOST_POINTS // lines))


def _drawn(key: str, results: Results, arms: Arms, points: int, options: Options) -> _Drawn:
    there = {
        experiment: results[experiment].series[key]
        for arm in arms.arms
        for experiment in arm.experiments
        if key in results[experiment].series and len(results[experiment].series[key][0])
    }
    if not there:
        return _Drawn([], [], [], 1)
    first = min(int(steps[0]) for steps, _ in there.values())
    last = max(int(steps[-1]) for steps, _ in there.values())
    longest = max(len(steps) for steps, _ in there.values())
    width = -(-(last - first + 1) // points) if longest > points else 1
    traces = {experiment: bucketed(series, first, width) for experiment, series in there.items()}
    drawn = _Drawn([], [], [], width)
    for arm in arms.arms:
        _add(drawn, arm, {one: traces[one] for one in arm.experiments if one in traces}, options)
    if options.log_y:
        _cut_below(drawn)
    return drawn


def _add(drawn: _Drawn, arm: Arm, traces: dict[str, Trace], options: Options) -> None:
    # A mean over the seeds that have the series would pass for one over all.
    is_mean = len(arm.experiments) > 1 and len(traces) == len(arm.experiments)
    if is_mean:
        found = band(list(traces.values()))
        lost = np.unique(np.concatenate([steps[~np.isfinite(values)] for steps, values in traces.values()]))
        columns = (found.steps, found.mean, found.lower, found.upper, np.searchsorted(lost, found.steps))
        drawn.means.extend(
            {"arm": arm.label, "step": step, "value": number(mean), "lower": number(low), "upper": number(high)}
            | {"stretch": stretch}
            for step, mean, low, high, stretch in zip(*map(np.ndarray.tolist, columns), strict=True)
            if mean > 0 or not options.log_y
        )
    for experiment, trace in traces.items():
        rows, ends = _rows(trace, options)
        if not is_mean or options.traces:
            drawn.traces.extend({"arm": arm.label, "run": experiment, "mean": is_mean, **row} for row in rows)
        drawn.ends.extend({"arm": arm.label, "run": experiment, **row} for row in ends)


def _cut_below(drawn: _Drawn) -> None:
    """On a logarithmic axis an interval that reaches 0 ends at the least that is drawn."""
    least = min((row["value"] for row in (*drawn.means, *drawn.traces)), default=0.0)
    for row in drawn.means:
        row["lower"] = max(row["lower"], least)


def _rows(trace: Trace, options: Options) -> tuple[list[Row], list[Row]]:
    """The points that can be drawn, in parts without a gap; and those with a gap of what is not finite behind them."""
    steps, values = trace
    good = np.isfinite(values) & ((values > 0) | (not options.log_y))
    part = np.cumsum(np.concatenate([[False], ~good[:-1]]))
    rows = [
        {"step": step, "value": number(value), "part": which}
        for step, value, which in zip(steps[good].tolist(), values[good].tolist(), part[good].tolist(), strict=True)
    ]
    lost = ~np.isfinite(values)
    before = np.flatnonzero(good[:-1] & lost[1:])
    return rows, [{"step": float(steps[at]), "value": number(float(values[at]))} for at in before]


def _panel(key: str, drawn: _Drawn, arms: Arms, options: Options) -> View:
    layers = list(_layers(drawn, options))
    encoding = {
        "x": step_axis(),
        "y": quantity("value", key, _values(drawn), log=options.log_y),
        **told_apart("arm", arms.labels, arms.said, options),
    }
    height = PANEL_HEIGHT if len(arms.arms) < 8 else PANEL_HEIGHT + 20
    return {"width": plot_width(options), "height": height, "encoding": encoding, "layer": layers}


def _values(drawn: _Drawn) -> Iterator[float]:
    """All that is drawn."""
    for row in (*drawn.means, *drawn.traces):
        yield from (row[name] for name in ("value", "lower", "upper") if row.get(name) is not None)


def _layers(drawn: _Drawn, options: Options) -> Iterator[View]:
    if drawn.means:
        ends = {"y": {"field": "lower", "type": "quantitative"}, "y2": {"field": "upper"}, "detail": _STRETCH}
        area = {"type": "area", "fillOpacity": 0.22}
        yield {"data": {"values": drawn.means}, "mark": area, "encoding": ends}
    if drawn.traces:
        faint = {"condition": {"test": "datum.mean", "value": 0.35}, "value": 1}
        thin = {"condition": {"test": "datum.mean", "value": 0.8}, "value": 1.5}
        detail = [{"field": "run"}, {"field": "part"}]
        encoding = {"detail": detail, "strokeOpacity": faint, "strokeWidth": thin}
        yield {"data": {"values": drawn.traces}, "mark": "line", "encoding": encoding}
    if drawn.means:
        yield {"data": {"values": drawn.means}, "mark": "line", "encoding": {"detail": _STRETCH}}
    crossed = {(row["run"], row["step"]) for row in drawn.ends}
    single = [row for row in _alone(drawn.traces, "run", "part") if (row["run"], row["step"]) not in crossed]
    if alone := [*_alone(drawn.means, "arm", "stretch"), *single]:
        yield {"data": {"values": alone}, "mark": {"type": "point", "filled": True, "size": 30}}
    if drawn.ends:
        cross = {"type": "point", "shape": "cross", "size": 90, "angle": 45, "filled": True, "opacity": 1}
        cross |= {"stroke": theme.background_of(options), "strokeWidth": 1}
        yield {"data": {"values": drawn.ends}, "mark": cross}
    if not drawn.means and not drawn.traces:
        yield {"data": {"values": []}, "mark": "line"}


def _alone(rows: list[Row], *by: str) -> Iterator[Row]:
    """The points that no line goes through: those of a run that diverged before its second evaluation, say."""
    lengths = Counter(tuple(row[name] for name in by) for row in rows)
    yield from (row for row in rows if lengths[tuple(row[name] for name in by)] == 1)
