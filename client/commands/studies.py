"""`bnlab study`: a question of the article, its experiments, a verdict."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from client.commands.connection import AsJson, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.ending import YesToMany, require_yes_to_all_of
from client.commands.listing import age_seconds
from client.commands.outcome import reported
from client.commands.output import STATE_COLOURS, duration, emit, inline, show, table
from client.commands.spec_file import Assignments, assigned, faults_located
from client.commands.study_outcome import (
    Opened,
    Page,
    StudyId,
    Timeout,
    Wait,
    announced,
    print_study,
    print_verdict,
    save_report,
    see_through,
    study_id_of,
)
from client.documents import Document
from client.errors import Json
from client.http import Client
from client.printable import one_line

ARTICLE = "article"
Scale = Annotated[
    Literal["tiny", "cpu", "gpu"] | None,
    typer.Option("--scale", help="cpu (usual) decides in minutes; tiny shows that it runs; gpu is near the papers."),
]
Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="Instead of the claim's own number.", metavar="N")]
Key = Annotated[
    str | None, typer.Option("--idempotency-key", help="The same key again submits nothing new.", metavar="KEY")
]
Name = Annotated[str | None, typer.Option("--name", help="For people.")]


@reported
def list_claims(url: Url = None, as_json: AsJson = False) -> None:
    """List what the article claims and can be asked.

    Example: bnlab study claims
    """
    with connect(url) as client:
        found = client.claims()
    if as_json:
        emit(found)
        return
    rows = [(one["number"], one["name"], one["says"], one["source"], ", ".join(one["scales"])) for one in found]
    show(table(("number", "claim", "says", "source", "scales"), rows))


@reported
def run_study(
    claim: Annotated[str, typer.Argument(help="See `bnlab study claims`.", metavar="CLAIM", show_default=False)],
    scale: Scale = None,
    seeds: Seeds = None,
    assignments: Assignments = None,
    name: Name = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Page = None,
    opened: Opened = False,
    idempotency_key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Put a claim of the article to the test. --set changes the spec that its arms share.

    Example: bnlab study run fewer-epochs --wait --output fewer-epochs.html
    """
    overrides = assigned({}, assignments)
    said = {"claim": claim, "scale": scale, "seeds": seeds, "name": name, "overrides": overrides.value or None}
    document = {key: value for key, value in said.items() if value is not None}
    placed = Document(document, {}, tuple(f"/overrides{pointer}" for pointer in overrides.assigned))
    with connect(url) as client:
        with faults_located(claim, placed):
            study = client.submit_study(with_dataset_ids(client, document), idempotency_key=idempotency_key)
        announced(client, study, wait=wait, timeout=timeout, output=output, opened=opened, as_json=as_json)


