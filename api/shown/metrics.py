"""The points of an experiment's series."""

from pydantic import Field

from api.shown import Real, Shown


class MetricSeries(Shown):
    """Points in the order of their steps."""

    steps: list[int]
    values: list[Real]
    count: int = Field(description="Points in the range, before any were left out for max_points.")


class Metrics(Shown):
    series: dict[str, MetricSeries]
    missing: list[str] = Field(
        default=[], description="Keys that were asked for and of which the experiment has no point so far, at any step."
    )
    there_are: list[str] = Field(default=[], description="Where some are missing: the keys that have points.")
