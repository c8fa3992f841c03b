"""`bnlab dataset`: data of one's own, from a file to something that an experiment can name."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from client.commands.connection import AsJson, Url, connect
from client.commands.dataset_names import dataset_id_of, usable_id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import ask, byte_bar, coloured, emit, inline, message, minute, show, table, tell, words
from client.commands.target import target_option
from client.documents import assign
from client.errors import Json, Unreachable
from client.http import Client

_CONTACT_SHEET = "contact.png"

DatasetId = Annotated[
    str,
    typer.Argument(
        help="A data set: its id, the beginning of that, its name, or `last` for the newest.",
        metavar="DATASET",
        show_default=False,
    ),
]
Source = Annotated[
    Path,
    typer.Argument(
        help="npz, Parquet, CSV, a zip or tar of class folders, IDX, CIFAR's binary form.",
        metavar="PATH",
        show_default=False,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")]
Assigned = Annotated[
    list[str] | None,
    typer.Option("--set", help="An option of the import, like csv.delimiter=';'. Repeatable.", metavar="NAME=VALUE"),
]


@reported
def add_dataset(
    source: Source,
    name: Annotated[str | None, typer.Option("--name", help="Else the file's.", show_default=False)] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="Else found out.", show_default=False)] = None,
    label_column: Annotated[
        str | None,
        typer.Option("--label-column", help="The column or array to be predicted.", show_default=False),
    ] = None,
    resize: Annotated[
        int | None, typer.Option("--resize", min=1, help="Images to squares of this side.", show_default=False)
    ] = None,
    grayscale: Annotated[bool, typer.Option("--grayscale", help="Images with one channel.")] = False,
    impute: Annotated[
        str | None, typer.Option("--impute", help="mean, median or a number, for missing values.", show_default=False)
    ] = None,
    assigned: Assigned = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it is imported, and show the report.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.0, help="Wait no longer.", metavar="SECONDS")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Upload a file and import it. After a cut, the same command goes on where it stopped.

    Examples:

    bnlab dataset add cifar.zip --name cifar --resize 32 --wait

    bnlab dataset add iris.csv --label-column species --set csv.delimiter=";"
    """
    said = {"format": file_format, "targets": label_column, "resize": resize, "impute": _number(impute)}
    options: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
    options |= {"grayscale": True} if grayscale else {}
    for each in assigned or ():
        try:
            options = assign(options, each)
        except ValueError as error:
            leave(Exit.USAGE, str(error))
    with connect(url) as client:
        with byte_bar(source.name, shown=not as_json) as progress:
            dataset = client.add_dataset(source, name, on_progress=progress, **options)
        if dataset.get("already_there"):
            tell(f"{dataset['id']} is this file, read in the same way.")
        if wait:
            _see_through(client, dataset["id"], timeout, as_json)
        elif as_json:
            emit(dataset)
        else:
            show(f"{inline(dataset['id'])} [dim]{inline(dataset['state'])}[/]")


@reported
def list_datasets(url: Url = None, as_json: AsJson = False) -> None:
    """List data sets of one's own, newest first; uploads that are not completed come first.

    Example: bnlab dataset list
    """
    with connect(url) as client:
        found = [*client.datasets(state="uploading"), *client.datasets()]
    if as_json:
        emit(found)
        return
    rows = [(each["id"], each["name"], coloured(each), *_measures(each), minute(each["created_at"])) for each in found]
    show(table(("id", "name", "state", "examples", "shape", "outputs", "submitted (UTC)"), rows))


