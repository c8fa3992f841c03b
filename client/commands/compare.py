"""`bnlab compare`: experiments side by side, mean and deviation over seeds."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bncore.comparison.measure import NO_SERIES, series_key
from client import Client
from client.commands.connection import AsJson, Url, connect
from client.commands.figure import drawable
from client.commands.filters import Name, tag_of
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, emit_csv, inline, show, table, tell, words
from client.commands.target import target_option
from client.errors import Json
from client.printable import one_line

Wanted = Annotated[
    list[str] | None,
    typer.Argument(help="Experiments, each by id, the beginning of that, or name.", metavar="[EXPERIMENT]..."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="All with this tag; repeatable, all of them.", metavar="KEY[=VALUE]"),
]
Measures = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-m",
        help="A series, for its last value; with :min, :max, :first for another; best, steps_to_target, seconds. "
        "Repeatable.",
        metavar="NAME",
    ),
]
Sort = Annotated[
    str | None,
    typer.Option("--sort", help="By a metric, or a path such as optimizer.lr; -NAME downwards.", metavar="NAME"),
]
Target = Annotated[
    Path | None,
    target_option(
        "--output",
        "-o",
        help="Also draw their curves into a file, of the series named by --metric; the suffix says the format.",
        metavar="FILE",
        show_default=False,
    ),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="CSV on standard output: a row a group, mean, sd and n apart.")]


@reported
def compare(
    wanted: Wanted = None,
    tags: Tags = None,
    name: Name = None,
    measures: Measures = None,
    sort: Sort = None,
    as_csv: AsCsv = False,
    output: Target = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Compare experiments: a row for all whose specs differ in the seed alone, mean ± sd over seeds.

    Examples:

    bnlab compare --tag paper=1702.03275 --sort -best

    bnlab compare bn-0 bn-1 ln-0 ln-1 -m test/loss -m test/accuracy:max --csv

    bnlab compare --tag question=placement -m test/accuracy -o curves.png
    """
    target = None if output is None else drawable(output)
    if not wanted and not tags and name is None:
        leave(Exit.USAGE, "name experiments, or give --tag or --name")
    with connect(url) as client:
        ids = [id_of(client, one) for one in wanted or ()]
        asked: dict[str, Any] = {"tags": [tag_of(tag) for tag in tags or ()], "measures": measures or ()}
        found = client.compare(ids, name=name, sort=sort, **asked)
        if target is not None and found["groups"]:
            _draw(client, found, measures or (), target)
    if as_json:
        emit(found)
    elif as_csv:
        emit_csv(_csv_rows(found))
    elif not found["groups"]:
        asked_for = [*(f"the tag {one_line(tag)}" for tag in tags or ()), *([] if name is None else ["such a name"])]
        tell(f"There is no experiment with {' and '.join(asked_for)}; `bnlab show` says which tags one has.")
    else:
        _print(found)
    if not as_json:
        for warning in found["warnings"]:
            tell(f"Note: {one_line(warning)}")


def _draw(client: Client, found: Json, measures: Sequence[str], target: Path) -> None:
    """The curves of all that are compared, which are told apart as the rows of the table are."""
    ids = [run["id"] for group in found["groups"] for run in group["runs"]]
    keys = dict.fromkeys(series_key(name) for name in measures if name not in NO_SERIES)
    client.figure(ids, keys=list(keys)).save(target)
    tell(f"Curves are in {one_line(str(target))}")


def _print(found: Json) -> None:
    paths = [path for path in found["paths"] if path not in found["following"]]
    columns = [*map(inline, paths), *map(inline, found["measures"]), "n", "ended by"]
    rows = [
        [
            *(_said(group["where"].get(path)) for path in paths),
            *(_cell(group["measures"][name]) for name in found["measures"]),
            group["n"],
            _ends(group),
        ]
        for group in found["groups"]
    ]
    show(table(columns, rows))
    for kind in dict.fromkeys(found["following"].values()):
        along = ", ".join(path for path, decided in found["following"].items() if decided == kind)
        tell(f"Along with {one_line(kind)} differ: {one_line(along)}")


def _said(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        kind = inline(value["kind"]) if "kind" in value else ""
        rest = ", ".join(f"{inline(key)} {_said(inner) or 'none'}" for key, inner in value.items() if key != "kind")
        return f"{kind} ({rest})" if kind and rest else kind or rest
    return json.dumps(value) if isinstance(value, list) else words(value)


def _cell(cell: Json) -> str:
    """Mean and deviation, and how many of the runs are not in them."""
    mean, sd = cell["mean"], cell["sd"]
    text = "-" if mean is None else words(float(mean)) if sd is None else f"{mean:.4g} ± {sd:.2g}"
    of = sum(cell[reason] for reason in ("n", "not_reached", "diverged", "not_finite", "missing"))
    beside = [
        f"{said} in {cell[reason]} of {of}"
        for reason, said in (("not_reached", "not reached"), ("not_finite", "not finite"), ("missing", "missing"))
        if cell[reason] and not (reason == "missing" and not cell["n"])
    ]
    return f"{text} ({', '.join(beside)})" if beside else text


def _ends(group: Json) -> str:
    ended = [f"{count} {reason}" for reason, count in group["stop_reasons"].items()]
    return ", ".join([*ended, *(f"{count} {state}" for state, count in group["unfinished"].items())])


def _csv_rows(found: Json) -> Iterator[list[Any]]:
    counts = ("mean", "sd", "n", "not_reached", "diverged", "not_finite", "missing")
    yield [*found["paths"], *(f"{name} {count}" for name in found["measures"] for count in counts), "n", "experiments"]
    for group in found["groups"]:
        cells = (group["measures"][name][count] for name in found["measures"] for count in counts)
        ids = " ".join(run["id"] for run in group["runs"])
        where = (group["where"].get(path) for path in found["paths"])
        yield [
            *(json.dumps(value) if isinstance(value, dict | list) else value for value in where),
            *cells,
            group["n"],
            ids,
        ]
