"""The figures of a report as parts of its page: drawn once, with colours that its style sheet chooses.

Invariant: the SVGs of a page share no ids, since the first of two elements with one id would clip both; and the same
figure gives the same text, however many were drawn before it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bncore.figures import study_effects, study_runs
from bncore.figures.document import Figure
from bncore.figures.results import FigureRefused, Options, Theme
from bncore.figures.theme import variables
from bncore.studies.markup import Markup, element

Draw = Callable[[Figure], str]
"""SVG of a figure."""
Report = Mapping[str, Any]
_PREFIX = "--figure-"
_NAMES = {colour.lower(): name for name, colour in variables("light").items()}
_COLOUR = re.compile("|".join(_NAMES), re.IGNORECASE)
_WIDTH = 420
"""Pixels: two of them beside each other on the page."""
_ID = re.compile(r'\bid="([^"]*)"')
_REFERENCE = re.compile(r'(\bid="|url\(#|href="#)([^")]*)')


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
        series = [
            {**each, "arm": _labelled(each, report["series"])} for each in report["series"] if each["key"] == name
        ]

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


def figure_style() -> str:
    """The colours of figures, on light and on dark grounds; their own ground is that of the page."""

    def declared(theme: Theme) -> str:
        colours = {**variables(theme), "background": "transparent"}
        return ":root { " + "".join(f"{_PREFIX}{name}: {colour}; " for name, colour in colours.items()) + "}"

    return f"{declared('light')}\n@media screen and (prefers-color-scheme: dark) {{ {declared('dark')} }}\n"


def _picture(key: str, figure: Callable[[Options], Figure], draw: Draw) -> Markup | None:
    """None where there is nothing to draw."""
    try:
        document = figure(Options(width=_WIDTH))
    except FigureRefused:
        return None
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", key)
    return element("figure", _inline(draw(document), f"{prefix}-", str(document["description"])))


def _inline(svg: str, prefix: str, description: str) -> Markup:
    """As a part of a page: ids of its own, and what a reader who does not see it is told."""
    # The library numbers them through, drawing by drawing, for as long as its process lives.
    names = {old: f"{prefix}{place}" for place, old in enumerate(dict.fromkeys(_ID.findall(svg)))}
    found = _REFERENCE.sub(lambda match: match[1] + names.get(match[2], match[2]), svg)
    found = _COLOUR.sub(lambda match: f"var({_PREFIX}{_NAMES[match[0].lower()]})", found)
    label = element("svg", role="img", aria_label=description).removesuffix("></svg>")
    return Markup(found[found.index("<svg") :].replace("<svg", label, 1))


def _labelled(one: Report, every: Sequence[Report]) -> str:
    """The arm, and its setting where it ran at more than one."""
    settings = {str(each.get("setting")) for each in every if each["arm"] == one["arm"]}
    said = ", ".join(f"{path} = {value}" for path, value in (one.get("setting") or {}).items())
    return f"{one['arm']}, {said}" if len(settings) > 1 else str(one["arm"])


def _key(report: Report) -> str:
    return str((report.get("claim") or {}).get("name") or report.get("id") or "study")
