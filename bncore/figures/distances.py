"""Numbers over a length or a factor on logarithmic axes: the loss after one step, what scaling weights does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bncore.figures.chosen import Chosen, Shown, chosen
from bncore.figures.document import (
    PANEL_HEIGHT,
    Figure,
    Row,
    View,
    below,
    dashed,
    figure,
    in_order,
    number,
    plot_width,
    quantity,
    told_apart,
)
from bncore.figures.results import FigureRefused, Options, Results

_HEIGHT = 105


def step_probe(results: Results, options: Options) -> Figure:
    """The loss after one step along the gradient, by its length (1806.02375, figure 3). Raises `FigureRefused`."""
    found = chosen(results, "step_probe", options)
    rows = [
        row
        for one in found.shown
        if "eta" in one.recording.arrays and one.recording.axes.get("loss") == ("distance",)
        for row in _rows(one, one.recording.arrays["eta"], one.recording.arrays["loss"])
    ]
    if not rows:
        raise FigureRefused("nothing_to_draw", "The recordings of step_probe hold no loss by step size")
    lines = _lines(found, options)
    size = {"width": plot_width(options), "height": PANEL_HEIGHT}
    view = {**size, **_view(rows, "step size", "loss after the step", lines)}
    return figure(view, "Loss after one step along the gradient", found.subtitle, options, rows)


def scale_invariance(results: Results, options: Options) -> Figure:
    """How far outputs and gradients are from what scale invariance says, by factor (1502.03167, section 3.3).

    The greatest over layers. Raises `FigureRefused`.
    """
    found = chosen(results, "scale_invariance", options)
    last = [one for one in found.shown if one.step == found.steps[-1]] or found.shown[-1:]
    # Not in the order of the file, which has none.
    names = sorted({name for one in last for name in _errors(one)}, reverse=True)
    if not names:
        raise FigureRefused("nothing_to_draw", "The recordings of scale_invariance hold no errors by factor")
    lines = told_apart("arm", found.arms, found.said, options)
    panels = []
    for name in names:
        rows = [row for one in last if name in _errors(one) for row in _rows(one, _factors(one), _errors(one)[name])]
        view = _view(rows, "factor of the weights", name.replace("_", " "), lines)
        panels.append({"width": plot_width(options), "height": _HEIGHT, "data": {"values": rows}, **view})
    return figure(below(panels), "Scale invariance: the greatest error", found.subtitle, options)


def _lines(found: Chosen, options: Options) -> dict[str, Any]:
    if found.is_one:
        return in_order("step", found.steps, "", options)
    ends = list(dict.fromkeys([found.steps[0], found.steps[-1]]))
    return told_apart("arm", found.arms, found.said, options) | dashed("step", ends, "", options)


def _view(rows: Sequence[Row], x: str, y: str, lines: Mapping[str, Any]) -> View:
    encoding = {
        "x": quantity("x", x, [row["x"] for row in rows], log=True),
        "y": quantity("value", y, [row["value"] for row in rows], log=_is_wide(rows)),
        "detail": [{"field": "run"}, {"field": "step"}, {"field": "part"}],
        **lines,
    }
    line = {"mark": {"type": "line", "clip": True}}
    point = {"mark": {"type": "point", "clip": True}, "encoding": {"strokeDash": {"value": [1, 0]}}}
    return {"encoding": encoding, "layer": [line, point]}


def _is_wide(rows: Sequence[Row]) -> bool:
    values = [row["value"] for row in rows]
    return bool(values) and min(values) > 0


def _rows(one: Shown, x: npt.ArrayLike, y: npt.ArrayLike) -> Iterator[Row]:
    lengths, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    order = np.argsort(lengths, kind="stable")
    part = 0
    for length, value in zip(lengths[order].tolist(), values[order].tolist(), strict=True):
        if not np.isfinite(value):
            part += 1
        elif length > 0:
            about = {"arm": one.arm, "run": one.experiment, "step": one.step, "part": part}
            yield about | {"x": number(length), "value": number(value)}


def _factors(one: Shown) -> npt.NDArray[Any]:
    """The coordinates of the axis: an array named like it, or like many of it."""
    arrays = one.recording.arrays
    return next(arrays[name] for name in ("factor", "factors") if name in arrays)


def _errors(one: Shown) -> dict[str, npt.NDArray[np.float64]]:
    recording = one.recording
    if not {"factor", "factors"} & set(recording.arrays):
        return {}
    found = {}
    for name, axes in recording.axes.items():
        values = np.asarray(recording.arrays[name], dtype=np.float64)
        if tuple(axes) == ("factor", "site") and values.size:
            found[name] = values.max(axis=1)
        elif tuple(axes) == ("factor",) and name not in ("factor", "factors"):
            found[name] = values
    return found
