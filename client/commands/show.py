"""`bnlab show`: one experiment, its results and what happened to it."""

import json
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import id_of
from client.commands.outcome import reported
from client.commands.output import (
    coloured,
    emit,
    inline,
    message,
    minute,
    place_in_queue,
    show,
    table,
    time_left,
    words,
)
from client.errors import ApiError, Json
from client.http import Client
from client.printable import one_line

MOST_CLASSES = 20
WithSpec = Annotated[bool, typer.Option("--spec", help="Print the complete spec alone, ready to be submitted again.")]
WithEvents = Annotated[bool, typer.Option("--events", help="Add the log of what happened.")]


@reported
def show_experiment(
    wanted: ExperimentId,
    spec: WithSpec = False,
    events: WithEvents = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show an experiment: state, results, checkpoints.

    Examples:

    bnlab show last --events

    bnlab show digits-bn --spec > again.json
    """
    with connect(url) as client:
        experiment_id = id_of(client, wanted)
        experiment = client.get(experiment_id)
        if spec:
            emit(experiment["spec"])
            return
        results = client.results(experiment_id)
        log = list(client.events(experiment_id)) if events else None
        classes = None if as_json else _classes(client, (experiment.get("spec") or {}).get("data") or {})
    if as_json:
        emit({"experiment": experiment, "results": results} | ({} if log is None else {"events": log}))
        return
    print_results(results)
    show(inline(_standing(experiment)))
    if classes:
        show(f"classes: {inline(classes)}")
    tags = ", ".join(inline(f"{key}: {value}") for key, value in experiment["tags"].items())
    show(f"submitted {inline(minute(experiment['created_at']))} UTC{f'; tags {tags}' if tags else ''}")
    if log is not None:
        rows = [
            (line["at"][:19].replace("T", " "), line["kind"], line.get("message") or _short(line.get("data")))
            for line in log
        ]
        show(table(("at (UTC)", "event", "what"), rows))


def print_results(results: Json) -> None:
    """The results of an experiment for people."""
    progress, summary = results["progress"], results["summary"]
    name = f" {inline(results['name'])}" if results.get("name") else ""
    stop_reason = results.get("stop_reason")
    reason = f" ({one_line(str(stop_reason))})" if stop_reason not in (None, "diverged") else ""
    steps = f"{reason}, step {progress['step']:,} of {progress['total_steps']:,}"
    show(Text.from_markup(f"{inline(results['id'])}{name}: ").append_text(coloured(results)).append(steps))
    if results.get("failure"):
        show(f"[red]{inline(results['failure']['code'])}[/]: {message(results['failure']['message'])}")
    found = list(_found(summary))
    if found:
        show(table(("result", "value"), found))
    print_warnings(results)
    if results["checkpoints"]:
        rows = [(entry["id"], entry["kind"], entry["step"], entry["size"]) for entry in results["checkpoints"]]
        show(table(("checkpoint", "kind", "step", "bytes"), rows))


def _classes(client: Client, data: Json) -> str | None:
    """What the classes of a data set of one's own are called; None where it has none, or is not there any more."""
    if data.get("kind") != "dataset":
        return None
    try:
        names = client.dataset(str(data["id"])).get("classes") or ()
    except ApiError as error:
        if error.status != 404:
            raise
        return None
    named = [f"{number} {name}" for number, name in enumerate(names[:MOST_CLASSES])]
    return ", ".join(named) + (", ..." if len(names) > MOST_CLASSES else "") or None


def print_warnings(results: Json) -> None:
    """What is wrong with the normalizations, in words."""
    for warning in results.get("warnings") or ():
        show(f"[yellow]warning:[/] {message(warning)}")


def _found(summary: Json) -> Iterator[tuple[str, str]]:
    """The lines of a summary: its own numbers, then the evaluated series that those do not say."""
    said = {"test/accuracy", "test/loss"}  # at the end; the best of the accuracy is a number of the summary, too
    for key, value in summary.items():
        if isinstance(value, int | float | str):
            yield key.replace("_", " "), words(value)
    best = summary.get("best")
    if isinstance(best, dict) and best.get("metric") != "test/accuracy":
        yield f"best {best.get('metric')}", words(best.get("value"))
    for key, value in (summary.get("metrics") or {}).items():
        if key not in said:
            yield key, words(value)


def _standing(experiment: Json) -> str:
    """How often it was tried, and what comes next for it."""
    number, restarts = experiment.get("attempt") or 0, experiment.get("restarts")
    parts = [f"attempt {words(number)}" if number else "no attempt yet"]
    if restarts:
        parts[0] += f" (restarts: {words(restarts)})"
    place, left = place_in_queue(experiment), time_left(experiment)
    if place:
        parts.append(f"place {place} in the queue")
    for key, said in (("waiting_for", "waiting: {}"), ("desired", "asked to {}")):
        if experiment.get(key):
            parts.append(said.format(experiment[key]))
    if left:
        parts.append(f"{left} left")
    return ", ".join(parts)


def _short(data: object) -> str:
    return json.dumps(data) if data else ""
