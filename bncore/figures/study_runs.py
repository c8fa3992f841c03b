"""What the runs of a study were: when its arms reached a target, what each setting came to, how they learned.

Drawn from what is stored of a study. Invariant: a run that did not reach its target stays in the curve until its
budget ends, and one that diverged counts as what it is scored as.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bncore import moments
from bncore.figures.curves import curves
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
from bncore.figures.results import FigureRefused, Options, Result

_HEIGHT = 130
_LOG_FROM = 20.0
"""A range of times from which on an axis is logarithmic."""
_STAGES = ("tune", "widen")


def reaching(verdicts: Sequence[Mapping[str, Any]], options: Options) -> Figure:
    """The share of the seeds of each arm that had reached the target by a step, by Kaplan and Meier (1958).

    A mark is where runs ended without it. A panel for each question. Raises `FigureRefused`.
    """
    timed = [verdict for verdict in verdicts if (verdict.get("effects") or {}).get("reaching")]
    if not timed:
        raise FigureRefused("nothing_to_draw", "No question is about times")
    arms = list(dict.fromkeys(arm for verdict in timed for arm in verdict["effects"]["reaching"]))
    panels = [_survival(verdict, arms, options) for verdict in timed]
    said = "Share of seeds at the target, by Kaplan and Meier; a stroke is where runs ended without it."
    return figure(below(panels), "When the target was reached", said, options)


def tuning(design: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], options: Options) -> Figure:
    """What each arm came to at each setting that was tried, on validation data: a point a run, a line their means.

    Over the first axis of the grid; of several, at the best of the others. Raises `FigureRefused`.
    """
    axes = [axis for axis in design["grid"]["axes"] if len(axis["values"]) > 1]
    tried = [run for run in runs if run["stage"] in _STAGES and axes and axes[0]["path"] in run["setting"]]
    if not tried or design.get("tuned_by") is None:
        raise FigureRefused("nothing_to_draw", "Nothing was tuned")
    axis, metric = axes[0], design["tuned_by"]
    rows = [row for row in (_tried(run, axis["path"], metric) for run in tried) if row is not None]
    means = list(_means(rows, metric["higher_is_better"]))
    if not means:
        raise FigureRefused("nothing_to_draw", "No setting that was tried has a result")
    kept = {(row["arm"], row["at"], row["setting"]) for row in means}
    points = [row for row in rows if (row["arm"], row["at"], row["setting"]) in kept]
    arms = [arm["name"] for arm in design["arms"] if any(row["arm"] == arm["name"] for row in means)]
    y = quantity("value", metric["key"], [row["value"] for row in points])
    encoding = {"x": _setting_axis(axis, means), "y": y, **told_apart("arm", arms, "", options)}
    thin = {"mark": {"type": "point", "size": 12, "opacity": 0.5, "filled": True}}
    best = [row for row in means if row["is_best"]]
    ring = {"type": "point", "filled": False, "size": 110, "strokeWidth": 1.6, "opacity": 1}
    plain = {"strokeDash": {"value": [1, 0]}}
    layers: list[View] = [
        {"data": {"values": means}, "mark": {"type": "line"}},
        {"data": {"values": points}, **thin, "encoding": plain},
        {"data": {"values": best}, "mark": ring, "encoding": plain},
    ]
    said = "A point a run, a line their means, a ring the best setting of an arm."
    said += f" At the best of {', '.join(other['path'] for other in axes[1:])}." if len(axes) > 1 else ""
    view = {"width": plot_width(options), "height": PANEL_HEIGHT, "encoding": encoding, "layer": layers}
    return figure(view, "What each setting came to", said, options)


def learning(series: Sequence[Mapping[str, Any]], key: str, options: Options) -> Figure:
    """A series over training, the mean over the seeds of each arm with its 95 % interval.

    Args:
        series: of each run `arm`, `seed`, `steps` and `values`; None is no number.

    Raises `FigureRefused`.
    """
    results = {
        str(place): Result(
            {"arm": one["arm"], "train": {"seed": one["seed"]}},
            {key: (np.asarray(one["steps"], dtype=np.int64), np.asarray(one["values"], dtype=np.float64))},
        )
        for place, one in enumerate(series)
    }
    if not results:
        raise FigureRefused("nothing_to_draw", "No series was kept")
    return curves(results, options)


def _survival(verdict: Mapping[str, Any], arms: Sequence[str], options: Options) -> View:
    found = verdict["effects"]["reaching"]
    rows = [row for arm, of in found.items() for row in _curve(arm, of["times"], of["reached"])]
    ends = [row for arm, of in found.items() for row in _ends(arm, of["times"], of["reached"])]
    times = [float(row["step"]) for row in rows if row["step"]]
    is_log = bool(times) and max(times) / min(times) > _LOG_FROM
    x = quantity("step", "step", times, log=True) if is_log else step_axis()
    if is_log:
        rows = [{**row, "step": row["step"] or x["scale"]["domain"][0]} for row in rows]
    y = {"field": "share", "type": "quantitative", "scale": {"domain": [0, 1]}}
    y["axis"] = {"title": "share of seeds", "format": "%", "tickCount": 5}
    encoding = {"x": x, "y": y, **told_apart("arm", list(arms), "", options)}
    stroke = {"type": "tick", "orient": "vertical", "thickness": 1.6, "size": 11}
    title = {"text": verdict["name"], "fontSize": 10, "anchor": "start", "fontWeight": "normal", "offset": 4}
    layers: list[View] = [
        {"data": {"values": rows}, "mark": {"type": "line", "interpolate": "step-after"}},
        {"data": {"values": ends}, "mark": stroke, "encoding": {"strokeDash": {"value": [1, 0]}}},
    ]
    about = {"title": title} if verdict["name"] else {}
    return {**about, "width": plot_width(options), "height": _HEIGHT, "encoding": encoding, "layer": layers}


def _curve(arm: str, times: Sequence[float], reached: Sequence[bool]) -> Iterator[Row]:
    """One minus the product of (at risk - reached) / at risk, from 0 to the last time."""
    left, share = len(times), 1.0
    yield {"arm": arm, "step": 0.0, "share": 0.0}
    for time in sorted(set(times)):
        there = sum(done for at, done in zip(times, reached, strict=True) if at == time)
        share *= (left - there) / left
        left -= sum(at == time for at in times)
        yield {"arm": arm, "step": float(time), "share": number(1.0 - share)}


def _ends(arm: str, times: Sequence[float], reached: Sequence[bool]) -> Iterator[Row]:
    """Where runs ended without it."""
    curve = {row["step"]: row["share"] for row in _curve(arm, times, reached)}
    censored = {float(time) for time, done in zip(times, reached, strict=True) if not done}
    yield from ({"arm": arm, "step": time, "share": curve[time]} for time in sorted(censored))


def _tried(run: Mapping[str, Any], path: str, metric: Mapping[str, Any]) -> Row | None:
    value = metric["when_diverged"] if run["diverged"] else run["metrics"].get(metric["key"])
    if value is None and metric["key"] in run["metrics"]:
        value = metric["when_never"]
    # JSON has no NaN and no infinity: they come as words.
    if value is None or not math.isfinite(float(value)):
        return None
    others = {name: at for name, at in sorted(run["setting"].items()) if name != path}
    return {"arm": run["arm"], "at": run["setting"][path], "setting": str(others), "value": number(float(value))}


def _means(rows: Sequence[Row], higher_is_better: bool) -> Iterator[Row]:
    """Of each arm and value, at the best of the other settings."""
    sign = 1 if higher_is_better else -1
    groups: dict[tuple[str, Any], dict[str, list[float]]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["at"]), {}).setdefault(row["setting"], []).append(row["value"])
    found = []
    for (arm, at), settings in groups.items():
        of_settings = {setting: moments.mean(values) for setting, values in settings.items()}
        chosen = max(of_settings, key=lambda setting: sign * of_settings[setting])
        found.append({"arm": arm, "at": at, "setting": chosen, "value": number(of_settings[chosen])})
    values = list(dict.fromkeys(sorted((row["at"] for row in found), key=lambda at: (isinstance(at, str), at))))
    middle = (len(values) - 1) / 2
    for row in found:
        mine = [other for other in found if other["arm"] == row["arm"]]
        # Of equal ones the one nearest the middle, then the first: as `studies.tuning` has it.
        best = min(mine, key=lambda other: (-sign * other["value"], abs(values.index(other["at"]) - middle)))
        yield {**row, "is_best": best is row}


def _setting_axis(axis: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    values = [row["at"] for row in rows]
    if axis["scale"] == "choice":
        named = {"title": axis["path"], "labelAngle": 0, "grid": False}
        return {"field": "at", "type": "ordinal", "sort": list(axis["values"]), "axis": named}
    return quantity("at", axis["path"], values, log=axis["scale"] == "log" and min(values) > 0)
