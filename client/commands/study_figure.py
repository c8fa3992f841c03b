"""`bnlab study figure`: a picture of what a study came to, or which there are."""

from pathlib import Path
from typing import Annotated, Any

from client.commands.connection import AsJson, Url, connect
from client.commands.figure import Name, Scale, Theme, Width, drawable, list_figures
from client.commands.outcome import reported
from client.commands.output import emit, inline, show
from client.commands.study_outcome import StudyId, study_id_of
from client.commands.target import target_option

Target = Annotated[Path | None, target_option("--output", "-o", help="By default NAME.png.", metavar="PATH")]


@reported
def study_figure(
    wanted: StudyId,
    name: Name = None,
    output: Target = None,
    theme: Theme = None,
    width: Width = None,
    scale: Scale = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Draw a figure of a study that was judged into a file: effects, measured, reaching, tuning or learning; without a
    name, list what can be drawn.

    Example: bnlab study figure last effects -o effects.svg
    """
    target = drawable(output or Path(f"{name}.png"))
    said: dict[str, Any] = {"theme": theme, "width": width, "scale": scale}
    look = {key: value for key, value in said.items() if value is not None}
    with connect(url) as client:
        study_id = study_id_of(client, wanted)
        if name is None:
            list_figures(client, study_id, as_json)
            return
        path = client.figure(study_id, name, **look).save(target)
    if as_json:
        emit({"path": str(path), "name": name, "study": study_id})
    else:
        show(inline(path))
