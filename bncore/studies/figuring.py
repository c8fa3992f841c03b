"""The figures of a report as parts of its page: each drawn for light and for dark grounds.

Invariant: the SVGs of a page share no ids, since the first of two elements with one id would clip both.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bncore.figures import study_effects, study_runs
from bncore.figures.document import Figure
from bncore.figures.results import FigureRefused, Options, Theme
from bncore.studies.markup import Markup, element

Draw = Callable[[Figure], str]
"""SVG of a figure."""
Report = Mapping[str, Any]
_WIDTH = 420
"""Pixels: two of them beside each other on the page."""
_ID = re.compile(r'(\bid="|url\(#|href="#)')


def effects(report: Report, draw: Draw) -> Iterator[Markup | None]:
    """Of every question the effect against its margin; of those without one what was measured."""
    verdicts = [{**verdict, "shown_as": readable(verdict["name"])} for verdict in report["verdicts"]]
    key = _key(report)
    yield _picture(f"{key}-effects", lambda options: study_effects.effects(verdicts, options), draw)
    yield _picture(f"{key}-measured", lambda options: study_effects.measured(verdicts, options), draw)


def course(report: Report, draw: Draw) -> Iterator[Markup | None]:
    """When targets were reached, what the settings came to, and how arms learned."""
    verdicts = [{**verdict, "name": readable(verdict["name"])} for verdict in report["verdicts"]]
    key = _key(report)
    yield _picture(f"{key}-reaching", lambda options: study_runs.reaching(verdicts, options), draw)
    design, runs = report.get("design") or {}, report["runs"]
    if design.get("grid"):
        yield _picture(f"{key}-tuning", lambda options: study_runs.tuning(design, runs, options), draw)
    for place, name in enumerate(dict.fromkeys(each["key"] for each in report["series"])):
        series = [each for each in report["series"] if each["key"] == name]

        def drawn(options: Options, series: list[Any] = series, name: str = name) -> Figure:
            return study_runs.learning(series, name, options)

        yield _picture(f"{key}-learning-{place}", drawn, draw)


def seeds(verdict: Report, draw: Draw) -> Markup | None:
    """The effect of every seed."""
    shown = {**verdict, "name": readable(verdict["name"])}
    return _picture(f"{verdict['name']}-seeds", lambda options: study_effects.seeds(shown, options), draw)


def readable(name: str) -> str:
    """The name of a question as a person reads it."""
    return name.replace("_", " ").replace("-", ", ", 1) if "_" in name else name


def _picture(key: str, figure: Callable[[Options], Figure], draw: Draw) -> Markup | None:
    """None where there is nothing to draw."""
    try:
        both = {theme: figure(Options(theme=theme, width=_WIDTH)) for theme in _THEMES}
    except FigureRefused:
        return None
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", key)
    drawn = [
        element("div", _inline(draw(document), f"{prefix}-{theme}-", str(document["description"])), class_=theme)
        for theme, document in both.items()
    ]
    return element("figure", *drawn)


_THEMES: tuple[Theme, ...] = ("light", "dark")


def _inline(svg: str, prefix: str, description: str) -> Markup:
    """As a part of a page: ids of its own, and what a reader who does not see it is told."""
    found = _ID.sub(lambda match: match[0] + prefix, svg)
    label = element("svg", role="img", aria_label=description).removesuffix("></svg>")
    return Markup(found[found.index("<svg") :].replace("<svg", label, 1))


def _key(report: Report) -> str:
    return str((report.get("claim") or {}).get("name") or report.get("id") or "study")
