"""`bnlab study compare`: networks of one's own against each other, from their files to a verdict."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bncore.spec import SpecError
from bncore.spec.merging import merged
from client.commands.connection import AsJson, Url, connect
from client.commands.dataset_names import usable_id_of, with_dataset_ids
from client.commands.outcome import Exit, describe, leave, reported
from client.commands.spec_file import Assignments, load
from client.commands.studies import Key, Name
from client.commands.study_outcome import Opened, Page, Timeout, Wait, announced
from client.documents import Document, read_document
from client.errors import ApiError

BASELINE = "baseline"
Whole = Annotated[
    str | None,
    typer.Argument(help="A comparison in YAML or JSON; instead of --baseline.", metavar="[FILE]", show_default=False),
]
Baseline = Annotated[
    str | None, typer.Option("--baseline", help="The spec to compare with.", metavar="FILE", show_default=False)
]
Treatments = Annotated[
    list[str] | None,
    typer.Option("--treatment", help="A spec; called by its file unless named. Repeatable.", metavar="[NAME=]FILE"),
]
Data = Annotated[
    str | None, typer.Option("--data", help="A data set of yours, by id or name, in all specs.", metavar="DATASET")
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", "-m", help="A series, or steps_to_target; test/accuracy unless said.", metavar="NAME"),
]
Take = Annotated[Literal["final", "best", "mean"] | None, typer.Option("--take", help="Of the series.")]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Of steps_to_target: test/accuracy, or that series.", metavar="[NAME=]VALUE"),
]
Higher = Annotated[bool | None, typer.Option("--higher/--lower", help="What is better, where the name does not say.")]
Delta = Annotated[
    float | None,
    typer.Option(
        "--delta",
        help="Required, here or in FILE: the smallest effect that matters; 0.01 of an accuracy is a point.",
        metavar="X",
    ),
]
Margin = Annotated[
    Literal["superiority", "non_inferiority", "equality"] | None,
    typer.Option("--margin", help="Better by more than delta, worse by less, or within it."),
]
TrainsAt = Annotated[
    float | None,
    typer.Option(
        "--trains-at", help="The accuracy that shows that an arm trains; say it where data are noisy.", metavar="X"
    ),
]
Tune = Annotated[
    list[str] | None,
    typer.Option(
        "--tune", help="Values that every arm is tried at on validation data. Repeatable.", metavar="PATH=[V, V, ...]"
    ),
]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Pairs that judge; 10 unless said.", metavar="N")]
TuningSeeds = Annotated[
    int | None, typer.Option("--tuning-seeds", help="Of each setting that is tried; 3 unless said.", metavar="N")
]
_VALIDATION = {"share": 0.2}
_OPTIONS = {
    "/name": "--name",
    "/delta": "--delta",
    "/margin": "--margin",
    "/trains_at": "--trains-at",
    "/tuning_seeds": "--tuning-seeds",
    "/seeds": "--seeds",
    "/tune": "--tune",
    "/estimand/metric": "--metric",
    "/estimand/take": "--take",
    "/estimand/target": "--target",
    "/estimand/higher_is_better": "--higher/--lower",
}
"""What says which field, where no file does."""


@reported
def compare_study(
    file: Whole = None,
    baseline: Baseline = None,
    treatments: Treatments = None,
    data: Data = None,
    metric: Metric = None,
    take: Take = None,
    target: Target = None,
    higher: Higher = None,
    delta: Delta = None,
    margin: Margin = None,
    trains_at: TrainsAt = None,
    tune: Tune = None,
    seeds: Seeds = None,
    tuning_seeds: TuningSeeds = None,
    name: Name = None,
    assignments: Assignments = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Page = None,
    opened: Opened = False,
    idempotency_key: Key = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Compare specs of your own: tuned alike, judged with paired seeds.

    --set sets a field of every spec; with --data and --tune, a fifth of the training data is held out to choose by.

    Examples:

    bnlab study compare --baseline plain.yaml --treatment bn.yaml --delta 0.01 --tune 'optimizer.lr=[0.1, 1]' --wait

    bnlab study compare comparison.yaml --wait --output report.html
    """
    files = _files(file, baseline, treatments, assignments)
    estimand = {"metric": metric, "take": take, "higher_is_better": higher, "target": _target(target)}
    said = {"name": name, "delta": delta, "margin": margin, "seeds": seeds, "tune": _tuned(tune)}
    said |= {"tuning_seeds": tuning_seeds, "trains_at": trains_at}
    with connect(url) as client:
        document = _document(file, files, {**said, "estimand": _given(estimand)})
        if data is not None:
            _with_data(document, usable_id_of(client, data))
        with _faults_in(file, files):
            study = client.submit_study(with_dataset_ids(client, document), idempotency_key=idempotency_key)
        announced(client, study, wait=wait, timeout=timeout, output=output, opened=opened, as_json=as_json)


