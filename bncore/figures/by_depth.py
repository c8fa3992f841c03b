"""Numbers of layers over their depth: moments, norms of gradients and weights, the health of normalization.

One panel a quantity, one line a recording. Of one arm colours are steps; of several they are arms, and dashes steps.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    titled,
    told_apart,
)
from bncore.figures.results import FigureRefused, Options, Results
from bncore.recording import Recording, Site

ROLES: Mapping[str, str] = {
    "before_norm": "before the norm",
    "after_norm": "after the norm",
    "activation": "after the activation",
    "sum": "after the sum",
    "weights": "weights",
    "norm": "norm",
    "norm_ih": "norm_ih, of W_x x",
    "norm_hh": "norm_hh, of W_h h",
    "norm_h": "norm_h, of W_x x + W_h h",
    "norm_c": "norm_c, of the cell",
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


_COMPARED = ("activation", "sum", "weights", "norm", "norm_hh", "norm_ih", "norm_h", "norm_c", "output")
"""Of several arms one role is drawn, the first of these that all of them have."""


def by_depth(results: Results, kind: str, panels: Sequence[Panel], title: str, options: Options) -> Figure:
    """Those of the panels that there are numbers for. Raises `FigureRefused`."""
    found = chosen(results, kind, options)
    role = None if found.is_one else _common_role(found, panels)
    if role is not None:
        found = replace(found, shown=[replace(one, recording=_of_role(one.recording, role)) for one in found.shown])
    there = [panel for panel in panels if any(_has(one, panel) and _rows(one, panel) for one in found.shown)]
    if not there:
        raise FigureRefused("nothing_to_draw", f"The recordings of {kind} hold no numbers of layers")
    roles = _roles(found, there) if found.is_one else []
    found = found.for_dashes(roles or found.arms, options)
    columns = 1 if len(there) <= _MOST_IN_A_COLUMN else 2
    height = _FULL_HEIGHT if len(there) == 1 else _HEIGHT
    size = {"width": plot_width(options, columns, columns), "height": height}
    lines = _lines(found, roles, options)
    views = [_view(panel, found, roles, lines, size) for panel in there]
    return figure(
        below(views, columns, over="one"),
        title,
        ", ".join(filter(None, [found.subtitle, ROLES.get(str(role), "")])),
        options,
    )


def per_site(one: Shown) -> list[str]:
    """The arrays of a recording that have a number for each site."""
    return [name for name, axes in one.recording.axes.items() if tuple(axes) == ("site",)]


def _words(site: Site) -> str:
    return ROLES.get(site.role, site.role.replace("_", " "))


def _common_role(found: Chosen, panels: Sequence[Panel]) -> str | None:
    """None where all that is drawn has one role anyway, or no role is common."""
    roles = [
        {one.recording.sites[row["place"]].role for panel in panels if _has(one, panel) for row in _rows(one, panel)}
        for one in found.shown
    ]
    if len(set.union(*roles)) < 2:
        return None
    return next((role for role in _COMPARED if role in set.intersection(*roles)), None)


def _of_role(recording: Recording, role: str) -> Recording:
    """The sites of one role, and what is measured at them alone."""
    places = [place for place, site in enumerate(recording.sites) if site.role == role]
    names = [name for name, axes in recording.axes.items() if tuple(axes) == ("site",)]
    return replace(
        recording,
        arrays={name: recording.arrays[name][places] for name in names},
        axes=dict.fromkeys(names, ("site",)),
        sites=tuple(recording.sites[place] for place in places),
    )


def _has(one: Shown, panel: Panel) -> bool:
    return panel.array in per_site(one)


def _roles(found: Chosen, panels: Sequence[Panel]) -> list[str]:
    """Those that have a number, in words and in the order of the network; none where all sites have one."""
    shown = {row["role"] for one in found.shown for panel in panels if _has(one, panel) for row in _rows(one, panel)}
    named = dict.fromkeys(_words(site) for one in found.shown for site in one.recording.sites)
    roles = [role for role in named if role in shown]
    return roles if len(roles) > 1 else []


def _lines(found: Chosen, roles: list[str], options: Options) -> dict[str, Any]:
    if roles and found.is_one:
        # Roles by colour, and only then steps by dashes.
        return told_apart("role", roles, "", options) | dashed("moment", found.moments, "", options)
    if found.is_one:
        return in_order("step", found.steps, "", options)
    return told_apart("arm", found.arms, found.said, options) | dashed("moment", found.moments, "", options)


def _kept(found: Chosen, roles: list[str]) -> list[Shown]:
    """Without the steps that no line of this figure can stand for."""
    return [one for one in found.shown if one.moment] if roles else found.shown


def _view(panel: Panel, found: Chosen, roles: list[str], lines: dict[str, Any], size: Mapping[str, int]) -> View:
    rows = [row for one in _kept(found, roles) if _has(one, panel) for row in _rows(one, panel)]
    units = next((one.recording.units for one in found.shown if _has(one, panel)), {})
    y = quantity("value", titled(panel.title, units, panel.array), _values(rows), log=panel.log)
    detail = [{"field": name} for name in ("run", "step", "role", "part")]
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
    """Those that can be drawn; `part` counts what cannot, so that no line of a role goes across it."""
    values = np.asarray(one.recording.arrays[panel.array], dtype=np.float64)
    about = {"arm": one.arm, "run": one.experiment, "step": one.step, "moment": one.moment}
    rows, parts = [], Counter[str]()
    for place, (site, value) in enumerate(zip(one.recording.sites, values.tolist(), strict=True)):
        if np.isfinite(value) and (value > 0 or not panel.log):
            row = {**about, "site": site.name, "role": _words(site), "part": parts[site.role]}
            rows.append({**row, "depth": site.depth, "place": place, "value": number(value)})
        else:
            parts[site.role] += 1
    return rows
