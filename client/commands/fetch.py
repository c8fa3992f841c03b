"""`bnlab fetch`: download a checkpoint, checked."""

from pathlib import Path
from typing import Annotated

import typer

from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, inline, show
from client.commands.target import target_option
from client.download import pick

Which = Annotated[str, typer.Option("--checkpoint", "-c", help="best, last, or a checkpoint's id.", metavar="WHICH")]
Target = Annotated[Path, target_option("--output", "-o", help="A file, or a directory that exists.", metavar="PATH")]


@reported
def fetch(
    experiment: ExperimentId,
    which: Which = "best",
    output: Target = Path("."),
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Download a checkpoint (safetensors). It appears under its name only when size and sha256 are right.

    Example: bnlab fetch last -c best -o model.safetensors
    """
    if not output.is_dir() and not output.parent.is_dir():
        leave(Exit.USAGE, f"{output.parent} is not a directory")
    with connect(url) as client:
        experiment_id = id_of(client, experiment)
        checkpoint = pick(list(client.checkpoints(experiment_id)), which, experiment_id)
        path = client.download(experiment_id, checkpoint, output)
    if as_json:
        emit({"path": str(path), "checkpoint": checkpoint})
    else:
        show(
            f"{inline(path)} [dim]{inline(checkpoint['kind'])}, step {checkpoint['step']:,}, "
            f"sha256 {inline(checkpoint['sha256'])}[/]"
        )
