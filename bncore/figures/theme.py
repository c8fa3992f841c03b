"""Colours and sizes of all figures: one palette that colour-blind readers can tell apart, on light and on dark.

The palette is that of Okabe and Ito (2008), less the colours that have too little contrast with the background.
Sizes are for a column of 3.3 inches: labels have 9 pixels there, 6.5 points.
"""

import textwrap
from typing import Any

from bncore.figures.results import Options, Theme

PALETTES: dict[Theme, tuple[str, ...]] = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    "dark": ("#56B4E9", "#E69F00", "#00B88A", "#CC79A7", "#F0E442", "#FF7F3F", "#FFFFFF"),
}
DASHES: tuple[list[int], ...] = ([], [5, 3], [2, 2])
"""Beyond a palette's end colours come again with the next dash."""
_INK: dict[Theme, dict[str, str]] = {
    "light": {"background": "#ffffff", "text": "#222222", "faint": "#5a5a5a", "grid": "#e3e3e3", "axis": "#888888"},
    "dark": {"background": "#14171c", "text": "#e8e8e8", "faint": "#a8adb5", "grid": "#2c3138", "axis": "#7c828c"},
}
# Of viridis, without the end that is nearly the background.
_RAMP: dict[Theme, list[float]] = {"light": [0.0, 0.88], "dark": [0.25, 1.0]}
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_LABEL, _TITLE, _HEAD = 9, 10, 12
CHARACTER = 5.2
"""Pixels, about: the width of a letter of a label."""


def config(options: Options) -> dict[str, Any]:
    """The `config` of a document."""
    ink = _INK[options.theme]
    text = {"labelFontSize": _LABEL, "titleFontSize": _TITLE, "labelColor": ink["text"], "titleColor": ink["text"]}
    return {
        "background": ink["background"],
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            **text,
            "titleFontWeight": "normal",
            "titlePadding": 5,
            "gridColor": ink["grid"],
            "domainColor": ink["axis"],
            "tickColor": ink["axis"],
            "tickSize": 4,
            "labelOverlap": "greedy",
            "labelSeparation": 4,
        },
        "legend": {**text, "orient": "bottom", "symbolStrokeWidth": 2, "labelLimit": options.width - 50, "offset": 8}
        | {"layout": {"bottom": {"direction": "vertical", "anchor": "start"}}},
        "header": {**text, "labelLimit": options.width, "labelPadding": 4, "labelAnchor": "start"},
        "title": {
            "anchor": "start",
            "frame": "bounds",
            "fontSize": _HEAD,
            "color": ink["text"],
            "subtitleColor": ink["faint"],
            "subtitleFontSize": _LABEL,
            "subtitlePadding": 3,
            "offset": 10,
        },
        "concat": {"spacing": 14},
        "facet": {"spacing": 12},
        "line": {"strokeWidth": 1.6},
        "point": {"size": 14, "filled": True},
        "rule": {"color": ink["faint"], "strokeDash": [2, 2]},
        "range": {"category": list(PALETTES[options.theme])},
    }


def variables(theme: Theme) -> dict[str, str]:
    """All colours of things without an order, by names that themes share, for who has them chosen by a style sheet."""
    palette = {f"series-{place}": colour for place, colour in enumerate(PALETTES[theme])}
    return {**palette, **_INK[theme]}


def background_of(options: Options) -> str:
    """What all else is drawn on."""
    return _INK[options.theme]["background"]


def text_of(options: Options) -> str:
    """What words are written in."""
    return _INK[options.theme]["text"]


def faint_of(options: Options) -> str:
    """What stands back: rules, second lines."""
    return _INK[options.theme]["faint"]


def colour_of(options: Options) -> str:
    """Of what is drawn alone."""
    return PALETTES[options.theme][0]


def ramp(options: Options) -> dict[str, Any]:
    """The scheme of ordered things, such as steps."""
    return {"name": "viridis", "extent": _RAMP[options.theme]}


def most_colours(options: Options) -> int:
    """Beyond which colours come again."""
    return len(PALETTES[options.theme])


def most_lines(options: Options) -> int:
    """That can be told apart."""
    return most_colours(options) * len(DASHES)


def lines(labels: list[str], options: Options) -> tuple[list[str], list[list[int]]]:
    """A colour and a dash for each of some things without an order, at most `most_lines` of them."""
    palette = PALETTES[options.theme]
    places = range(len(labels))
    return [palette[at % len(palette)] for at in places], [DASHES[at // len(palette) % len(DASHES)] for at in places]


def wrapped(text: str, options: Options, character: float = CHARACTER) -> list[str]:
    """A text in lines that fit into the figure."""
    return textwrap.wrap(text, max(20, int((options.width - 10) / character))) or [""]
