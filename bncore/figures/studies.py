"""Figures of a study by name, and how they are drawn in a process of their own.

Invariant: drawn from what was judged and stored, as the report draws them; no number is computed again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.figures import study_effects, study_runs
from bncore.figures.document import Figure
from bncore.figures.results import FigureRefused, Options, chosen

Judged = Mapping[str, Any]
"""`verdicts`, `design`, `runs` and `series` of a study, as its report has them."""


@dataclass(frozen=True)
class StudyFigure:
    """A figure of what a study came to."""

    name: str
    title: str
    summary: str
    draw: Callable[[Judged, Options], Figure]


def _effects(judged: Judged, options: Options) -> Figure:
    return study_effects.effects(judged["verdicts"], options)


def _measured(judged: Judged, options: Options) -> Figure:
    return study_effects.measured(judged["verdicts"], options)


def _reaching(judged: Judged, options: Options) -> Figure:
    return study_runs.reaching(judged["verdicts"], options)


def _tuning(judged: Judged, options: Options) -> Figure:
    if not (judged["design"] or {}).get("grid", {}).get("axes"):
        raise FigureRefused("nothing_to_draw", "Nothing was tuned")
    return study_runs.tuning(judged["design"], judged["runs"], options)


def _learning(judged: Judged, options: Options) -> Figure:
    key = next((each["key"] for each in judged["series"]), None)
    if key is None:
        raise FigureRefused(
            "nothing_to_draw", "It is about no series over training, or has too many runs to tell apart"
        )
    return study_runs.learning([each for each in judged["series"] if each["key"] == key], key, options)


STUDY_FIGURES: dict[str, StudyFigure] = {
    one.name: one
    for one in (
        StudyFigure("effects", "Effects against their margins", "Effect and interval of every question.", _effects),
        StudyFigure("measured", "What was measured", "The numbers of questions that have no effect.", _measured),
        StudyFigure("reaching", "When the target was reached", "Kaplan and Meier's curve of every arm.", _reaching),
        StudyFigure("tuning", "What each setting came to", "Validation over the grid that was tuned, by arm.", _tuning),
        StudyFigure("learning", "How the arms learned", "The series that it is about over training.", _learning),
    )
}


def allowed(judged: Judged) -> list[StudyFigure]:
    """Those that what was judged allows."""
    return [one for one in STUDY_FIGURES.values() if _is_there(one, judged)]


def draw_judged(name: str, judged: Judged, options: Options | None = None) -> Figure:
    """A figure by its name. Raises `FigureRefused`."""
    return chosen(name, STUDY_FIGURES).draw(judged, options or Options())


def figure(asked: Mapping[str, Any], _blobs: Sequence[bytes]) -> bytes:
    """A figure: `name`, `options` (fields of `Options`), `format`, `scale`,
    `affordable_seconds`, `judged`. Raises `FigureRefused`."""
    from bncore.figures.drawing import drawn

    document = draw_judged(asked["name"], asked["judged"], Options(**asked["options"]))
    return drawn(document, asked["format"], asked["scale"], asked["affordable_seconds"])


def _is_there(one: StudyFigure, judged: Judged) -> bool:
    try:
        one.draw(judged, Options())
    except FigureRefused:
        return False
    return True
