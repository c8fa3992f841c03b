"""Numbers of layers over their depth: moments, norms of gradients and weights, the health of normalization.

One panel a quantity, one line a recording. Of one arm colours are steps; of several they are arms, and dashes steps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bncore.figures.chosen import Chosen, Shown, chosen
from bncore.figures.document import (
    Figure,
    Row,
    View,
    below,
    dashed,
    depth_axis,
    figure,
    in_order,
    number,
    plot_width,
    quantity,
    told_apart,
    unit_of,
)
from bncore.figures.results import FigureRefused, Options, Results

ROLES: Mapping[str, str] = {
    "before_norm": "before the norm",
    "after_norm": "after the norm",
    "activation": "after the activation",
    "weights": "weights",
    "norm": "norm",
    "output": "output",
}
_FULL_HEIGHT, _HEIGHT = 150, 92
_MOST_IN_A_COLUMN = 3


@dataclass(frozen=True)
class Panel:
    """A quantity of every site: an array with the one axis `site`."""

    array: str
    title: str
    log: bool = False
    absolute: bool = False
    """Drawn without its sign."""


def by_depth(results: Results, kind: str, panels: Sequence[Panel], title: str, options: Options) -> Figure:
    """Those of the panels that there are numbers for. Raises `FigureRefused`."""
    found = chosen(results, kind, options)
    there = [panel for panel in panels if any(_has(one, panel) for one in found.shown)]
    if not there:
        raise FigureRefused("nothing_to_draw", f"The recordings of {kind} hold no numbers of layers")
    roles = _roles(found)
    columns = 1 if len(there) <= _MOST_IN_A_COLUMN else 2
    height = _FULL_HEIGHT if len(there) == 1 else _HEIGHT
    size = {"width": plot_width(options, columns, columns), "height": height}
    lines = _lines(found, roles, options)
    views = [_view(panel, found, roles, lines, size) for panel in there]
    return figure(below(views, columns), title, found.subtitle, options)


def per_site(one: Shown) -> list[str]:
    """The arrays of a recording that have a number for each site."""
    return [name for name, axes in one.recording.axes.items() if tuple(axes) == ("site",)]


def _has(one: Shown, panel: Panel) -> bool:
    return panel.array in per_site(one)


def _roles(found: Chosen) -> list[str]:
    """In words, in the order of the network; none where all sites have one."""
    named = dict.fromkeys(site.role for one in found.shown for site in one.recording.sites)
    roles = [ROLES.get(role, role.replace("_", " ")) for role in named]
    return roles if len(roles) > 1 else []


def _lines(found: Chosen, roles: list[str], options: Options) -> dict[str, Any]:
    if roles and found.is_one:
        # Roles by colour, and only then steps by dashes.
        return told_apart("role", roles, "", options) | dashed("step", _ends(found), "", options)
    if found.is_one:
        return in_order("step", found.steps, "", options)
    dashes = dashed("role", roles, "", options) if roles else dashed("step", _ends(found), "", options)
    return told_apart("arm", found.arms, found.said, options) | dashes


def _ends(found: Chosen) -> list[str]:
    return list(dict.fromkeys([found.steps[0], found.steps[-1]]))


def _kept(found: Chosen, roles: list[str]) -> list[Shown]:
    """Without the steps that no line of this figure can stand for."""
    if not roles:
        return found.shown
    steps = _ends(found) if found.is_one else found.steps[:1]
    return [one for one in found.shown if one.step in steps]


def _view(panel: Panel, found: Chosen, roles: list[str], lines: dict[str, Any], size: Mapping[str, int]) -> View:
    rows = [row for one in _kept(found, roles) if _has(one, panel) for row in _rows(one, panel)]
    units = next((one.recording.units for one in found.shown if _has(one, panel)), {})
    y = quantity("value", panel.title + unit_of(units, panel.array), _values(rows), log=panel.log)
    detail = [{"field": name} for name in ("run", "step", "role")]
    encoding = {"x": depth_axis(rows), "y": y, "detail": detail, **lines, "tooltip": _tooltip()}
    # The order of sites: where two lie equally deep a line goes from the first to the second.
    line = {"mark": {"type": "line"}, "encoding": {"order": {"field": "place"}}}
    point = {"mark": {"type": "point"}, "encoding": {"strokeDash": {"value": [1, 0]}}}
    return {**size, "data": {"values": rows}, "encoding": encoding, "layer": [line, point]}


def _tooltip() -> list[dict[str, str]]:
    return [{"field": name} for name in ("site", "role", "step", "value")]


def _values(rows: Sequence[Row]) -> list[float]:
    return [row["value"] for row in rows]


def _rows(one: Shown, panel: Panel) -> list[Row]:
    values = np.asarray(one.recording.arrays[panel.array], dtype=np.float64)
    values = np.abs(values) if panel.absolute else values
    about = {"arm": one.arm, "run": one.experiment, "step": one.step}
    return [
        {**about, "site": site.name, "role": ROLES.get(site.role, site.role.replace("_", " "))}
        | {"depth": site.depth, "place": place, "value": number(value)}
        for place, (site, value) in enumerate(zip(one.recording.sites, values.tolist(), strict=True))
        if np.isfinite(value) and (value > 0 or not panel.log)
    ]
