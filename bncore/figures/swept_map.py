"""A measure over two axes of a sweep, as colours, a panel an arm."""

from typing import Any

from bncore.figures import theme
from bncore.figures.document import Figure, Row, View, figure, number, plot_width
from bncore.figures.results import FigureRefused, Options
from bncore.figures.swept import MARKS, Swept, cells, key_of, require_axis, require_drawable, said_of

_MOST_PANELS = 6
_HEIGHT = {1: 190, 2: 120}


def heat_map(swept: Swept, options: Options, x: str | None = None, y: str | None = None) -> Figure:
    """The measure over two axes as colours, a panel an arm: the mean over seeds.

    Of several points with the same two values the best is shown. Raises `FigureRefused`.
    """
    require_drawable(swept)
    first = require_axis(swept, x, [y] if y else [])
    second = require_axis(swept, y, [first])
    if first == second:
        raise FigureRefused("same_axis", "A heat map is over two different axes")
    if len(swept.arms) > _MOST_PANELS:
        raise FigureRefused("too_many_arms", f"A heat map has at most {_MOST_PANELS} arms, a panel each")
    rows = _rows(swept, first, second)
    said = [swept.said([first, second]), said_of(row["fate"] for row in rows if row["fate"])]
    columns = 1 if len(swept.arms) < 2 else 2
    across, down = ([key_of(value) for value in swept.along(axis)] for axis in (first, second))
    size = {
        "width": {"step": max(6, plot_width(options, columns) // len(across))},
        "height": {"step": max(6, _HEIGHT[columns] // len(down))},
    }
    view: View = {"layer": _layers(options), "encoding": _encoding(first, second, across, down)}
    if columns == 2:
        facet = {"field": "arm", "type": "nominal", "sort": list(swept.arms), "header": {"title": None}}
        view = {"facet": facet, "columns": columns, "spec": {**size, **view}}
    else:
        view = {**size, **view}
    title = f"{swept.measure} over {first} and {second}"
    return figure(view, title, "; ".join(one for one in said if one), options, rows)


def _rows(swept: Swept, x: str, y: str) -> list[Row]:
    rows: list[Row] = []
    for (arm, across, down), best, gone in cells(
        swept, lambda one: (one.arm, key_of(one.values[x]), key_of(one.values[y]))
    ):
        row: Row = {"arm": arm or "", "x": across, "y": down, "value": None, "fate": None}
        if best is not None and best.mean is not None:
            rows.append({**row, "value": number(best.mean), "n": len(best.numbers)})
        elif gone:
            rows.append({**row, "fate": gone, "mark": MARKS[gone]})
    return rows


def _encoding(x: str, y: str, across: list[str], down: list[str]) -> dict[str, Any]:
    bare = {"grid": False, "ticks": False, "domain": False}
    return {
        "x": {"field": "x", "type": "ordinal", "sort": across, "axis": {"title": x, **bare}},
        # The least value lies below, as on any other axis.
        "y": {"field": "y", "type": "ordinal", "sort": down[::-1], "axis": {"title": y, **bare}},
    }


def _layers(options: Options) -> list[View]:
    legend = {"title": None, "orient": "bottom", "gradientLength": 150, "gradientThickness": 9, "format": ".3~g"}
    scale = {"scheme": theme.ramp(options), "zero": False}
    color = {"field": "value", "type": "quantitative", "scale": scale, "legend": legend}
    there = {"filter": "datum.value !== null"}
    mark = {"type": "text", "fontSize": 11, "color": theme.text_of(options)}
    which = {"text": {"field": "mark", "type": "nominal"}}
    return [
        {"transform": [there], "mark": "rect", "encoding": {"color": color}},
        {"transform": [{"filter": "datum.fate !== null"}], "mark": mark, "encoding": which},
    ]
