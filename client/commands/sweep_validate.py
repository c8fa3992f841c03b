"""`bnlab sweep validate`: what a sweep would come to."""

from typing import Any

from client.commands.connection import AsJson, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.outcome import reported
from client.commands.output import emit, show, table, tell, words
from client.commands.spec_file import Assignments, SpecFile, faults_located, load
from client.errors import Json
from client.printable import one_line


@reported
def validate_sweep(file: SpecFile, assignments: Assignments = None, url: Url = None, as_json: AsJson = False) -> None:
    """Say how many experiments a sweep would be, and check each of them. Nothing is submitted.

    Example: bnlab sweep validate rates.yaml --set seeds=5
    """
    document = load(file, assignments)
    with connect(url) as client, faults_located(file, document):
        found = client.validate_sweep(with_dataset_ids(client, document.value))
    if as_json:
        emit(found)
        return
    search = found.get("search")
    warn_of_points(found, 1 if search else found["points"])
    facts = {
        **(_searching(found, search) if search else {"points": found["points"]}),
        "seeds": len(found["seeds"]),
        "experiments": f"{'at most ' if search else ''}{words(found['experiments'])}",
        "steps in all": _range(found["least_steps"], found["total_steps"]),
        **_pruning(found),
        "examples in all": _range(found["least_examples"], found["examples"]),
        "parameters": _range(found["least_parameters"], found["most_parameters"]),
        **(_ends(search) if search else {"first": _place(found["first"]), "last": _place(found["last"])}),
    }
    show(table(("what", "value"), [(name, words(value)) for name, value in facts.items()]), "[green]Valid.[/]")


def _searching(found: Json, search: Json) -> dict[str, str]:
    arms = found["points"] // search["trials"]
    each = f" of each of {arms} arms" if arms > 1 else ""
    return {
        "trials": f"at most {search['trials']:,}{each}, {search['at_once']:,} at a time",
        "objective": f"{one_line(str(search['objective']))}, {one_line(str(search['direction']))}",
        "space": "; ".join(_space(path, one) for path, one in search["space"].items()),
    }


def _space(path: str, one: Any) -> str:
    if isinstance(one, list):
        return f"{one_line(path)} in {one_line(', '.join(map(str, one)))}"
    return f"{one_line(path)} from {one['low']} to {one['high']}{' (log)' if one['scale'] == 'log' else ''}"


def _ends(search: Json) -> dict[str, str]:
    cheapest, dearest = _place(search["cheapest"]), _place(search["dearest"])
    return {} if cheapest == dearest else {"cheapest": cheapest, "dearest": dearest}


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _pruning(found: Json) -> dict[str, str]:
    plan = found.get("prune")
    if not plan:
        return {}
    rungs = (f"{one['points']:,} to {one['kept']:,} at step {one['step']:,}" for one in plan["rungs"])
    share = 100 * plan["total_steps"] / found["total_steps"]
    return {
        "rungs": ", ".join(rungs),
        "points that stay": f"{plan['kept']:,}",
        "steps with pruning": f"{plan['total_steps']:,} ({share:.0f} %)",
    }


def warn_of_points(answer: Json, points: int) -> None:
    """Say what may not be meant so, each with the first of so many points that it is of."""
    for warning in answer.get("warnings") or ():
        _warn(warning, points)


def _warn(warning: Json, points: int) -> None:
    where = f" (at {_place(warning)})" if points > 1 else ""
    many = f", {warning['points']:,} of {points:,} points" if points > 1 else ""
    tell(f"Warning: {one_line(str(warning['pointer']))}: {one_line(str(warning['detail']))}{where}{many}")


def _place(one: Json) -> str:
    said: dict[str, Any] = {**one["values"], **({} if one["arm"] is None else {"arm": one["arm"]})}
    said |= {"seed": one["seed"]} if "seed" in one else {}
    shown = (f"{one_line(str(name))} = {one_line(str(value))}" for name, value in said.items())
    return ", ".join(shown) or "the template"
