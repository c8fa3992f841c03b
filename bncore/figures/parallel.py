"""All points of a sweep as lines through its axes to what they came to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bncore.figures import theme
from bncore.figures.document import Figure, Row, View, figure, number, plot_width
from bncore.figures.results import FigureRefused, Options
from bncore.figures.swept import MARKS, Swept, SweptPoint, are_numbers, is_log, key_of, require_drawable, said_of, short

_MOST_LINES = 500
_MOST_AXES = 8
_TICKS = 4
_HEIGHT = 210
_ARM = "arm"


def parallel_coordinates(swept: Swept, options: Options) -> Figure:
    """A line a point through its values of the axes to the mean over seeds; the best are drawn last.

    Raises `FigureRefused`.
    """
    require_drawable(swept)
    places = [*swept.varied[:_MOST_AXES], *([_ARM] if len(swept.arms) > 1 else [])]
    if not places:
        raise FigureRefused(
            "too_few_axes", "No axis has several values, and there is one arm; nothing tells points apart"
        )
    points, left = _chosen(swept)
    scales = {place: _Scale([_value(point, place) for point in swept.points]) for place in places}
    means = [point.mean for point in points if point.mean is not None]
    scales[swept.measure] = _Scale(means)
    lines = [row for point in points for row in _line(point, places, scales, swept.measure)]
    ticks = [{"axis": place, "at": at, "text": text} for place, scale in scales.items() for at, text in scale.ticks]
    words = [swept.said(list(swept.varied)), left]
    words.append(said_of((one.fate for one in points if one.fate), dict.fromkeys(MARKS, "grey:")))
    view = {
        "width": plot_width(options),
        "height": _HEIGHT,
        "layer": _layers(lines, ticks, [*places, swept.measure], options),
    }
    return figure(view, f"{swept.measure} by point", "; ".join(one for one in words if one), options)


class _Scale:
    """From the values of one axis to places between 0 and 1."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._is_number = are_numbers(values)
        if self._is_number:
            self._log = is_log(values)
            self._low, self._high = self._on(min(values)), self._on(max(values))
            ends = np.linspace(self._low, self._high, _TICKS) if self._low < self._high else [self._low]
            self.ticks = [(self._share(float(at)), short(float(10**at if self._log else at))) for at in ends]
        else:
            self._labels = list(dict.fromkeys(map(key_of, values)))
            self.ticks = [(self(value), value) for value in self._labels]

    def __call__(self, value: Any) -> float:
        if self._is_number:
            return self._share(self._on(value))
        return self._labels.index(key_of(value)) / max(1, len(self._labels) - 1)

    def _on(self, value: float) -> float:
        return float(np.log10(value)) if self._log else float(value)

    def _share(self, at: float) -> float:
        span = self._high - self._low
        return 0.5 if span <= 0 else (at - self._low) / span


def _chosen(swept: Swept) -> tuple[list[SweptPoint], str]:
    """The worst first, and before them what has no mean; of too many the best."""
    sign = 1.0 if swept.larger_is_better else -1.0
    lost = [point for point in swept.points if point.mean is None and point.fate]
    there = sorted(
        (point for point in swept.points if point.mean is not None), key=lambda one: sign * (one.mean or 0.0)
    )
    found = [*lost, *there]
    left = f"the best {_MOST_LINES} of {len(found)} points" if len(found) > _MOST_LINES else ""
    return found[-_MOST_LINES:], left


def _value(point: SweptPoint, place: str) -> Any:
    return point.arm if place == _ARM else point.values[place]


def _line(point: SweptPoint, places: Sequence[str], scales: dict[str, _Scale], measure: str) -> list[Row]:
    about: Row = {"point": point.point, "value": None if point.mean is None else number(point.mean)}
    rows = [{**about, "axis": place, "at": number(scales[place](_value(point, place)))} for place in places]
    if point.mean is not None:
        rows.append({**about, "axis": measure, "at": number(scales[measure](point.mean))})
    return rows


def _layers(lines: list[Row], ticks: list[Row], order: list[str], options: Options) -> list[View]:
    x = {"field": "axis", "type": "ordinal", "sort": order, "scale": {"padding": 0.3}}
    x["axis"] = {
        "title": None,
        "labelAngle": -20 if len(order) > 3 else 0,
        "grid": True,
        "ticks": False,
        "domain": False,
    }
    y = {"field": "at", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": None}
    legend = {"title": None, "orient": "bottom", "gradientLength": 150, "gradientThickness": 9, "format": ".3~g"}
    scale = {"scheme": theme.ramp(options), "zero": False}
    color = {
        "condition": {
            "test": "datum.value !== null", "field": "value", "type": "quantitative", "scale": scale, "legend": legend,
        },
        "value": "#999999",
    }  # fmt: skip
    line = {"type": "line", "strokeWidth": 1.2, "strokeOpacity": 0.75}
    text = {"type": "text", "align": "right", "dx": -3, "fontSize": 8}
    # A border of the background, on which the letters stand out from the lines.
    border = {**text, "stroke": theme.background_of(options), "strokeWidth": 3}
    letters = {**text, "color": theme.text_of(options)}
    drawn = {"x": x, "y": y, "color": color, "detail": {"field": "point"}}
    said = {"x": x, "y": y, "text": {"field": "text", "type": "nominal"}}
    return [
        {"data": {"values": lines}, "mark": line, "encoding": drawn},
        {"data": {"values": ticks}, "mark": border, "encoding": said},
        {"data": {"values": ticks}, "mark": letters, "encoding": said},
    ]
