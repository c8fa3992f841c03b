"""A recording of which no figure knows the kind: what its axes say."""

import numpy as np

from bncore.figures.by_depth import Panel, by_depth
from bncore.figures.document import Figure, View, below, figure, number, plot_width, quantity, titled, told_apart
from bncore.figures.results import FigureRefused, Options, Result
from bncore.recording import Recording

_MOST_PANELS = 6
_HEIGHT = 105


def anything(recording: Recording, options: Options) -> Figure:
    """Numbers of sites by depth, else numbers over a distance, else scalars as points. Raises `FigureRefused`."""
    words = recording.kind.replace("_", " ").capitalize()
    if per_site := _along(recording, "site"):
        panels = [Panel(name, name.replace("_", " ")) for name in per_site]
        results = {"recording": Result({}, {}, {recording.kind: [recording]})}
        return by_depth(results, recording.kind, panels, words, options)
    if "eta" in recording.arrays and (over := [name for name in _along(recording, "distance") if name != "eta"]):
        views = [_over_distance(recording, name, options) for name in over]
        return figure(below(views), words, f"step {recording.step:,}", options)
    return _scalars(recording, words, options)


def _along(recording: Recording, axis: str) -> list[str]:
    """The arrays with this axis alone, by name: files have no order of them."""
    return sorted(name for name, axes in recording.axes.items() if tuple(axes) == (axis,))[:_MOST_PANELS]


def _over_distance(recording: Recording, name: str, options: Options) -> View:
    pairs = zip(recording.arrays["eta"].tolist(), recording.arrays[name].tolist(), strict=True)
    rows = [
        {"eta": number(eta), "value": number(value)} for eta, value in sorted(pairs) if np.isfinite(value) and eta > 0
    ]
    encoding = {
        "x": quantity("eta", titled("distance", recording.units, "eta"), [row["eta"] for row in rows], log=True),
        "y": quantity("value", titled(name.replace("_", " "), recording.units, name), ()),
        **told_apart("", [], "", options),
    }
    layers = [{"mark": {"type": "line"}}, {"mark": {"type": "point"}}]
    size = {"width": plot_width(options), "height": _HEIGHT}
    return {**size, "data": {"values": rows}, "encoding": encoding, "layer": layers}


def _scalars(recording: Recording, words: str, options: Options) -> Figure:
    scalars = {name: float(value) for name, value in recording.scalars.items() if np.isfinite(value)}
    if not scalars:
        raise FigureRefused("nothing_to_draw", f"This recording of {recording.kind} holds nothing that can be drawn")
    rows = [{"name": name.replace("_", " "), "value": number(value)} for name, value in scalars.items()]
    said = {"text": {"field": "value", "format": ".4~g"}}
    text = {"mark": {"type": "text", "align": "left", "dx": 6}, "encoding": said}
    encoding = {
        "x": {"field": "value", "type": "quantitative", "axis": {"title": None, "tickCount": 5}},
        "y": {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None}},
        **told_apart("", [], "", options),
    }
    layers = [{"mark": {"type": "point", "size": 40}}, text]
    view = {"width": plot_width(options) - 80, "height": {"step": 22}, "encoding": encoding, "layer": layers}
    return figure(view, words, f"step {recording.step:,}", options, rows)
