"""What figures are made of: of each experiment its spec, its series and its recordings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from bncore.recording import Recording
from bncore.spec.wording import meant_or_all

Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Theme = Literal["light", "dark"]
One = TypeVar("One")

COLUMN_WIDTH = 330
"""Pixels: a column of a printed page, 3.3 inches, at 100 a inch."""


class Result(NamedTuple):
    """Of one experiment."""

    spec: Mapping[str, Any]
    """As it was submitted, complete; may be empty where there is one experiment only."""
    series: Mapping[str, tuple[Steps, Values]] = {}
    """Steps, which increase, and the values measured after them."""
    recordings: Mapping[str, Sequence[Recording]] = {}
    """By kind, in order of their steps."""
    ended: bool = True
    """Whether it has come to its end: of two with one seed, one that has is what counts."""


Results = Mapping[str, Result]
"""By the id of the experiment, in the order in which they are to be shown."""


@dataclass(frozen=True)
class Options:
    """How a figure is to look, and what of the results it shows."""

    theme: Theme = "light"
    width: int = COLUMN_WIDTH
    """Of the whole figure, in pixels."""
    keys: tuple[str, ...] = ()
    """Series; without any, the figure chooses."""
    log_y: bool = False
    traces: bool = False
    """Every single run beside the mean over seeds."""
    note: str = ""
    """What is to be said of what the results leave out."""


class FigureRefused(ValueError):
    """The results do not allow this figure; the text says why, `code` is for programs."""

    def __init__(self, code: str, detail: str, field: str | None = None) -> None:
        """`field` is what was asked for and would have to be otherwise, where that is one thing: `scale`."""
        super().__init__(detail)
        self.code, self.field = code, field


def chosen(name: str, there: Mapping[str, One]) -> One:
    """The figure of that name. Raises `FigureRefused`."""
    if name not in there:
        raise FigureRefused("no_such_figure", f"There is no figure {name}; {meant_or_all(name, there)}")
    return there[name]
