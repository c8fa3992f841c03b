"""`bnlab evaluate`: measure a checkpoint on other data, and `bnlab evaluations`: what was measured."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from bncore.spec import SpecError, kinds
from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.listing import Limit
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import coloured, emit, inline, message, show, table, tell
from client.commands.spec_file import Assignments, assigned, faults_located
from client.commands.submit import Key, Timeout
from client.documents import read_document
from client.errors import Json, Unreachable
from client.http import Client

MOST_CLASSES = 100
"""Of more, a table is no help: --json has them."""

Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Measured on: a kind (digits), a data set of yours by id or name, or data as in a spec, in YAML.",
        metavar="DATA",
        show_default=False,
    ),
]
Statistics = Annotated[
    str,
    typer.Option(
        "--statistics",
        help="source, adabn, prediction_time, precise or tent; or in YAML with options: '{kind: tent, lr: 0.01}'.",
        metavar="STATISTICS",
    ),
]
Checkpoint = Annotated[str, typer.Option("--checkpoint", help="best, last, or an id.", metavar="CHECKPOINT")]
Part = Annotated[str, typer.Option("--part", help="train, validation or test.", metavar="PART")]
Wait = Annotated[bool, typer.Option("--wait", help="Stay until it has ended, and show what was found.")]


@reported
def evaluate(
    experiment: ExperimentId,
    data: Data,
    statistics: Statistics = "source",
    checkpoint: Checkpoint = "best",
    part: Part = "test",
    assignments: Assignments = None,
    wait: Wait = False,
    timeout: Timeout = None,
    idempotency_key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint on data, with its own statistics and with others.

    Examples:

    bnlab evaluate last --data digits --statistics adabn --wait

    bnlab evaluate last --data dat_0199f3a27f3e7c559d0e1b7a3c5d2e4f --statistics tent --set statistics.lr=0.01
    """
    asked = {
        "data": _data(data),
        "statistics": _kind(statistics, "--statistics"),
        "checkpoint": checkpoint,
        "part": part,
    }
    document = assigned(asked, assignments)
    with connect(url) as client:
        with faults_located("the evaluation", document):
            said = with_dataset_ids(client, document.value)
            made = client.evaluate(id_of(client, experiment), idempotency_key=idempotency_key, **said)
        if not as_json:
            show(f"{inline(made['id'])} [dim]{inline(made['state'])} on {inline(made['device'])}[/]")
        elif not wait:
            emit(made)
        else:
            tell(made["id"])
        if wait:
            _see_through(client, made, timeout, as_json)


@reported
def list_evaluations(
    experiment: Annotated[str | None, typer.Argument(help="Those of this one only.", metavar="EXPERIMENT")] = None,
    limit: Limit = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List evaluations, newest first.

    Example: bnlab evaluations last
    """
    with connect(url) as client:
        of = None if experiment is None else id_of(client, experiment)
        found = list(islice(client.evaluations(of, page_size=min(limit, 100)), limit))
    if as_json:
        emit(found)
        return
    rows = [
        (
            one["id"],
            coloured(one),
            _named(one["spec"]["data"]),
            _kind_of(one),
            *_numbers(one),
        )
        for one in found
    ]
    show(table(("id", "state", "data", "statistics", "before", "after"), rows))


def _see_through(client: Client, made: Json, timeout: float | None, as_json: bool) -> None:
    try:
        found = client.wait_evaluation(made["id"], timeout)
    except (KeyboardInterrupt, Unreachable):
        tell(f"{made['id']} goes on; `bnlab evaluations` shows it.")
        raise
    if as_json:
        emit(found)
    else:
        _print(found)
    if found["state"] != "succeeded":
        leave(Exit.ENDED_BADLY)


def _print(found: Json) -> None:
    show(inline(found["id"]), coloured(found))
    failure, result = found.get("failure"), found.get("result")
    if failure:
        show(f"{inline(failure['code'])}: {message(failure['message'])}")
    if not result:
        return
    before, after = result["before"], result.get("after") or {}
    columns = ("", "before", "after") if after else ("", "before")
    names = [name for name, value in before.items() if isinstance(value, int | float)]
    rows = [[name, before[name], after.get(name)][: len(columns)] for name in names]
    title = f"{_named(found['spec']['data'])}, {found['spec']['part']}, {_kind_of(found)}"
    show(table(columns, rows, title))
    if result.get("reason"):
        tell(f"No statistics to put in their place: {result['reason']}")
    _print_classes(before.get("classes"), after.get("classes"), result.get("class_names") or ())


def _print_classes(before: Json | None, after: Json | None, names: Sequence[str]) -> None:
    if not before or len(before["count"]) > MOST_CLASSES:
        return
    shown = [("", before)] + ([("after: ", after)] if after else [])
    columns = ["class", "examples", *(prefix + name for prefix, _ in shown for name in ("precision", "recall", "f1"))]
    rows = [
        [
            _called(number, names),
            count,
            *(of[name][number] for _, of in shown for name in ("precision", "recall", "f1")),
        ]
        for number, count in enumerate(before["count"])
    ]
    show(table(columns, rows))


def _called(number: int, names: Sequence[str]) -> str:
    """A class by its number, and its name where the data have one that is no number."""
    name = names[number] if number < len(names) else str(number)
    return name if name == str(number) else f"{number} {name}"


def _numbers(found: Json) -> tuple[float | None, float | None]:
    """Accuracy, or the loss of a regression, before and after."""
    result = found.get("result") or {}
    before, after = result.get("before") or {}, result.get("after") or {}
    name = "accuracy" if "accuracy" in before else "loss"
    return before.get(name), after.get(name)


def _kind_of(found: Json) -> str:
    return str(found["spec"]["statistics"]["kind"])


def _named(data: Json) -> str:
    return str(data.get("id") or data["kind"])


def _data(text: str) -> Any:
    """What is called as no kind is a data set of one's own."""
    if text in {kind.kind for kind in kinds("data")}:
        return {"kind": text}
    is_yaml = text.lstrip().startswith("{") or ": " in text
    return _kind(text, "--data") if is_yaml else {"kind": "dataset", "id": text}


def _kind(text: str, option: str) -> Any:
    try:
        return read_document(text, json=False).value
    except SpecError as error:
        leave(Exit.USAGE, f"{option} is not YAML: {error.faults[0].detail}")