def _files(
    file: str | None, baseline: str | None, treatments: list[str] | None, assignments: list[str] | None
) -> dict[str, tuple[str, Document]]:
    """By arm its file and what that says; of a whole comparison that, under no name."""
    if file is not None:
        if baseline or treatments:
            leave(Exit.USAGE, "give one FILE with the whole comparison, or --baseline and --treatment")
        return {"": (file, load(file, assignments))}
    if baseline is None or not treatments:
        leave(Exit.USAGE, "give --baseline FILE and --treatment FILE, or one FILE with the whole comparison")
    named = [(BASELINE, baseline), *map(_named, treatments)]
    if len({name for name, _ in named}) < len(named):
        leave(Exit.USAGE, "two specs have one name; say --treatment NAME=FILE")
    return {name: (path, load(path, assignments)) for name, path in named}


def _named(treatment: str) -> tuple[str, str]:
    name, separator, path = treatment.partition("=")
    return (name, path) if separator else (Path(treatment).stem, treatment)


def _document(file: str | None, files: Mapping[str, tuple[str, Document]], said: Mapping[str, Any]) -> dict[str, Any]:
    given = _given(said)
    if file is None:
        return {"compare": {name: document.value for name, (_, document) in files.items()}, **given}
    whole = files[""][1].value
    if not isinstance(whole, dict):
        leave(Exit.REFUSED, f"{file} is no comparison: it has to say `compare`")
    found: dict[str, Any] = merged(whole, given)
    return found


def _with_data(document: dict[str, Any], dataset_id: str) -> None:
    """The data set in all specs; held out is what settings are chosen by."""
    held_out = {"validation": _VALIDATION} if document.get("tune") else {}
    for name, spec in document["compare"].items():
        known = spec.get("data") if isinstance(spec.get("data"), dict) else {}
        kept = {key: value for key, value in known.items() if key not in ("kind", "id")}
        document["compare"][name] = {**spec, "data": {**held_out, **kept, "kind": "dataset", "id": dataset_id}}


def _target(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    series, _, value = text.rpartition("=")
    try:
        return {"value": float(value), **({"metric": series} if series else {})}
    except ValueError:
        leave(Exit.USAGE, "--target is a number, or NAME=NUMBER such as test/loss=0.1")


def _tuned(given: list[str] | None) -> dict[str, Any] | None:
    """Values are YAML, in brackets or without."""
    found: dict[str, Any] = {}
    for each in given or ():
        path, separator, values = each.partition("=")
        if not separator or not values.strip():
            leave(Exit.USAGE, f"--tune {each}: say PATH=[VALUE, VALUE, ...]")
        written = values if re.match(r"\s*[\[{]", values) else f"[{values}]"
        try:
            found[path] = read_document(written, json=False).value
        except SpecError as error:
            leave(Exit.USAGE, f"--tune {each}: {error.faults[0].detail}")
    return found or None


def _given(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if value not in (None, {})}


@contextmanager
def _faults_in(file: str | None, files: Mapping[str, tuple[str, Document]]) -> Iterator[None]:
    """Report what is wrong with the lines of the files that say it."""
    try:
        yield
    except ApiError as error:
        if error.status != 422 or not error.faults:
            raise
        leave(Exit.REFUSED, f"{error.title}\n{describe(error.faults, lambda pointer: _place(pointer, file, files))}")


def _place(pointer: str, file: str | None, files: Mapping[str, tuple[str, Document]]) -> str | None:
    if file is not None:
        return files[""][1].place_of(pointer)
    _, _, rest = pointer.partition("/compare/")
    arm, separator, within = rest.partition("/")
    if arm not in files:
        return next((said for field, said in _OPTIONS.items() if f"{pointer}/".startswith(f"{field}/")), None)
    path, document = files[arm]
    place = document.place_of(f"/{within}") if separator else None
    return f"{path}, {place}" if place else path
