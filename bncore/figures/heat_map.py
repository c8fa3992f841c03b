"""The gradient of the loss by the outputs: a row an image, a column a class (1806.02375, figure 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bncore.figures.chosen import Chosen, Shown, chosen, few
from bncore.figures.document import Figure, Row, figure, number, plot_width
from bncore.figures.results import FigureRefused, Options, Results

_MOST_PANELS = 6
_MOST_STEPS = 4
_MOST_ROWS, _MOST_COLUMNS = 128, 40
_HEIGHT = {1: 190, 2: 130}
"""By columns; nearly, as every cell has whole pixels."""


def gradient_heatmap(results: Results, options: Options) -> Figure:
    """The gradient of the loss by the outputs, a row an image and a column a class (1806.02375, figure 4).

    A panel an arm or, of one arm, a step. Raises `FigureRefused`.
    """
    found = chosen(results, "gradient_heatmap", options)
    shown = _panels(found)
    if not shown:
        raise FigureRefused("nothing_to_draw", "The recordings hold no gradient by image and class")
    names = [_name(one, found) for one in shown]
    tables = [np.asarray(one.recording.arrays["gradient"], dtype=np.float64) for one in shown]
    rows = [row for name, table in zip(names, tables, strict=True) for row in _rows(name, table)]
    columns = 1 if len(shown) == 1 else 2
    width = plot_width(options, columns) // max(len({row["class"] for row in rows}), 1)
    height = _HEIGHT[1 if len(shown) <= 2 else 2] // max(len({row["image"] for row in rows}), 1)
    size = {"width": {"step": max(1, width)}, "height": {"step": max(1, height)}}
    spec = {**size, "mark": "rect", "encoding": _encoding(tables)}
    view: dict[str, Any] = {"spec": spec, "columns": columns}
    view["facet"] = {"field": "panel", "type": "nominal", "sort": names, "header": {"title": None}}
    if len(shown) == 1:
        view = spec
    return figure(view, "Gradient by image and class", _said(found, tables), options, rows)


def _panels(found: Chosen) -> list[Shown]:
    drawable = [one for one in found.shown if one.recording.axes.get("gradient") == ("image", "class")]
    if found.is_one:
        runs = {one.experiment for one in drawable[:1]}
        return few([one for one in drawable if one.experiment in runs], _MOST_STEPS)
    # Of each arm its first run, at its first step: at initialization, as in the paper.
    firsts: dict[str, Shown] = {}
    for one in drawable:
        firsts.setdefault(one.arm, one)
    return list(firsts.values())[:_MOST_PANELS]


def _name(one: Shown, found: Chosen) -> str:
    return one.step if found.is_one else f"{one.arm}, {one.step}"


def _said(found: Chosen, tables: Sequence[npt.NDArray[np.float64]]) -> str:
    words = [found.arms[0] if found.is_one else f"by {found.said}"]
    words += found.left_out(1 if found.is_one else len({one.arm for one in found.shown}), _MOST_PANELS)
    rows, columns = max(len(table) for table in tables), max(table.shape[1] for table in tables)
    if rows > _MOST_ROWS:
        words.append(f"{_MOST_ROWS} of {rows} images")
    if columns > _MOST_COLUMNS:
        words.append(f"the {_MOST_COLUMNS} of {columns} classes with the largest sums")
    return ", ".join(word for word in words if word)


def _rows(name: str, table: npt.NDArray[np.float64]) -> list[Row]:
    images = np.unique(np.linspace(0, len(table) - 1, min(len(table), _MOST_ROWS)).astype(int))
    heaviest = np.argsort(-np.nansum(np.abs(table), axis=0), kind="stable")[:_MOST_COLUMNS]
    return [
        {"panel": name, "image": int(image), "class": int(label), "value": number(float(table[image, label]))}
        for image in images
        for label in sorted(heaviest)
    ]


def _encoding(tables: Sequence[npt.NDArray[np.float64]]) -> dict[str, Any]:
    finite = [np.abs(table[np.isfinite(table)]) for table in tables]
    # A few extreme values would leave all else pale.
    limit = max((float(np.quantile(values, 0.995)) for values in finite if len(values)), default=1.0) or 1.0
    limit = float(f"{limit:.3g}")
    legend = {"title": "dL / d output", "orient": "bottom", "gradientLength": 150, "gradientThickness": 9}
    legend |= {"values": [-limit, 0, limit], "format": ".2~g"}
    color = {"scheme": "blueorange", "domain": [-limit, 0, limit], "clamp": True}
    bare = {"grid": False, "ticks": False, "domain": False}
    return {
        "x": {"field": "class", "type": "ordinal", "axis": {"title": "class", "labelAngle": 0, **bare}},
        "y": {"field": "image", "type": "ordinal", "axis": {"title": "image", "labels": False, **bare}},
        "color": {"field": "value", "type": "quantitative", "scale": color, "legend": legend},
    }