@reported
def run_article(
    scale: Scale = None,
    name: Name = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Page = None,
    opened: Opened = False,
    idempotency_key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Put the whole article on batch normalization to the test, claim by claim, into one report.

    Example: bnlab article --wait --output article.html
    """
    document = {"claim": ARTICLE, "scale": scale, "name": name}
    with connect(url) as client:
        asked = {key: value for key, value in document.items() if value is not None}
        study = client.submit_study(asked, idempotency_key=idempotency_key)
        announced(client, study, wait=wait, timeout=timeout, output=output, opened=opened, as_json=as_json)


@reported
def list_studies(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    part_of: Annotated[str | None, typer.Option("--part-of", help="Those of this article.", metavar="STUDY")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List studies, newest first.

    Example: bnlab study list
    """
    with connect(url) as client:
        within = None if part_of is None else study_id_of(client, part_of)
        found = list(islice(client.studies(part_of=within, page_size=min(limit, 100)), limit))
    if as_json:
        emit(found)
        return
    columns = ("id", "state", "stage", "age", "claim", "verdict", "name")
    show(table(columns, [tuple(_row(one)) for one in found]))


@reported
def show_study(wanted: StudyId, url: Url = None, as_json: AsJson = False) -> None:
    """Show how far a study is, and its verdict once there is one.

    Example: bnlab study show last
    """
    with connect(url) as client:
        found = client.study(study_id_of(client, wanted))
        if as_json:
            emit(found)
            return
        print_study(found)
        print_verdict(client, found)


@reported
def wait_study(wanted: StudyId, timeout: Timeout = None, url: Url = None, as_json: AsJson = False) -> None:
    """Stay until a study was judged.

    Example: bnlab study wait last
    """
    with connect(url) as client:
        see_through(client, client.study(study_id_of(client, wanted)), timeout, as_json)


@reported
def report_study(
    wanted: StudyId, output: Page = None, opened: Opened = False, url: Url = None, as_json: AsJson = False
) -> None:
    """Write the report of a study to a file, as one page that needs nothing else; with --json, print it as JSON.

    Example: bnlab study report last --output study.html --open
    """
    with connect(url) as client:
        study_id = study_id_of(client, wanted)
        if as_json and output is None and not opened:
            emit(client.study_report(study_id))
            return
        path: Path = save_report(client, study_id, output, opened=opened)
    if as_json:
        emit({"id": study_id, "path": str(path)})
    else:
        show(inline(path))


@reported
def extend_study(
    wanted: StudyId,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="So many more.", metavar="N", show_default=False)],
    wait: Wait = False,
    timeout: Timeout = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Have a study judged with more seeds, which counts as another look at them.

    Example: bnlab study extend last --seeds 4 --wait
    """
    with connect(url) as client:
        found = client.extend_study(study_id_of(client, wanted), seeds)
        if wait:
            see_through(client, found, timeout, as_json)
        else:
            _said(found, as_json)


@reported
def cancel_study(wanted: StudyId, yes: YesToMany = False, url: Url = None, as_json: AsJson = False) -> None:
    """End a study and all of its experiments. Running ones save a checkpoint first.

    Example: bnlab study cancel last --yes
    """
    _ask(wanted, lambda client, study_id: _cancelled(client, study_id, yes), url, as_json)


@reported
def pause_study(wanted: StudyId, url: Url = None, as_json: AsJson = False) -> None:
    """Let a study rest until `bnlab study resume`.

    Example: bnlab study pause last
    """
    _ask(wanted, Client.pause_study, url, as_json)


@reported
def resume_study(wanted: StudyId, url: Url = None, as_json: AsJson = False) -> None:
    """Let a study go on.

    Example: bnlab study resume last
    """
    _ask(wanted, Client.resume_study, url, as_json)


@reported
def retry_study(
    wanted: StudyId,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Experiments that were cancelled, too.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Queue again what failed of a study; it is judged anew.

    Example: bnlab study retry last
    """
    _ask(wanted, lambda client, study_id: client.retry_study(study_id, cancelled=cancelled), url, as_json)


@reported
def delete_study(wanted: StudyId, yes: YesToMany = False, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a study that has ended, with its experiments and verdicts. There is no way back.

    Example: bnlab study delete last --yes
    """
    with connect(url) as client:
        study_id = study_id_of(client, wanted)
        require_yes_to_all_of("study", "delete", lambda: client.study(study_id), yes)
        client.delete_study(study_id)
    if as_json:
        emit({"id": study_id, "deleted": True})
    else:
        show(f"{study_id} deleted")


def _cancelled(client: Client, study_id: str, yes: bool) -> Json:
    require_yes_to_all_of("study", "cancel", lambda: client.study(study_id), yes)
    return client.cancel_study(study_id)


def _ask(wanted: str, action: Callable[[Client, str], Json], url: str | None, as_json: bool) -> None:
    with connect(url) as client:
        _said(action(client, study_id_of(client, wanted)), as_json)


def _said(study: Json, as_json: bool) -> None:
    if as_json:
        emit(study)
    else:
        print_study(study)


def _row(study: Json) -> list[Any]:
    state = one_line(str(study["state"]))
    seconds = age_seconds(study)
    counts: dict[str, int] = {}
    for outcome in (study["outcomes"] or {}).values():
        counts[outcome] = counts.get(outcome, 0) + 1
    said = ", ".join(f"{count} {name}" if len(counts) > 1 or count > 1 else name for name, count in counts.items())
    return [
        study["id"],
        Text(state, style=STATE_COLOURS.get(state, "")),
        study["stage"],
        None if seconds is None else duration(seconds),
        study["claim"],
        said.replace("_", " ") or None,
        study["name"],
    ]
