"""What a study found: each question's effect with its interval against its margin, and the effect of every seed.

Drawn from verdicts as they are stored (`bncore.studies.verdict.document`): the numbers are those, and none is computed
again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.figures import theme
from bncore.figures.document import Figure, Row, View, figure, legend_of, number, plot_width, quantity
from bncore.figures.results import FigureRefused, Options

Verdict = Mapping[str, Any]
OUTCOMES = {
    "holds": "holds",
    "does_not_hold": "does not hold",
    "contradicted": "the other way round",
    "inconclusive": "stays open",
}
_SHAPES = {"holds": "circle", "does_not_hold": "square", "contradicted": "triangle-down", "inconclusive": "diamond"}
_PLACES = {"holds": 2, "does_not_hold": 1, "contradicted": 3, "inconclusive": 0}
"""In the palette: green, vermilion, purple, blue on light, and what stands for them on dark."""
_ROW_HEIGHT = 38
_ROW_OF_SEEDS = 110
_ROW_OF_NUMBERS = 30
_DECADES = 30.0
"""A range from which on an axis is logarithmic."""
_FURTHEST = 700.0
"""Of a logarithm: beyond it the number itself is none."""


@dataclass(frozen=True)
class Unit:
    """How the numbers of a verdict are shown: as factors on a logarithmic axis, or in a unit."""

    is_ratio: bool
    unit: str
    factor: float
    compares: bool
    """Whether there is a baseline, so that "no effect" has a place."""

    def of(self, value: float | None) -> float | None:
        """A number of the verdict as it is drawn; None, which stands for what is not finite, is not drawn."""
        if value is None:
            return None
        return number(math.exp(max(-_FURTHEST, min(value, _FURTHEST))) if self.is_ratio else value * self.factor)

    @property
    def nothing(self) -> float | None:
        """Where there is no effect."""
        return self.of(0.0) if self.compares else None

    @property
    def title(self) -> str:
        """Of an axis."""
        if self.is_ratio:
            return "factor (above 1 is better)"
        unit = f" in {self.unit}" if self.unit else ""
        return f"effect{unit} (above 0 is better)" if self.compares else f"value{unit}"


def effects(verdicts: Sequence[Verdict], options: Options) -> Figure:
    """Of every question the effect and its 95 % interval, and what was asked for; a panel for each unit.

    Raises `FigureRefused`.
    """
    estimated = [verdict for verdict in verdicts if verdict.get("estimated")]
    if not estimated:
        raise FigureRefused("nothing_to_draw", "No question was answered by an effect")
    units = list(dict.fromkeys(unit_of(verdict) for verdict in estimated))
    of_units = {unit: [verdict for verdict in estimated if unit_of(verdict) == unit] for unit in units}
    there = [name for name in OUTCOMES if any(outcome_of(verdict) == name for verdict in estimated)]
    panels = [_forest(unit, of_units[unit], there, options) for unit in units]
    said = "Point and 95\u00a0% interval of each question; grey ticks: what was asked for."
    said += " Dashes: no effect." if any(unit.compares for unit in units) else ""
    return figure(_stacked(panels), "Effects against their margins", said, options)


def seeds(verdict: Verdict, options: Options) -> Figure:
    """The effect of every seed, their mean with its 95 % interval, and what was asked for.

    Raises `FigureRefused`.
    """
    found, unit = verdict.get("effects") or {}, unit_of(verdict)
    if not found.get("values") or not verdict.get("estimated"):
        raise FigureRefused("nothing_to_draw", "This question was not answered by an effect of every seed")
    rows: list[Row] = [
        {"seed": str(seed), "value": unit.of(value)}
        for seed, value in zip(found["seeds"], found["values"], strict=True)
    ]
    interval = verdict["estimated"]["interval"]
    mean = {"value": unit.of(verdict["estimated"]["effect"])}
    ends = {"low": unit.of(interval["low"]), "high": unit.of(interval["high"])}
    asked = list(_asked(verdict, unit))
    drawn: list[float | None] = [row["value"] for row in rows]
    drawn += [mean["value"], *ends.values(), unit.nothing, *asked]
    colour = {"value": theme.colour_of(options)}
    y = quantity("value", unit.title, [value for value in drawn if value is not None], log=unit.is_ratio)
    layers = [
        {"data": {"values": [ends]}, "mark": {"type": "rect", "opacity": 0.18, "clip": True}}
        | {"encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}},
        {"data": {"values": [mean]}, "mark": {"type": "rule", "strokeDash": [1, 0], "strokeWidth": 1.6}}
        | {"encoding": {"y": y, "color": colour}},
        *_rules("y", y, unit, asked, options),
        {"data": {"values": rows}, "mark": {"type": "point", "size": 34, "filled": True, "opacity": 1}}
        | {"encoding": {"x": _seed_axis(rows), "y": y, "color": colour}},
    ]
    view = {"width": plot_width(options), "height": _ROW_OF_SEEDS, "layer": layers}
    said = "A point a pair of runs with the same seed; line and band: mean and 95\u00a0% interval; grey: asked for."
    return figure(view, f"{verdict['name']}: seed by seed", said, options)


def measured(verdicts: Sequence[Verdict], options: Options) -> Figure:
    """The numbers of questions that were answered without a mean over seeds, such as errors of what is exact.

    On a logarithmic axis where they span decades; a number that is 0 has no place there, and is said. Raises
    `FigureRefused`.
    """
    rows = [
        {"name": f"{verdict['name']}: {name}", "said": name, "value": number(abs(value))}
        for verdict in verdicts
        if not verdict.get("estimated")
        for name, value in verdict["measured"].items()
        if value is not None
    ]
    values = [row["value"] for row in rows if row["value"]]
    if not values:
        raise FigureRefused("nothing_to_draw", "Nothing was measured but means over seeds")
    is_log = max(values) / min(values) > _DECADES
    zeros = [row["said"] for row in rows if is_log and not row["value"]]
    rows = [row for row in rows if row["said"] not in zeros]
    x = quantity("value", "value", values, log=is_log)
    y = {"field": "name", "type": "nominal", "sort": [row["name"] for row in rows], "axis": None}
    text = {"type": "text", "align": "left", "dx": 4, "dy": -_ROW_OF_NUMBERS / 2 + 5, "fontSize": 9}
    layers = [
        {"mark": {"type": "point", "filled": True, "size": 55, "opacity": 1, "color": theme.colour_of(options)}}
        | {"encoding": {"x": _padded(x), "y": y}},
        {"mark": {**text, "color": theme.text_of(options)}}
        | {"encoding": {"x": {"value": 0}, "y": y, "text": {"field": "said"}}},
    ]
    view = {"width": options.width - 24, "height": {"step": _ROW_OF_NUMBERS}, "layer": layers}
    return figure(view, "What was measured", f"0: {', '.join(zeros)}." if zeros else "", options, rows)


def unit_of(verdict: Verdict) -> Unit:
    """How its numbers are shown."""
    scale, words = (verdict.get("estimand") or {}).get("scale", "difference"), verdict["words"]
    if scale in ("log_ratio", "log_time_ratio"):
        return Unit(True, "", 1.0, True)
    return Unit(False, words.get("unit", ""), words.get("factor", 1.0), scale == "difference")


def outcome_of(verdict: Verdict) -> str:
    """The outcome; `contradicted` where the effect is the other way round."""
    return "contradicted" if verdict.get("label") == "contradicted" else str(verdict["outcome"])


def colour_of_outcome(outcome: str, options: Options) -> str:
    """Of a mark; never the only thing that tells."""
    return theme.PALETTES[options.theme][_PLACES[outcome]]


def _forest(unit: Unit, verdicts: Sequence[Verdict], there: Sequence[str], options: Options) -> View:
    rows = [_row(verdict, unit, options) for verdict in verdicts]
    asked = [mark for verdict in verdicts for mark in _margin_marks(verdict, unit)]
    numbers = [row[name] for row in rows for name in ("effect", "low", "high")]
    numbers += [mark["at"] for mark in asked] + [unit.nothing]
    x = quantity("effect", unit.title, [value for value in numbers if value is not None], log=unit.is_ratio)
    x = _padded(x)
    order = [row["name"] for row in rows]
    y = {"field": "name", "type": "nominal", "sort": order, "axis": None, "scale": {"domain": order}}
    text = {"type": "text", "align": "left", "baseline": "middle", "dx": 4, "dy": -_ROW_HEIGHT / 2 + 6, "fontSize": 9}
    line = {"type": "rule", "strokeDash": [1, 0], "strokeWidth": 1.8, "clip": True}
    tick = {"type": "tick", "orient": "vertical", "thickness": 2.2, "size": 12, "color": _grey(options), "clip": True}
    point = {"type": "point", "filled": True, "size": 62, "opacity": 1}
    layers = [
        *_rules("x", x, unit, [], options),
        {"data": {"values": asked}, "mark": tick, "encoding": {"x": {**x, "field": "at"}, "y": y}},
        {"data": {"values": rows}, "mark": line}
        | {"encoding": {"x": {**x, "field": "low"}, "x2": {"field": "high"}, "y": y, **_colour(there, options)}},
        {"data": {"values": rows}, "mark": point}
        | {"encoding": {"x": x, "y": y, **_colour(there, options), **_shape(there, options)}},
        {"data": {"values": rows}, "mark": {**text, "color": theme.text_of(options)}}
        | {"encoding": {"x": {"value": 0}, "y": y, "text": {"field": "said"}}},
    ]
    return {"width": options.width - 24, "height": {"step": _ROW_HEIGHT}, "layer": layers}


def _padded(x: Mapping[str, Any]) -> dict[str, Any]:
    """Marks at the ends of the axis are seen whole."""
    return {**x, "scale": {**x["scale"], "padding": 8}}


def _row(verdict: Verdict, unit: Unit, options: Options) -> Row:
    estimated = verdict["estimated"]
    ends = {"low": unit.of(estimated["interval"]["low"]), "high": unit.of(estimated["interval"]["high"])}
    most = int((options.width - 24) / theme.CHARACTER)
    name = str(verdict.get("shown_as") or verdict["name"])
    said = name if len(name) <= most else name[: most - 3] + "..."
    about = {"name": name, "said": said, "outcome": OUTCOMES[outcome_of(verdict)]}
    return {**about, "effect": unit.of(estimated["effect"]), **ends}


def _margin_marks(verdict: Verdict, unit: Unit) -> Iterator[Row]:
    name = str(verdict.get("shown_as") or verdict["name"])
    yield from ({"name": name, "at": at} for at in _asked(verdict, unit))


def _asked(verdict: Verdict, unit: Unit) -> Iterator[float]:
    """What the effect had to exceed, or to lie between."""
    margin = verdict.get("margin")
    if not margin:
        return
    value, around = margin["value"], margin.get("around", 0.0)
    ends = {"superiority": [value], "non_inferiority": [-value], "equality": [around - value, around + value]}
    yield from (at for end in ends[margin["kind"]] if (at := unit.of(end)) is not None)


def _rules(
    axis: str, encoding: Mapping[str, Any], unit: Unit, asked: Sequence[float], options: Options
) -> Iterator[View]:
    """Dashes where there is no effect, and grey lines at what was asked for."""
    if unit.nothing is not None:
        mark = {"type": "rule", "strokeDash": [3, 3], "color": _grey(options), "strokeWidth": 1}
        yield {
            "data": {"values": [{"at": unit.nothing}]},
            "mark": mark,
            "encoding": {axis: {**encoding, "field": "at"}},
        }
    if asked:
        mark = {"type": "rule", "strokeDash": [1, 0], "color": _grey(options), "strokeWidth": 1.4}
        values = [{"at": at} for at in asked]
        yield {"data": {"values": values}, "mark": mark, "encoding": {axis: {**encoding, "field": "at"}}}


def _seed_axis(rows: Sequence[Row]) -> dict[str, Any]:
    axis = {"title": "seed", "grid": False, "labelAngle": 0, "labelOverlap": "greedy"}
    return {"field": "seed", "type": "ordinal", "sort": [row["seed"] for row in rows], "axis": axis}


def _colour(there: Sequence[str], options: Options) -> dict[str, Any]:
    return {"color": _told("color", there, [colour_of_outcome(one, options) for one in there], options)}


def _shape(there: Sequence[str], options: Options) -> dict[str, Any]:
    return {"shape": _told("shape", there, [_SHAPES[one] for one in there], options)}


def _told(channel: str, there: Sequence[str], values: Sequence[str], options: Options) -> dict[str, Any]:
    domain = [OUTCOMES[one] for one in there]
    legend = {name: value for name, value in legend_of(domain, "", options).items() if name != "symbolType"}
    legend |= {"symbolStrokeWidth": 0, "symbolSize": 62} | ({"symbolType": "circle"} if channel == "color" else {})
    scale = {"domain": domain, "range": list(values)}
    return {"field": "outcome", "type": "nominal", "scale": scale, "legend": legend}


def _grey(options: Options) -> str:
    return theme.faint_of(options)


def _stacked(panels: Sequence[View]) -> View:
    """Below each other, each with its own unit."""
    if len(panels) == 1:
        return panels[0]
    shared = {"color": "shared", "shape": "shared"}
    return {"concat": list(panels), "columns": 1, "resolve": {"scale": shared, "legend": shared}}
