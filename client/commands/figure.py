"""`bnlab figure`: a picture of results, or which there are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.filters import tag_of
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, inline, show, table
from client.commands.target import target_option
from client.figures import FORMATS
from client.http import Client

Wanted = Annotated[
    str | None,
    typer.Argument(
        help="An experiment: its id, the beginning of that, its name, or `last` for the newest. Left out with --tag.",
        show_default=False,
        metavar="[EXPERIMENT]",
    ),
]
Name = Annotated[str | None, typer.Argument(help="Which figure; without it, they are listed.", show_default=False)]
Others = Annotated[
    list[str] | None,
    typer.Option("--with", help="Another experiment in the same figure; repeatable.", metavar="EXPERIMENT"),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", help="All experiments with this tag; repeatable, all of them.", metavar="KEY[=VALUE]"),
]
Keys = Annotated[list[str] | None, typer.Option("--key", "-k", help="A series of curves; repeatable.", metavar="KEY")]
Target = Annotated[
    Path | None,
    target_option("--output", "-o", help="A file; .png, .svg, .html or .json. By default NAME.png.", metavar="PATH"),
]
Theme = Annotated[str | None, typer.Option("--theme", help="light or dark.", metavar="THEME", show_default=False)]
Width = Annotated[int | None, typer.Option("--width", help="In pixels; 330 is a column.", show_default=False)]
Scale = Annotated[float | None, typer.Option("--scale", help="Of a PNG: pixels a pixel.", show_default=False)]
LogY = Annotated[bool, typer.Option("--log-y", help="A logarithmic axis, for curves.")]
Traces = Annotated[bool, typer.Option("--traces", help="Every run beside the mean over seeds, for curves.")]


@reported
def figure(
    experiment: Wanted = None,
    name: Name = None,
    others: Others = None,
    tags: Tags = None,
    keys: Keys = None,
    output: Target = None,
    theme: Theme = None,
    width: Width = None,
    scale: Scale = None,
    log_y: LogY = False,
    traces: Traces = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Draw a figure of an experiment, or of several in one, into a file; without a name, list what can be drawn.

    Examples:

    bnlab figure last curves -k test/accuracy -o curves.png

    bnlab figure curves --tag question=placement -o curves.png
    """
    experiment, name = _told_apart((experiment, name), others, tags)
    target = drawable(output or Path(f"{name}.png"))
    said: dict[str, Any] = {"theme": theme, "width": width, "scale": scale}
    said |= {"log_y": log_y or None, "traces": traces or None, "tags": list(map(tag_of, tags or ())) or None}
    look = {key: value for key, value in said.items() if value is not None}
    with connect(url) as client:
        experiments = [id_of(client, one) for one in (experiment, *(others or ())) if one is not None]
        if name is None:
            list_figures(client, experiments[0], as_json)
            return
        path = client.figure(experiments or None, name, keys=keys or [], **look).save(target)
    if as_json:
        emit({"path": str(path), "name": name, "experiments": experiments, "tags": look.get("tags", [])})
    else:
        show(inline(path))


def drawable(target: Path) -> Path:
    """A file in whose format figures are drawn; ends the command for another one."""
    if target.suffix.removeprefix(".").lower() not in FORMATS:
        leave(Exit.USAGE, f"{target}: the suffix says the format, and is one of {', '.join(FORMATS)}")
    return target


def list_figures(client: Client, of: str, as_json: bool) -> None:
    """Which figures there are of an experiment or a sweep."""
    found = client.figures(of)
    if as_json:
        emit(found)
        return
    show(table(("figure", "shows"), [(one["name"], one["summary"]) for one in found]))


def _told_apart(
    words: tuple[str | None, str | None], others: list[str] | None, tags: list[str] | None
) -> tuple[str | None, str | None]:
    """Experiment and name of the figure. With tags there is no experiment, and the only word is the name."""
    first, second = words
    if not tags:
        return words if first is not None else leave(Exit.USAGE, "name an experiment, or give --tag")
    if first is None or second is not None or others:
        leave(Exit.USAGE, "with --tag goes the name of a figure, such as curves, and no experiment")
    return None, first
