"""How smooth the loss is along the gradient, over training: bands as in 1805.11604, figure 4.

At each step the loss and its gradient are measured at several distances along the gradient; a band goes from the least
to the greatest of them.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from bncore.figures.chosen import Chosen, Shown, chosen_all
from bncore.figures.document import (
    Figure,
    Row,
    View,
    below,
    figure,
    number,
    plot_width,
    quantity,
    step_axis,
    titled,
    told_apart,
)
from bncore.figures.results import FigureRefused, Options, Results

KIND = "loss_landscape"
_HEIGHT = 105


@dataclass(frozen=True)
class _Band:
    array: str
    title: str


_BANDS = (
    _Band("loss", "loss"),
    _Band("gradient_change", "gradient change"),
    _Band("smoothness", "smoothness"),
)


def landscape(results: Results, options: Options) -> Figure:
    """Loss, change of the gradient, and that by distance, along the gradient (1805.11604, figure 4)."""
    return _landscape(results, KIND, "Loss landscape over training", options)


def gradient_predictiveness(results: Results, options: Options) -> Figure:
    """How much the gradient changes along itself (1805.11604, figure 4b)."""
    return _landscape(results, "gradient_predictiveness", "Gradient predictiveness over training", options)


def effective_smoothness(results: Results, options: Options) -> Figure:
    """The change of the gradient by distance, along the gradient (1805.11604, figure 4c)."""
    return _landscape(results, "effective_smoothness", "Effective smoothness over training", options)


def _landscape(results: Results, kind: str, title: str, options: Options) -> Figure:
    found = chosen_all(results, kind, options)
    panels = [panel for panel in _BANDS if any(_has(one, panel) for one in found.shown)]
    if not panels:
        raise FigureRefused("nothing_to_draw", f"The recordings of {kind} hold no numbers by distance")
    lines = told_apart("arm", found.arms, found.said, options)
    views = [_view(panel, found, lines, options) for panel in panels]
    subtitle = f"{found.subtitle}: " if found.subtitle else ""
    words = f"{subtitle}from the least to the greatest along the gradient at each step."
    return figure(below(views), title, words, options)


def _has(one: Shown, panel: _Band) -> bool:
    return one.recording.axes.get(panel.array) == ("distance",)


def _view(panel: _Band, found: Chosen, lines: dict[str, Any], options: Options) -> View:
    rows = _rows(found, panel)
    units = next((one.recording.units for one in found.shown if _has(one, panel)), {})
    values = [row[name] for row in rows for name in ("low", "high")]
    y = quantity("low", titled(panel.title, units, panel.array), values, log=True)
    ends = {"y": y, "y2": {"field": "high"}}
    encoding = {"x": step_axis(), "detail": [{"field": "run"}, {"field": "part"}], **lines}
    edges = [
        {"mark": {"type": "line", "strokeWidth": 1}, "encoding": {"y": {**y, "field": name}}}
        for name in ("low", "high")
    ]
    area = {"mark": {"type": "area", "fillOpacity": 0.3}, "encoding": ends}
    lengths = Counter((row["run"], row["part"]) for row in rows)
    alone = [row for row in rows if lengths[row["run"], row["part"]] == 1]
    rule = {
        "data": {"values": alone},
        "mark": {"type": "rule", "strokeWidth": 2, "strokeDash": [1, 0]},
        "encoding": ends,
    }
    size = {"width": plot_width(options), "height": _HEIGHT}
    layer = [area, *edges, *([rule] if alone else [])]
    return {**size, "data": {"values": rows}, "encoding": encoding, "layer": layer}


def _rows(found: Chosen, panel: _Band) -> list[Row]:
    """In parts of each run without a gap; one that is a single step has no line and no area."""
    rows, parts = [], Counter[str]()
    for one in found.shown:
        measured = _row(one, panel) if _has(one, panel) else []
        rows += [{**row, "part": parts[one.experiment]} for row in measured]
        parts[one.experiment] += not measured
    return rows


def _row(one: Shown, panel: _Band) -> list[Row]:
    values = np.asarray(one.recording.arrays[panel.array], dtype=np.float64)
    positive = values[np.isfinite(values) & (values > 0)]
    # One value that is not finite, and nobody knows how far the band goes: it is a gap.
    if not len(positive) or not np.isfinite(values).all():
        return []
    about = {"arm": one.arm, "run": one.experiment, "step": one.recording.step}
    return [about | {"low": number(float(positive.min())), "high": number(float(positive.max()))}]
