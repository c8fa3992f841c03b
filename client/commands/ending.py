"""`bnlab cancel`, `bnlab kill`, `bnlab delete`: one experiment, many, or all that a filter finds.

Invariant: nobody ends everything by leaving something out: without names it takes `--all` and a yes,
given at a terminal or as `--yes`. A sweep and a study are many experiments, and take that yes as well.
"""

import sys
from collections.abc import Callable, Collection
from itertools import islice
from typing import Annotated

import typer

from client.calls import TERMINAL
from client.commands.acting import NAMES_HELP, Experiments, ask_each, ids_of
from client.commands.connection import AsJson, Url, connect
from client.commands.filters import CreatedBefore, CreatedFrom, Name, States, Tags, filters_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import ask, emit, show
from client.errors import Json
from client.filters import Filters
from client.http import Client

LIVING = ("queued", "running", "paused")
MOST_COUNTED = 1000
DONE = {"cancel": "cancelled", "delete": "deleted"}

MaybeExperiments = Annotated[
    list[str] | None,
    typer.Argument(help=NAMES_HELP, metavar="EXPERIMENT", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="Instead of some by name: all that the filters find.")]
YesToMany = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before; needed without a terminal.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before. Without a terminal, --all needs it.")]


@reported
def cancel(
    experiments: MaybeExperiments = None,
    every: All = False,
    states: States = None,
    tags: Tags = None,
    name: Name = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Cancel experiments. A running one saves a checkpoint first; one that has ended stays as it is.

    Examples:

    bnlab cancel last

    bnlab cancel --all --tag sweep:lr --state queued --yes
    """
    filters = filters_of(states, tags, name, created_from, created_before)
    if _by_name(experiments, every, filters):
        ask_each(experiments or [], Client.cancel, url, as_json)
    else:
        with connect(url) as client:
            _to_all(client, "cancel", client.cancel_all, filters, LIVING, yes, as_json)


@reported
def kill(experiments: Experiments, url: Url = None, as_json: AsJson = False) -> None:
    """Cancel experiments without giving a running one a moment to save what it has reached.

    Example: bnlab kill last
    """
    ask_each(experiments, Client.kill, url, as_json)


@reported
def delete(
    experiments: MaybeExperiments = None,
    every: All = False,
    states: States = None,
    tags: Tags = None,
    name: Name = None,
    created_from: CreatedFrom = None,
    created_before: CreatedBefore = None,
    yes: Yes = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete experiments that have ended, with their metrics and checkpoints. There is no way back.

    Examples:

    bnlab delete digits-bn

    bnlab delete --all --state failed --created-before 2026-01-01 --yes
    """
    filters = filters_of(states, tags, name, created_from, created_before)
    with connect(url) as client:
        if _by_name(experiments, every, filters):
            _delete_each(client, ids_of(client, experiments or []), as_json)
        else:
            _to_all(client, "delete", client.delete_all, filters, sorted(TERMINAL), yes, as_json)


def require_yes(command: str, question: Callable[[], str], yes: bool) -> None:
    """Before many experiments are ended at once: a yes at the terminal, or `--yes`; ends the command without."""
    if yes:
        return
    if not sys.stdin.isatty():
        leave(Exit.USAGE, f"{command} asks before, and there is no terminal to ask at; say --yes. Nothing was done")
    if not ask(question()):
        leave(Exit.INTERRUPTED, "nothing was done")


def require_yes_to_all_of(noun: str, verb: str, look: Callable[[], Json], yes: bool) -> None:
    """The same for the experiments of a sweep or a study; `look` finds how it stands."""

    def question() -> str:
        one = look()
        return f"{verb} {one['id']} with its {experiments_in_words(one['experiments'])}?"

    require_yes(f"{noun} {verb}", question, yes)


def experiments_in_words(count: int) -> str:
    """So many of them."""
    return f"{count:,} experiment{'s' * (count != 1)}"


def _by_name(experiments: list[str] | None, every: bool, filters: Filters) -> bool:
    """Whether some are meant, and not all; ends the command when that is not clear."""
    if every and experiments:
        leave(Exit.USAGE, "--all goes with filters, not with names of experiments")
    if filters and not every:
        leave(Exit.USAGE, "filters need --all beside them")
    if not every and not experiments:
        leave(Exit.USAGE, "name the experiments, or say --all")
    return not every


def _delete_each(client: Client, experiment_ids: list[str], as_json: bool) -> None:
    for experiment_id in experiment_ids:
        client.delete(experiment_id)
        if not as_json:
            show(f"{experiment_id} deleted")
    if as_json:
        emit([{"id": experiment_id, "deleted": True} for experiment_id in experiment_ids])


def _to_all(
    client: Client,
    verb: str,
    act: Callable[..., int],
    filters: Filters,
    among: Collection[str],
    yes: bool,
    as_json: bool,
) -> None:
    require_yes(f"{verb} --all", lambda: f"{verb} {_count(client, filters, among)}?", yes)
    changed = act(everything=not filters, **filters)
    if as_json:
        emit({"changed": changed})
    else:
        show(f"{experiments_in_words(changed)} {DONE[verb]}" if changed else "nothing matched")


def _count(client: Client, filters: Filters, among: Collection[str]) -> str:
    meant: Filters = {**filters, "state": [state for state in filters.get("state") or among if state in among]}
    found = sum(1 for _ in islice(client.list(**meant), MOST_COUNTED + 1)) if meant["state"] else 0
    return f"more than {MOST_COUNTED:,} experiments" if found > MOST_COUNTED else experiments_in_words(found)
