"""The distribution of a layer's inputs over training: 15th, 50th and 85th percentile (1502.03167, figure 1)."""

from collections import Counter
from typing import Any

import numpy as np

from bncore.figures import theme
from bncore.figures.chosen import Chosen, Shown, chosen_all
from bncore.figures.document import Figure, Row, figure, number, plot_width, quantity, step_axis, titled
from bncore.figures.results import FigureRefused, Options, Results

KIND = "covariate_shift"
_ARRAY = "percentiles"
_WORDS = ("low", "middle", "high")
_MOST_PANELS = 6
_HEIGHT = 140


def percentiles(results: Results, options: Options) -> Figure:
    """Percentiles 15, 50 and 85 of the inputs of a layer over steps (1502.03167, figure 1).

    A panel an arm, of the last layer before the output, all on one axis. Raises `FigureRefused`.
    """
    found = chosen_all(results, KIND, options)
    rows = _in_parts(_of_first_runs(found))
    if not rows:
        raise FigureRefused("nothing_to_draw", f"The recordings of {KIND} hold no percentiles")
    every = list(dict.fromkeys(row["panel"] for row in rows))
    names, left_out = every[:_MOST_PANELS], found.left_out(len(every), _MOST_PANELS)
    rows = [row for row in rows if row["panel"] in names]
    columns = 1 if len(names) == 1 else 2
    spec = _view(found, columns, options)
    title = "Percentiles 15, 50, 85 of a layer's inputs"
    if len(names) == 1:
        return figure(spec, title, ", ".join([rows[0]["panel"], *left_out]), options, rows)
    facet = {"field": "panel", "type": "nominal", "sort": names, "header": {"title": None}}
    view = {"facet": facet, "columns": columns, "spec": spec}
    return figure(view, title, ", ".join([f"by {found.said}", *left_out]), options, rows)


def _of_first_runs(found: Chosen) -> list[Shown]:
    firsts: dict[str, str] = {}
    for one in found.shown:
        firsts.setdefault(one.arm, one.experiment)
    return [one for one in found.shown if one.experiment == firsts[one.arm]]


def _in_parts(shown: list[Shown]) -> list[Row]:
    """In parts without a step that has no numbers; `is_alone` where a part is one step, which no line shows."""
    rows, parts = [], Counter[str]()
    for one in shown:
        measured = _rows(one)
        rows += [{**row, "part": parts[one.arm]} for row in measured]
        parts[one.arm] += not measured
    lengths = Counter((row["panel"], row["part"]) for row in rows)
    return [{**row, "is_alone": lengths[row["panel"], row["part"]] == 1} for row in rows]


def _rows(one: Shown) -> list[Row]:
    recording = one.recording
    if recording.axes.get(_ARRAY) != ("site", "percentile") or not recording.sites:
        return []
    table = np.asarray(recording.arrays[_ARRAY], dtype=np.float64)
    measured = np.flatnonzero(np.isfinite(table).all(axis=1))
    hidden = [place for place in measured.tolist() if recording.sites[place].role != "output"] or measured.tolist()
    if not hidden or table.shape[1] != 3:
        return []
    place = hidden[-1]
    values = table[place]
    about = {
        "panel": ": ".join(word for word in (one.arm, recording.sites[place].name) if word),
        "step": recording.step,
    }
    return [about | {word: number(value) for word, value in zip(_WORDS, values.tolist(), strict=True)}]


def _view(found: Chosen, columns: int, options: Options) -> dict[str, Any]:
    colour = {"value": theme.colour_of(options)}
    title = titled("input", found.shown[0].recording.units, _ARRAY)
    x, y = step_axis(), quantity("low", title, ())
    ends = {"y": {**y, "field": "low"}, "y2": {"field": "high"}}
    outer = [
        {"mark": {"type": "line", "strokeWidth": 1}, "encoding": {"y": {**y, "field": name}}}
        for name in ("low", "high")
    ]
    alone = [{"filter": "datum.is_alone"}]
    layers = [
        {"transform": alone, "mark": {"type": "rule", "strokeDash": [1, 0], "strokeWidth": 2}, "encoding": ends},
        {"transform": alone, "mark": {"type": "point", "size": 40}, "encoding": {"y": {**y, "field": "middle"}}},
        {"mark": {"type": "area", "fillOpacity": 0.25}, "encoding": ends},
        *outer,
        {"mark": {"type": "line", "strokeWidth": 2}, "encoding": {"y": {**y, "field": "middle"}}},
    ]
    size = {"width": plot_width(options, columns), "height": _HEIGHT}
    return {**size, "encoding": {"x": x, "color": colour, "detail": [{"field": "part"}]}, "layer": layers}
