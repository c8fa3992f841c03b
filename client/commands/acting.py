"""What the commands that ask something of one or many experiments have in common."""

from collections.abc import Callable
from typing import Annotated

import typer

from client.commands.connection import connect
from client.commands.naming import job_of
from client.commands.output import coloured, emit, inline, show
from client.errors import Json
from client.http import Client

NAMES_HELP = "Experiments: ids, beginnings of ids, names, or `last` for the newest; data sets, evaluations: ids."

Experiments = Annotated[list[str], typer.Argument(help=NAMES_HELP, metavar="EXPERIMENT", show_default=False)]


def ids_of(client: Client, experiments: list[str]) -> list[str]:
    """All of them before anything is done to the first: which is `last` must not change on the way."""
    return list(dict.fromkeys(job_of(client, experiment) for experiment in experiments))


def ask_each(experiments: list[str], ask: Callable[[Client, str], Json], url: str | None, as_json: bool) -> None:
    """Ask the same of each, and show how it stands then."""
    answers = []
    with connect(url) as client:
        for experiment_id in ids_of(client, experiments):
            answers.append(ask(client, experiment_id))
            if not as_json:
                _show(answers[-1])
    if as_json:
        emit(answers)


def _show(experiment: Json) -> None:
    desired = experiment.get("desired")
    asked = [f"(asked to {inline(desired)})"] if desired else []
    show(inline(experiment["id"]), coloured(experiment), *asked)
