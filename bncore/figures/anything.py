"""A recording of which no figure knows the kind: what its axes say."""

import numpy as np

from bncore.figures.by_depth import Panel, by_depth
from bncore.figures.document import Figure, figure, number, plot_width
from bncore.figures.results import FigureRefused, Options, Result
from bncore.recording import Recording

_MOST_PANELS = 6


def anything(recording: Recording, options: Options) -> Figure:
    """Numbers of sites by depth, else scalars as points. Raises `FigureRefused`."""
    per_site = sorted(name for name, axes in recording.axes.items() if tuple(axes) == ("site",))
    words = recording.kind.replace("_", " ").capitalize()
    if per_site:
        panels = [Panel(name, name.replace("_", " ")) for name in per_site[:_MOST_PANELS]]
        results = {"recording": Result({}, {}, {recording.kind: [recording]})}
        return by_depth(results, recording.kind, panels, words, options)
    scalars = {name: float(value) for name, value in recording.scalars.items() if np.isfinite(value)}
    if not scalars:
        raise FigureRefused("nothing_to_draw", f"This recording of {recording.kind} holds nothing that can be drawn")
    rows = [{"name": name.replace("_", " "), "value": number(value)} for name, value in scalars.items()]
    text = {
        "mark": {"type": "text", "align": "left", "dx": 6},
        "encoding": {"text": {"field": "value", "format": ".4~g"}},
    }
    encoding = {
        "x": {"field": "value", "type": "quantitative", "axis": {"title": None, "tickCount": 5}},
        "y": {"field": "name", "type": "nominal", "sort": None, "axis": {"title": None}},
    }
    layers = [{"mark": {"type": "point", "size": 40}}, text]
    view = {"width": plot_width(options) - 80, "height": {"step": 22}, "encoding": encoding, "layer": layers}
    return figure(view, words, f"step {recording.step:,}", options, rows)
