"""Numbers over a length or a factor on logarithmic axes: the loss after one step, what scaling weights does."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bncore.figures import theme
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
_ERRORS = ("output_error", "gradient_error", "input_gradient_error", "orthogonality")
_EPS = {"as_trained": "eps as trained", "eps_scaled": "eps scaled", "eps_zero": "no eps"}


def step_probe(results: Results, options: Options) -> Figure:
    """The loss after one step along the gradient, by its length (1806.02375, figure 3).

    Raises `FigureRefused`.
    """
    found = chosen(results, "step_probe", options)
    found = found.for_dashes([] if found.is_one else found.arms, options)
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

    The greatest over layers, with the eps of training, with one scaled like the weights, and with none; of more than
    three arms, with that of training. Of the last step of each run. Raises `FigureRefused`.
    """
    found = chosen(results, "scale_invariance", options).last
    ways = list(_EPS.values()) if len(found.arms) <= len(theme.DASHES) else [_EPS["as_trained"]]
    rows = [row for one in found.shown for row in _error_rows(one) if row["eps"] in ways]
    if not rows:
        raise FigureRefused("nothing_to_draw", "The recordings of scale_invariance hold no errors by factor")
    said = [words for words in ways if any(row["eps"] == words for row in rows)]
    if len(found.arms) <= len(theme.DASHES):
        lines = told_apart("eps", said, "", options) | dashed("arm", found.arms, found.said, options)
    else:
        lines = told_apart("arm", found.arms, found.said, options)
    panels = []
    for name in [name for name in _ERRORS if any(row["error"] == name for row in rows)]:
        of_panel = [row for row in rows if row["error"] == name]
        view = _view(of_panel, "factor of the weights", name.replace("_", " "), lines)
        panels.append({"width": plot_width(options), "height": _HEIGHT, "data": {"values": of_panel}, **view})
    words = ", ".join(filter(None, [found.subtitle, said[0] if len(said) == 1 else ""]))
    return figure(below(panels), "Scale invariance: the greatest error", words, options)


def _lines(found: Chosen, options: Options) -> dict[str, Any]:
    if found.is_one:
        return in_order("step", found.steps, "", options)
    return told_apart("arm", found.arms, found.said, options) | dashed("moment", found.moments, "", options)


def _view(rows: Sequence[Row], x: str, y: str, lines: Mapping[str, Any]) -> View:
    encoding = {
        "x": quantity("x", x, [row["x"] for row in rows], log=True),
        "y": quantity("value", y, [row["value"] for row in rows], log=_is_positive(rows)),
        "detail": [{"field": name} for name in ("run", "step", "part")],
        **lines,
    }
    line = {"mark": "line"}
    point = {"mark": "point", "encoding": {"strokeDash": {"value": [1, 0]}}}
    return {"encoding": encoding, "layer": [line, point]}


def _is_positive(rows: Sequence[Row]) -> bool:
    return bool(rows) and min(row["value"] for row in rows) > 0


def _rows(one: Shown, x: npt.ArrayLike, y: npt.ArrayLike) -> Iterator[Row]:
    lengths, values = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    order = np.argsort(lengths, kind="stable")
    part = 0
    for length, value in zip(lengths[order].tolist(), values[order].tolist(), strict=True):
        if not np.isfinite(value):
            part += 1
        elif length > 0:
            about = {"arm": one.arm, "run": one.experiment, "step": one.step, "moment": one.moment, "part": part}
            yield about | {"x": number(length), "value": number(value)}


def _error_rows(one: Shown) -> Iterator[Row]:
    arrays = one.recording.arrays
    for name in _ERRORS:
        for eps, words in _EPS.items():
            values = arrays.get(f"{name}_{eps}")
            if values is not None and values.size and "factor" in arrays:
                greatest = np.asarray(values, dtype=np.float64).max(axis=1)
                yield from ({"error": name, "eps": words, **row} for row in _rows(one, arrays["factor"], greatest))
