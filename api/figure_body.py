"""What is said of a figure of several experiments."""

from typing import Annotated, Literal

from pydantic import Field

from bncore.figures import FIGURES
from bncore.figures.curves import MOST_SERIES
from bncore.figures.results import COLUMN_WIDTH
from bncore.spec.strict import SpecModel, Text

MOST_EXPERIMENTS = 200
MOST_PIXELS = 3200
"""Across a PNG: memory grows with the square of it. Its time is estimated besides (`bncore.figures.affording`)."""

Width = Annotated[int, Field(ge=200, le=1600, description="Of the whole, in pixels; 330 is a column of a page.")]
Scale = Annotated[
    float,
    Field(ge=0.5, le=4.0, description=f"Of a PNG: how many pixels a pixel has; {MOST_PIXELS} across at most."),
]
Log = Annotated[bool, Field(description="Of `curves`: a logarithmic axis.")]
_Key = Annotated[Text, Field(min_length=1, max_length=200)]
_Tag = Annotated[Text, Field(min_length=1, max_length=64 + 1 + 512)]


class FigureOfSeveral(SpecModel):
    """A figure of several experiments; those that differ in the seed alone are one line, the mean of them."""

    name: Text = Field(min_length=1, max_length=64, description=f"One of {', '.join(FIGURES)}.")
    experiments: list[Annotated[Text, Field(max_length=64)]] | None = Field(
        default=None, min_length=1, max_length=MOST_EXPERIMENTS, description="Their ids, in the order of the legend."
    )
    tag: list[_Tag] | _Tag | None = Field(
        default=None, description="Instead of ids: `key:value`, or `key` alone; of several all must hold."
    )
    keys: list[_Key] = Field(default=[], max_length=MOST_SERIES, description="Series of `curves`.")
    format: Literal["json", "html", "svg", "png"] = "json"
    theme: Literal["light", "dark"] = "light"
    width: Width = COLUMN_WIDTH
    scale: Scale = 2.0
    log_y: Log = False
    traces: bool = Field(default=False, description="Of `curves`: every run beside the mean over seeds.")

    @property
    def tags(self) -> list[str]:
        """As a list."""
        return [self.tag] if isinstance(self.tag, str) else self.tag or []
