"""`bnlab sweep figure`: a picture of a sweep, or which there are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.figure import Keys, LogY, Name, Scale, Theme, Width, drawable, list_figures
from client.commands.outcome import reported
from client.commands.output import emit, inline, show
from client.commands.sweeps import SweepId, sweep_id_of
from client.commands.target import target_option

Measure = Annotated[
    str | None, typer.Option("--metric", "-m", help="As for `bnlab sweep results`.", metavar="NAME", show_default=False)
]
Axis = typer.Option(help="An axis of the sweep, such as optimizer.lr.", metavar="PATH", show_default=False)
Target = Annotated[Path | None, target_option("--output", "-o", help="By default NAME.png.", metavar="PATH")]


@reported
def sweep_figure(
    wanted: SweepId,
    name: Name = None,
    measure: Measure = None,
    x: Annotated[str | None, Axis] = None,
    y: Annotated[str | None, Axis] = None,
    keys: Keys = None,
    output: Target = None,
    theme: Theme = None,
    width: Width = None,
    scale: Scale = None,
    log_y: LogY = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Draw a figure of a sweep into a file: curves, sensitivity, heat_map or parallel_coordinates; without a name, list
    what can be drawn.

    Example: bnlab sweep figure last heat_map -m validation/accuracy -o map.svg
    """
    target = drawable(output or Path(f"{name}.png"))
    said: dict[str, Any] = {"measure": measure, "x": x, "y": y, "theme": theme, "width": width, "scale": scale}
    look = {key: value for key, value in {**said, "log_y": log_y or None}.items() if value is not None}
    with connect(url) as client:
        sweep_id = sweep_id_of(client, wanted)
        if name is None:
            list_figures(client, sweep_id, as_json)
            return
        path = client.figure(sweep_id, name, keys=keys or [], **look).save(target)
    if as_json:
        emit({"path": str(path), "name": name, "sweep": sweep_id})
    else:
        show(inline(path))
