"""`bnlab validate`: what a spec amounts to, without a server unless one is asked."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from bncore.spec import SpecError, cautions, load_spec, plan
from client.commands.connection import AsJson, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, show, table, warn_of
from client.commands.spec_file import Assignments, SpecFile, faults_located, load
from client.documents import Document
from client.errors import ApiError

Remote = Annotated[bool, typer.Option("--remote", help="Ask the server, which may know more than this version does.")]


@reported
def validate(
    file: SpecFile,
    assignments: Assignments = None,
    remote: Remote = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Check a spec and show its network layer by layer. Nothing is submitted.

    Example: bnlab validate digits.yaml --set 'network.norm={kind: layer_norm}'
    """
    document = load(file, assignments)
    if as_json:
        _answer(document, remote, url)
        return
    with faults_located(file, document):
        checked = _checked(document, remote, url)
    plan_shown = checked["plan"]
    rows = [
        (layer["name"], layer["kind"], "x".join(map(str, layer["output_shape"])), layer["parameters"])
        for layer in plan_shown["layers"]
    ]
    show(table(("layer", "kind", "output", "parameters"), rows))
    show(
        f"{plan_shown['parameters']:,} parameters, {plan_shown['total_steps']:,} steps "
        f"({plan_shown['steps_per_epoch']:,} an epoch), {plan_shown['train_examples']:,} training examples. "
        "[green]Valid.[/]"
    )


def _answer(document: Document, remote: bool, url: str | None) -> None:
    """The verdict is the answer: with --json it goes to standard output either way."""
    try:
        checked = _checked(document, remote, url)
    except SpecError as error:
        faults = [asdict(fault) for fault in error.faults]
    except ApiError as error:
        if error.status != 422:
            raise
        faults = [asdict(fault) for fault in error.faults]
    else:
        emit({"valid": True, **checked})
        return
    emit({"valid": False, "errors": faults})
    leave(Exit.REFUSED)


def _checked(document: Document, remote: bool, url: str | None) -> dict[str, Any]:
    if remote:
        with connect(url) as client:
            checked = client.validate(with_dataset_ids(client, document.value))
    else:
        spec = load_spec(document.value)
        warnings = [asdict(caution) for caution in cautions(spec)]
        checked = {"spec": spec.model_dump(mode="json"), "plan": asdict(plan(spec)), "warnings": warnings}
    warn_of(checked)
    return checked
