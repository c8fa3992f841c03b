"""A measure over one axis of a sweep, by arm, with its 95 % interval over seeds."""

import math
from collections import Counter
from typing import Any

from bncore.figures import theme
from bncore.figures.document import PANEL_HEIGHT, Figure, Row, View, figure, number, plot_width, quantity, told_apart
from bncore.figures.results import FigureRefused, Options
from bncore.figures.swept import (
    LOST,
    PRUNED,
    Swept,
    are_numbers,
    cells,
    is_log,
    key_of,
    require_axis,
    require_drawable,
    said_of,
)

_BAR = {"type": "rule", "strokeWidth": 1.4, "strokeDash": [1, 0]}
_BESIDE = 9
"""Pixels between marks of points of several arms that have no mean."""


def sensitivity(swept: Swept, options: Options, x: str | None = None) -> Figure:
    """The measure over one axis, by arm, with the 95 % interval of the mean over seeds.

    Of several points with one value the best is shown. Raises `FigureRefused`.
    """
    require_drawable(swept)
    axis = require_axis(swept, x)
    if len(swept.arms) > theme.most_lines(options):
        raise FigureRefused("too_many_arms", f"At most {theme.most_lines(options)} arms can be told apart")
    values = swept.along(axis)
    is_number = are_numbers(values)
    drawn, lost = _rows(swept, axis, is_number)
    said = [swept.said([axis]), said_of(row["fate"] for row in lost)]
    size = {"width": plot_width(options), "height": PANEL_HEIGHT}
    encoding = {
        "x": _x(axis, values) if is_number else _ordinal(axis, list(map(key_of, values))),
        "y": quantity("value", swept.measure, ()),
        **told_apart("arm", list(swept.arms), "", options),
    }
    view = {**size, "encoding": encoding, "layer": _layers(drawn, lost)}
    return figure(view, f"{swept.measure} over {axis}", "; ".join(one for one in said if one), options)


def _rows(swept: Swept, axis: str, is_number: bool) -> tuple[list[Row], list[Row]]:
    drawn: list[Row] = []
    lost: list[Row] = []
    values = {key_of(value): value for value in swept.along(axis)}
    found = {at: (best, gone) for at, best, gone in cells(swept, lambda one: (one.arm, key_of(one.values[axis])))}
    means = [best.mean for best, _ in found.values() if best is not None and best.mean is not None]
    worst = min(means) if swept.larger_is_better else max(means)
    for arm in swept.arms or (None,):
        for text, value in values.items():
            best, gone = found.get((arm, text), (None, None))
            row: Row = {"arm": arm or "", "x": number(value) if is_number else text}
            if best is not None and best.mean is not None:
                reach = best.reach
                row |= {"value": number(best.mean), "n": len(best.numbers)}
                if math.isfinite(reach):
                    row |= {"lower": number(best.mean - reach), "upper": number(best.mean + reach)}
                drawn.append(row)
            elif gone:
                lost.append({**row, "value": number(worst), "fate": gone})
    return drawn, lost


def _x(axis: str, values: list[Any]) -> dict[str, Any]:
    return quantity("x", axis, [float(value) for value in values], log=is_log(values))


def _ordinal(axis: str, labels: list[str]) -> dict[str, Any]:
    return {"field": "x", "type": "ordinal", "sort": labels, "axis": {"title": axis, "labelAngle": 0, "grid": False}}


def _layers(drawn: list[Row], lost: list[Row]) -> list[View]:
    ends = {"y": {"field": "lower", "type": "quantitative"}, "y2": {"field": "upper"}}
    with_interval = [row for row in drawn if "lower" in row]
    of_arm = Counter(row["arm"] for row in with_interval)
    intervals: list[tuple[View, list[Row]]] = [
        ({"type": "area", "fillOpacity": 0.22}, [row for row in with_interval if of_arm[row["arm"]] > 1]),
        # A band over a single point has no width.
        ({**_BAR}, [row for row in with_interval if of_arm[row["arm"]] == 1]),
    ]
    layers: list[View] = [
        {"data": {"values": rows}, "mark": mark, "encoding": ends} for mark, rows in intervals if rows
    ]
    layers.append({"data": {"values": drawn}, "mark": {"type": "line"}})
    layers.append({"data": {"values": drawn}, "mark": {"type": "point", "filled": True, "size": 28}})
    marks = {
        LOST: {"type": "point", "shape": "cross", "size": 90, "angle": 45, "filled": True, "opacity": 1},
        PRUNED: {"type": "point", "shape": "triangle-down", "size": 60, "filled": True, "opacity": 1},
    }
    arms = list(dict.fromkeys(row["arm"] for row in lost))
    for fate, mark in marks.items():
        for place, arm in enumerate(arms):
            rows = [row for row in lost if (row["fate"], row["arm"]) == (fate, arm)]
            # Beside each other: they are at the same height, and would hide each other.
            beside = {"xOffset": _BESIDE * (place - (len(arms) - 1) / 2)} if len(arms) > 1 else {}
            layers += [{"data": {"values": rows}, "mark": {**mark, **beside}}] if rows else []
    return layers
