"""`bnlab metrics`: series as numbers, in a table, as JSON or as CSV."""

import csv
import io
import math
from collections.abc import Iterable
from typing import Annotated

import typer

from bncore.spec.wording import nearest
from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, pass_on, show, table
from client.http import Client
from client.numbers import encoded
from client.printable import one_line
from client.series import Series

FEWEST_POINTS = 10

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key", "-k", help="A series, e.g. test/accuracy; repeatable. Without it, all of them.", metavar="KEY"
    ),
]
First = Annotated[int | None, typer.Option("--first-step", min=0, help="Leave out earlier steps.", metavar="STEP")]
Last = Annotated[int | None, typer.Option("--last-step", min=0, help="Leave out later steps.", metavar="STEP")]
MaxPoints = Annotated[
    int | None,
    typer.Option(
        "--max-points", min=FEWEST_POINTS, help="Thin each series to so many points; spikes stay.", metavar="N"
    ),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV on standard output: key, step, value, a line a point.")]


@reported
def metrics(
    experiment: ExperimentId,
    keys: Keys = None,
    first_step: First = None,
    last_step: Last = None,
    max_points: MaxPoints = None,
    url: Url = None,
    as_json: AsJson = False,
    as_csv: AsCsv = False,
) -> None:
    """Show metric series: a summary of each, or with --json or --csv every point.

    Example: bnlab metrics last -k train/loss -k test/accuracy --json
    """
    if as_json and as_csv:
        leave(Exit.USAGE, "--json or --csv, not both")
    with connect(url) as client:
        bounds = {"first_step": first_step, "last_step": last_step, "max_points": max_points}
        experiment_id = id_of(client, experiment)
        found = client.metrics(experiment_id, keys or (), **bounds)
        if empty := [key for key in keys or () if not len(found.get(key, ()))]:
            _require_written(client, experiment_id, empty)
    if as_json:
        emit({key: _points(series) for key, series in found.items()})
        return
    if as_csv:
        pass_on(_csv(found.values()))
        return
    columns = ("series", "points", "first step", "last step", "first", "min", "max", "last")
    show(table(columns, [_row(series) for series in found.values()]))


def _require_written(client: Client, experiment_id: str, keys: list[str]) -> None:
    """To the server a series that never was is an empty one, as is one without a point in the steps asked for."""
    written = client.metrics(experiment_id, max_points=FEWEST_POINTS)
    if missing := [key for key in keys if key not in written]:
        named = ", ".join(f"'{one_line(key)}'" for key in missing)
        there = f"it has {', '.join(one_line(key) for key in sorted(written))}" if written else "it has none yet"
        if close := nearest(missing[0], written):
            there = f"did you mean {one_line(close)}? {there.capitalize()}"
        leave(Exit.REFUSED, f"{experiment_id} has no series {named}; {there}")


def _csv(found: Iterable[Series]) -> str:
    """A row a point, as the server writes its tables."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("key", "step", "value"))
    for series in found:
        values = map(encoded, series.values.tolist())
        writer.writerows((series.key, step, value) for step, value in zip(series.steps.tolist(), values, strict=True))
    return text.getvalue().replace("\r\n", "\n")


def _points(series: Series) -> dict[str, object]:
    return {"steps": series.steps.tolist(), "values": series.values.tolist(), "count": series.count}


def _row(series: Series) -> list[object]:
    if not len(series):
        return [series.key, 0, *[None] * 6]
    steps, values = series.steps.tolist(), series.values.tolist()
    finite = [value for value in values if math.isfinite(value)] or [math.nan]
    return [series.key, series.count, steps[0], steps[-1], values[0], min(finite), max(finite), values[-1]]
