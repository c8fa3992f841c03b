"""`bnlab cancel` and `bnlab delete`: one or many experiments."""

from typing import Annotated

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.outcome import reported
from client.commands.output import coloured, emit, show

Ids = Annotated[list[str], typer.Argument(help="As `list` shows them.", metavar="ID...", show_default=False)]


@reported
def cancel(experiment_ids: Ids, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel experiments. A running one saves a checkpoint first; one that has ended stays as it is.

    Example: bnlab cancel exp_0197...
    """
    with connect(url) as client:
        answers = [client.cancel(experiment_id) for experiment_id in experiment_ids]
    if as_json:
        emit(answers)
        return
    for answer in answers:
        asked = " (asked to stop)" if answer.get("desired") else ""
        show(f"{answer['id']} {coloured(answer['state'])}{asked}")


@reported
def delete(experiment_ids: Ids, url: Url = None, as_json: AsJson = False) -> None:
    """Delete experiments that have ended, with their metrics and checkpoints. There is no way back.

    Example: bnlab delete exp_0197...
    """
    with connect(url) as client:
        for experiment_id in experiment_ids:
            client.delete(experiment_id)
            if not as_json:
                show(f"{experiment_id} deleted")
    if as_json:
        emit([{"id": experiment_id, "deleted": True} for experiment_id in experiment_ids])