@reported
def show_dataset(
    wanted: DatasetId,
    contact_sheet: Annotated[
        Path | None,
        target_option("--contact-sheet", help="Save a few of its images there, as PNG.", metavar="PATH"),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a data set: what was found in it, what was converted, what may not be meant so.

    Example: bnlab dataset show cifar --contact-sheet cifar.png
    """
    with connect(url) as client:
        dataset = client.dataset(usable_id_of(client, wanted))
        if contact_sheet is not None:
            sheets = [file for file in client.dataset_files(dataset["id"]) if file["name"] == _CONTACT_SHEET]
            if not sheets:
                leave(Exit.REFUSED, f"{dataset['id']} has no contact sheet; images have one, once they are imported")
            client.download_file(sheets[0]["id"], contact_sheet)
    if as_json:
        emit(dataset)
    else:
        _print(dataset)


@reported
def cancel_dataset(wanted: DatasetId, url: Url = None, as_json: AsJson = False) -> None:
    """End the import of a data set; what was uploaded stays, and `retry` imports it after all.

    Example: bnlab dataset cancel cifar
    """
    _ask(Client.cancel_dataset, wanted, url, as_json)


@reported
def retry_dataset(wanted: DatasetId, url: Url = None, as_json: AsJson = False) -> None:
    """Import a data set again whose import failed or was cancelled, where what was uploaded is kept.

    Example: bnlab dataset retry cifar
    """
    _ask(Client.retry_dataset, wanted, url, as_json)


@reported
def delete_dataset(wanted: DatasetId, yes: Yes = False, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a data set with all its files; not while an experiment or evaluation uses it. Asks before, at a terminal.

    Example: bnlab dataset delete cifar --yes
    """
    with connect(url) as client:
        dataset_id = dataset_id_of(client, wanted)
        if not yes and sys.stdin.isatty() and not ask(f"delete {dataset_id} with all its files?"):
            leave(Exit.INTERRUPTED, "nothing was done")
        client.delete_dataset(dataset_id)
    if as_json:
        emit({"id": dataset_id, "deleted": True})
    else:
        show(f"{inline(dataset_id)} [dim]deleted[/]")


def _ask(act: Callable[[Client, str], Json], wanted: str, url: str | None, as_json: bool) -> None:
    with connect(url) as client:
        dataset = act(client, dataset_id_of(client, wanted))
    if as_json:
        emit(dataset)
    else:
        show(inline(dataset["id"]), coloured(dataset))


def _see_through(client: Client, dataset_id: str, timeout: float | None, as_json: bool) -> None:
    try:
        dataset = client.wait_dataset(dataset_id, timeout)
    except (KeyboardInterrupt, Unreachable):
        tell(f"{dataset_id} goes on; `bnlab dataset show {dataset_id}` says how far it is.")
        raise
    if as_json:
        emit(dataset)
    else:
        _print(dataset)
    if dataset["state"] != "succeeded":
        leave(Exit.ENDED_BADLY)


def _print(dataset: Json) -> None:
    show(f"{inline(dataset['id'])} {inline(dataset['name'])}:", coloured(dataset))
    if dataset.get("failure"):
        show(f"[red]{inline(dataset['failure']['code'])}[/]: {message(dataset['failure']['message'])}")
    if dataset.get("waiting_for"):
        show(f"waiting: {inline(dataset['waiting_for'])}")
    report = dataset.get("report")
    if not isinstance(report, dict):
        return
    show(table(("found", "value"), list(_facts(report))))
    parts = report.get("parts") or {}
    rows = [
        (name, part.get("examples"), part.get("duplicates"), part.get("duplicates_of_train"), _counts(report, part))
        for name, part in parts.items()
    ]
    show(table(("part", "examples", "duplicates", "of train", "classes"), rows))
    for kind, colour in (("warnings", "yellow"), ("notes", "dim")):
        for line in report.get(kind) or ():
            show(f"[{colour}]{inline(line)}[/]")


def _facts(report: Json) -> Iterator[tuple[str, str]]:
    for key in ("format", "kind", "shape", "dtype", "task", "outputs", "missing_values", "constant_features", "bytes"):
        if report.get(key) is not None:
            yield key.replace("_", " "), words(report[key])


def _counts(report: Json, part: Json) -> str:
    names, counts = report.get("classes") or (), part.get("class_counts") or ()
    said = [f"{name}: {count}" for name, count in zip(names, counts, strict=False)]
    return ", ".join(said[:10]) + (", ..." if len(said) > 10 else "")


def _measures(dataset: Json) -> tuple[str, str, str]:
    examples, signal = dataset.get("examples") or {}, dataset.get("signal") or {}
    counted = ", ".join(f"{name} {count:,}" for name, count in examples.items())
    shape = "x".join(map(str, signal.get("shape") or ()))
    return counted or "-", shape or "-", words(dataset.get("outputs"))


def _number(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
