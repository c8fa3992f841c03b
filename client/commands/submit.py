"""`bnlab submit` and `bnlab wait`: queue an experiment, and see it through."""

from typing import Annotated

import typer

from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import bars, emit, inline, show, tell, warn_of
from client.commands.show import print_results
from client.commands.spec_file import Assignments, SpecFile, faults_located, load
from client.errors import Json, Unreachable
from client.http import Client

Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended, with a progress bar.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        min=0.0,
        help="Give up waiting after so many seconds; the experiment stays as it is.",
        metavar="SECONDS",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key", help="Submitting again with the same key returns the same experiment.", metavar="TEXT"
    ),
]


@reported
def submit(
    file: SpecFile,
    assignments: Assignments = None,
    wait: Wait = False,
    timeout: Timeout = None,
    idempotency_key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Queue an experiment.

    Examples:

    bnlab submit digits.yaml --wait

    bnlab submit digits.yaml --set optimizer.lr=0.1 --set name=slow --json

    cat spec.json | bnlab submit -
    """
    document = load(file, assignments)
    with connect(url) as client:
        with faults_located(file, document):
            experiment = client.submit(with_dataset_ids(client, document.value), idempotency_key=idempotency_key)
        announce(experiment, as_json, wait)
        if wait:
            see_through(client, experiment, timeout, as_json)


@reported
def wait_for(experiment: ExperimentId, timeout: Timeout = None, url: Url = None, as_json: AsJson = False) -> None:
    """Wait until an experiment has ended, and show its results.

    Example: bnlab wait last --timeout 600
    """
    with connect(url) as client:
        see_through(client, client.get(id_of(client, experiment)), timeout, as_json)


def announce(experiment: Json, as_json: bool, wait: bool) -> None:
    """Say what was submitted, and what of it may not be meant so."""
    warn_of(experiment)
    if not as_json:
        show(f"{inline(experiment['id'])} [dim]{inline(experiment['state'])} on {inline(experiment['device'])}[/]")
    elif not wait:
        emit(experiment)
    else:
        # Standard output is one JSON document, and that comes at the end.
        tell(experiment["id"])


def see_through(client: Client, experiment: Json, timeout: float | None, as_json: bool) -> None:
    """Stay until the end, show the results, and end the command as the experiment did."""
    experiment_id, state = experiment["id"], None

    def follow(results: Json) -> None:
        nonlocal state
        shown.update(results)
        if results["state"] == "paused" != state:
            tell(f"{experiment_id} is paused; `bnlab resume {experiment_id}` lets it go on.")
        state = results["state"]

    try:
        with bars(shown=not as_json) as shown:
            shown.add(experiment)
            results = client.wait(experiment_id, timeout, follow)
    except (KeyboardInterrupt, Unreachable):
        tell(
            f"{experiment_id} {'is paused' if state == 'paused' else 'goes on'}. "
            f"`bnlab wait {experiment_id}` waits again, `bnlab cancel {experiment_id}` ends it."
        )
        raise
    if as_json:
        emit(results)
    else:
        print_results(results)
    if results["state"] != "succeeded":
        leave(Exit.ENDED_BADLY)
