"""Parts that Vega-Lite documents share: axes, legends, panels below each other, and the document around them.

Invariant: a document holds its data and refers to nothing; every number in it is finite, and the others are left out as
gaps that are seen.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from bncore.figures import theme
from bncore.figures.results import Options

View = dict[str, Any]
Row = dict[str, Any]
# JupyterLab shows this version by itself.
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"
MIME = "application/vnd.vegalite.v5+json"
PANEL_HEIGHT = 170
_BESIDE_PLOT = 66
"""Pixels that an axis takes with its labels and title."""
_MOST_TICKS = 6
_MOST_LAYERS = 8
_SHORTER = {"running standard deviations": "running sd"}
_POWER = "abs(log(datum.value) / LN10) > 3.5 ? replace(format(datum.value, '.0e'), '+', '') : format(datum.value, '~g')"
_THOUSANDS = (
    "datum.value < 1000 ? datum.label : "
    "datum.value < 1e6 ? format(datum.value / 1000, '~g') + 'k' : format(datum.value / 1e6, '~g') + 'M'"
)


class Figure(dict[str, Any]):
    """A Vega-Lite document, with its data in it; a notebook shows it as a picture."""

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {MIME: dict(self), "text/plain": f"<figure: {self.get('description', '')}>"}


def figure(view: View, title: str, subtitle: str, options: Options, rows: Sequence[Row] | None = None) -> Figure:
    """A view as a whole document; `rows` are its data, unless its parts have their own."""
    said: dict[str, Any] = {"text": theme.wrapped(title, options, 6.4)}
    if subtitle:
        said["subtitle"] = theme.wrapped(subtitle, options, 4.6)
    data = {} if rows is None else {"data": {"values": list(rows)}}
    description = f"{title}. {subtitle}" if subtitle else title
    about = {"$schema": SCHEMA, "description": description, "title": said, "config": theme.config(options)}
    return Figure({**about, **data, **view})


def plot_width(options: Options, columns: int = 1, axes: int = 1) -> int:
    """Of the plot itself, where so many share the width and so many of them have an axis."""
    return max(60, (options.width - _BESIDE_PLOT * axes - 14 * (columns - 1)) // columns)


def below(panels: Sequence[View], columns: int = 1, *, over: Literal["each", "one"] = "each") -> View:
    """Panels below each other that share what their lines mean; the last ones alone say what their x is.

    `over` one x, or each over as much of it as it has.
    """
    for panel in panels[:-columns]:
        _without_title(panel)
    if len(panels) == 1:
        return panels[0]
    shared = {"color": "shared", "strokeDash": "shared"}
    scale = shared | ({"x": "shared"} if over == "one" else {})
    return {"concat": list(panels), "columns": columns, "resolve": {"scale": scale, "legend": shared}}


def quantity(name: str, title: str | list[str], values: Iterable[float | None], *, log: bool = False) -> dict[str, Any]:
    """The encoding of a number on an axis; `values` are those that are drawn."""
    if not log:
        plain = {"title": title, "tickCount": 5}
        return {"field": name, "type": "quantitative", "scale": {"zero": False}, "axis": plain}
    domain, ticks = _decades([value for value in values if value])
    scale = {"type": "log", "domain": domain, "nice": False}
    axis: dict[str, Any] = {"title": title, "values": ticks, "labelExpr": _POWER}
    return {"field": name, "type": "quantitative", "scale": scale, "axis": axis}


def step_axis(name: str = "step", title: str = "step") -> dict[str, Any]:
    """The encoding of optimizer steps."""
    axis = {"title": title, "tickCount": 5, "labelExpr": _THOUSANDS, "grid": False}
    return {"field": name, "type": "quantitative", "scale": {"zero": False, "nice": False}, "axis": axis}


def depth_axis(rows: Iterable[Row]) -> dict[str, Any]:
    """The encoding of how deep a layer lies: whole numbers."""
    axis = {"title": "layer", "values": _whole_ticks([int(row["depth"]) for row in rows]), "format": "d", "grid": False}
    return {"field": "depth", "type": "quantitative", "scale": {"zero": False, "nice": False}, "axis": axis}


def _whole_ticks(depths: Sequence[int]) -> list[int]:
    """Vega's own ticks lie at halves where layers are few, and whole numbers are written there."""
    least, deepest = min(depths, default=0), max(depths, default=0)
    strides = (factor * 10**power for power in itertools.count() for factor in (1, 2, 5))
    stride = next(stride for stride in strides if deepest // stride - (least - 1) // stride <= _MOST_LAYERS)
    return list(range(-(-least // stride) * stride, deepest + 1, stride))


def told_apart(field: str, labels: Sequence[str], title: str, options: Options) -> dict[str, Any]:
    """Colours, and dashes beyond those, of things without an order. One thing alone needs no legend."""
    if len(labels) < 2:
        return {"color": {"value": theme.colour_of(options)}}
    colours, dashes = theme.lines(list(labels), options)
    legend = legend_of(labels, title, options)
    shared = {"field": field, "type": "nominal", "sort": None}
    found: dict[str, Any] = {"color": {**shared, "scale": {"domain": list(labels), "range": colours}, "legend": legend}}
    if any(dash != dashes[0] for dash in dashes):
        found["strokeDash"] = {**shared, "scale": {"domain": list(labels), "range": dashes}, "legend": legend}
    return found


def in_order(field: str, labels: Sequence[str], title: str, options: Options) -> dict[str, Any]:
    """Colours of a ramp for things in an order, such as steps."""
    if len(labels) < 2:
        return {"color": {"value": theme.colour_of(options)}}
    scale = {"domain": list(labels), "scheme": theme.ramp(options)}
    legend = legend_of(labels, title, options)
    return {"color": {"field": field, "type": "ordinal", "sort": None, "scale": scale, "legend": legend}}


def dashed(field: str, labels: Sequence[str], title: str, options: Options) -> dict[str, Any]:
    """Dashes beside colours that mean something else."""
    if len(labels) < 2:
        return {}
    dashes = [theme.DASHES[at % len(theme.DASHES)] for at in range(len(labels))]
    scale = {"domain": list(labels), "range": dashes}
    legend = {**legend_of(labels, title, options), "symbolStrokeColor": "#888888"}
    return {"strokeDash": {"field": field, "type": "nominal", "sort": None, "scale": scale, "legend": legend}}


def legend_of(labels: Sequence[str], title: str, options: Options) -> dict[str, Any]:
    """A legend in as many columns as its longest label leaves room for, its title wrapped."""
    longest = max((len(label) for label in labels), default=0)
    columns = max(1, min(len(labels), int((options.width - 10) / (longest * theme.CHARACTER + 34))))
    # A band's symbol would be as pale as the band.
    symbol = {"symbolType": "stroke", "symbolOpacity": 1}
    return {"title": theme.wrapped(title, options) if title else None, "columns": columns, **symbol}


def number(value: float) -> float | None:
    """For a document: JSON has no word for what is not finite."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def titled(title: str, units: Mapping[str, str], name: str) -> list[str]:
    """The title of an axis, and below it the unit, unless it is a bare number."""
    unit = units.get(name, "1")
    return [title] if unit in ("", "1", title) else [title, f"({_SHORTER.get(unit, unit)})"]


def _decades(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Ends of a logarithmic axis and its ticks: powers of ten, or 1, 2 and 5 times those where they are few."""
    least, most = (min(values), max(values)) if values else (1.0, 10.0)
    if least == most:
        least, most = least / 2, most * 2
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    if last - first > 2:
        every = -(-(last - first) // _MOST_TICKS)
        powers = [float(f"1e{power}") for power in range(first, last + 1, every)]
        return [powers[0], float(f"1e{last}")], powers
    round_numbers = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in (1, 2, 5)]
    begin = max((tick for tick in round_numbers if tick <= least), default=least)
    end = min((tick for tick in round_numbers if tick >= most), default=most)
    ticks = [tick for tick in round_numbers if begin <= tick <= end]
    return [begin, end], ticks


def _without_title(panel: View) -> None:
    for view in (panel, *panel.get("layer", ())):
        x = view.get("encoding", {}).get("x")
        if isinstance(x, dict) and x.get("axis"):
            x["axis"] = {**x["axis"], "title": None}
