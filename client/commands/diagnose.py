"""`bnlab diagnose`: what an experiment measured of its network, and what is wrong with its normalizations."""

import math
from typing import Annotated, Any

import numpy as np
import typer

from bncore.spec import other_than
from client.commands.connection import AsJson, ExperimentId, Url, connect
from client.commands.naming import id_of
from client.commands.outcome import Exit, leave, reported
from client.commands.output import emit, inline, show, table
from client.commands.show import print_warnings
from client.errors import Json
from client.printable import one_line

HEALTH = "norm_health"
_FIRST = ("gap", "mean_gap", "variance_gap", "mean_drift", "variance_drift", "updates", "updates_wanted", "values")

Kind = Annotated[
    str | None, typer.Argument(help="One diagnostic, place by place; without it, all in short.", metavar="[KIND]")
]
Step = Annotated[int | None, typer.Option("--step", min=0, help="Measured after so many steps.", metavar="STEP")]


@reported
def diagnose(
    experiment: ExperimentId, kind: Kind = None, step: Step = None, url: Url = None, as_json: AsJson = False
) -> None:
    """Show how the normalizations are doing, and what other diagnostics found.

    Examples:

    bnlab diagnose last

    bnlab diagnose last activation_moments --step 0
    """
    with connect(url) as client:
        experiment_id = id_of(client, experiment)
        listed = client.diagnostics(experiment_id)
        wanted = [one for one in listed if kind in (None, one["kind"])]
        if not wanted:
            _leave_without(listed, kind)
        found = [client.diagnostic(experiment_id, one["kind"], step if kind else None) for one in wanted]
        results = client.results(experiment_id)
    if as_json:
        emit({"listed": listed, "newest": [_plain(one) for one in found], "warnings": results.get("warnings") or []})
        return
    for one in found:
        _print(one, whole=kind is not None or one["kind"] == HEALTH)
    print_warnings(results)
    _print_cost(results)


def _print(found: Json, *, whole: bool) -> None:
    show(f"[bold]{inline(found['kind'])}[/], step {found['step']:,}")
    names = [name for name in _by_site(found["arrays"]) if whole]
    if names:
        rows = [
            (site["name"] or "(the model)", site["role"], *(_cell(found["arrays"][name], at) for name in names))
            for at, site in enumerate(found["sites"])
        ]
        show(table(("layer", "what", *(name.replace("_", " ") for name in names)), rows))
    units, scalars = found["units"], sorted(found["scalars"].items())
    said = [(name.replace("_", " "), _number(value), units.get(name, "1")) for name, value in scalars]
    show(table(("found", "value", "unit"), said))
    if any(None in row for row in (*(rows if names else ()), *said)):
        show("-: there is no such number: nothing of the kind is in the layer or the network, or 0 was divided by 0")
    # A server of before has none.
    for note in found.get("notes", ()):
        show(f"note: {inline(note)}")


def _by_site(arrays: Json) -> list[str]:
    """Names of arrays with a number for each place, but those that no place has; what matters most first."""
    there = [
        name for name, array in arrays.items() if array["axes"] == ["site"] and not np.isnan(array["values"]).all()
    ]
    return sorted(there, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))


def _cell(array: Json, at: int) -> float | None:
    """None where the array was thinned, too."""
    kept = array["kept"].get("site")
    if kept is None:
        return _number(array["values"][at])
    return _number(array["values"][kept.index(at)]) if at in kept else None


def _number(value: float) -> float | None:
    """None where there is none."""
    return None if math.isnan(value) else float(value)


def _print_cost(results: Json) -> None:
    seconds = results["metrics"].get("diagnostics/seconds")
    trained = results["summary"].get("seconds")
    if isinstance(seconds, int | float):
        share = f", {seconds / trained:.1%} of what training took" if trained else ""
        show(f"diagnostics took {seconds:.3g} s{share}")


def _leave_without(listed: list[Json], kind: str | None) -> None:
    if listed:
        there = ", ".join(one_line(one["kind"]) for one in listed)
        leave(Exit.REFUSED, f"it has no {one_line(kind or '')}; it has {there}. {_asking(kind)}")
    leave(Exit.REFUSED, f"nothing is measured of it yet. {_asking(kind)}")


def _asking(kind: str | None) -> str:
    """How to have it measured, or that nothing is called so."""
    if kind is not None and (meant := other_than("diagnostics", kind)):
        return f"No diagnostic is called so; {meant}"
    example = f'diagnostics: [{{"kind": "{one_line(kind or "activation_moments")}", "at": [0]}}]'
    return f"Ask for it in the spec, {example}; `bnlab kinds diagnostics` lists all."


def _plain(found: Json) -> Json:
    arrays: dict[str, Any] = {
        name: {**array, "values": array["values"].tolist()} for name, array in found["arrays"].items()
    }
    return {**found, "arrays": arrays}
