"""`bnlab sweep results`: what a sweep came to, a row a point."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import reported
from client.commands.output import emit, emit_csv, inline, show, table, words
from client.commands.sweeps import SweepId, sweep_id_of
from client.errors import Json

_COUNTS = ("mean", "sd", "n", "not_reached", "diverged", "not_finite", "missing")
Measures = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="As for `bnlab compare`. Repeatable.", metavar="NAME", show_default=False),
]


@reported
def sweep_results(
    wanted: SweepId,
    measures: Measures = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="Intervals of the means, such as 0.95.", show_default=False)
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output: a row a point.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a table of a sweep: a row a point, mean ± sd over seeds.

    Example: bnlab sweep results last -m test/accuracy
    """
    with connect(url) as client:
        found = client.sweep_results(sweep_id_of(client, wanted), measures or (), confidence=confidence)
    if as_json:
        emit(found)
    elif as_csv:
        emit_csv(_csv_rows(found))
    else:
        _print_results(found)


def _print_results(found: Json) -> None:
    has_arms = bool(found["arms"])
    is_pruned = any(point.get("pruned") for point in found["points"])
    columns = [*map(inline, found["axes"]), *(["arm"] if has_arms else []), *map(inline, found["measures"])]
    rows = [
        [
            *(_said(point["values"][path]) for path in found["axes"]),
            *([point["arm"]] if has_arms else []),
            *(_cell(point["measures"][name]) for name in found["measures"]),
            point["n"],
            point["diverged"] or None,
            point["censored"] or None,
            sum(point["unfinished"].values()) or None,
            *([_pruned(point)] if is_pruned else []),
        ]
        for point in found["points"]
    ]
    show(table([*columns, "n", "diverged", "censored", "unfinished", *(["pruned"] if is_pruned else [])], rows))


def _pruned(point: Json) -> str | None:
    ended = point["pruned"]
    return None if ended is None else f"step {ended['step']:,}, {ended['rank']:,} of {ended['of']:,}"


def _cell(cell: Json) -> str:
    mean, sd = cell["mean"], cell["sd"]
    text = "-" if mean is None else words(float(mean)) if sd is None else f"{mean:.4g} ± {sd:.2g}"
    interval = cell.get("interval")
    return text if interval is None else f"{text} [{interval[0]:.4g}, {interval[1]:.4g}]"


def _said(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else words(value)


def _csv_rows(found: Json) -> Iterator[list[Any]]:
    cells = [point["measures"][name] for point in found["points"] for name in found["measures"]]
    ends = ("low", "high") if any(cell.get("interval") for cell in cells) else ()
    names = [f"{name} {count}" for name in found["measures"] for count in (*_COUNTS, *ends)]
    yield ["point", "arm", *found["axes"], *names, "n", "diverged", "censored", "unfinished", "pruned", "experiments"]
    for point in found["points"]:
        values = (point["values"][path] for path in found["axes"])
        yield [
            point["point"],
            point["arm"],
            *(json.dumps(value) if isinstance(value, dict | list | bool) else value for value in values),
            *(number for name in found["measures"] for number in _numbers(point["measures"][name], len(ends))),
            point["n"],
            point["diverged"],
            point["censored"],
            sum(point["unfinished"].values()),
            None if point["pruned"] is None else point["pruned"]["step"],
            " ".join(point["experiments"]),
        ]


def _numbers(cell: Json, ends: int) -> list[Any]:
    return [*(cell[count] for count in _COUNTS), *(cell.get("interval") or [None, None])[:ends]]
