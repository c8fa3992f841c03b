"""Figures of sweeps by name, and how they are drawn in a process of their own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bncore.figures.document import Figure
from bncore.figures.parallel import parallel_coordinates
from bncore.figures.results import Options, chosen
from bncore.figures.sensitivity import sensitivity
from bncore.figures.swept import Swept, swept_of
from bncore.figures.swept_map import heat_map


@dataclass(frozen=True)
class SweepFigure:
    """A figure of a sweep's table."""

    name: str
    title: str
    draw: Callable[..., Figure]
    takes: frozenset[str]
    """Which axes can be said: x, y."""
    axes: int
    """With several values, that it needs; an arm counts as one where there is no such axis."""

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return (self.draw.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")


SWEEP_FIGURES: dict[str, SweepFigure] = {
    one.name: one
    for one in (
        SweepFigure("sensitivity", "A measure over one axis", sensitivity, frozenset({"x"}), 1),
        SweepFigure("heat_map", "A measure over two axes", heat_map, frozenset({"x", "y"}), 2),
        SweepFigure("parallel_coordinates", "All points", parallel_coordinates, frozenset(), 1),
    )
}


def draw_swept(name: str, swept: Swept, options: Options | None = None, **axes: str) -> Figure:
    """A figure by its name. Raises `FigureRefused`."""
    return chosen(name, SWEEP_FIGURES).draw(swept, options or Options(), **axes)


def figure(asked: Mapping[str, Any], _blobs: Sequence[bytes]) -> bytes:
    """A figure: `name`, `options` (fields of `Options`), `axes`, `format`, `scale`,
    `affordable_seconds`, `sweep` (`swept_of`).

    Raises `FigureRefused`.
    """
    from bncore.figures.drawing import drawn

    options = Options(**asked["options"])
    document = draw_swept(asked["name"], swept_of(asked["sweep"]), options, **asked["axes"])
    return drawn(document, asked["format"], asked["scale"], asked["affordable_seconds"])
