"""`bnlab cancel` and `bnlab delete`: one or many experiments."""

from typing import Annotated

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.naming import id_of
from client.commands.outcome import reported
from client.commands.output import coloured, emit, inline, show
from client.http import Client

Experiments = Annotated[
    list[str],
    typer.Argument(
        help="Experiments: ids, beginnings of ids, names, or `last` for the newest.",
        metavar="EXPERIMENT...",
        show_default=False,
    ),
]


@reported
def cancel(experiments: Experiments, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel experiments. A running one saves a checkpoint first; one that has ended stays as it is.

    Example: bnlab cancel last
    """
    with connect(url) as client:
        answers = [client.cancel(experiment_id) for experiment_id in _ids(client, experiments)]
    if as_json:
        emit(answers)
        return
    for answer in answers:
        asked = "(asked to stop)" if answer.get("desired") else ""
        show(inline(answer["id"]), coloured(answer), asked)


@reported
def delete(experiments: Experiments, url: Url = None, as_json: AsJson = False) -> None:
    """Delete experiments that have ended, with their metrics and checkpoints. There is no way back.

    Example: bnlab delete digits-bn
    """
    with connect(url) as client:
        experiment_ids = _ids(client, experiments)
        for experiment_id in experiment_ids:
            client.delete(experiment_id)
            if not as_json:
                show(f"{experiment_id} deleted")
    if as_json:
        emit([{"id": experiment_id, "deleted": True} for experiment_id in experiment_ids])


def _ids(client: Client, experiments: list[str]) -> list[str]:
    """All of them before anything is done to the first: which is `last` must not change on the way."""
    return list(dict.fromkeys(id_of(client, experiment) for experiment in experiments))
