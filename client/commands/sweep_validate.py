"""`bnlab sweep validate`: what a sweep would come to."""

from typing import Any

from client.commands.connection import AsJson, Url, connect
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
        found = client.validate_sweep(document.value)
    if as_json:
        emit(found)
        return
    for warning in found["warnings"]:
        _warn(warning, found["points"])
    least, most = found["least_parameters"], found["most_parameters"]
    # Of a search only the ends of its space are known: which points it will try is not, nor what they cost.
    searched = isinstance(document.value, dict) and document.value.get("search") is not None
    facts = {
        "points": found["points"],
        "seeds": len(found["seeds"]),
        "experiments": found["experiments"],
        "steps in all": found["total_steps"],
        **_pruning(found),
        "examples in all": f"about {found['examples']:,}" if searched else found["examples"],
        "parameters": f"{least:,}" if least == most else f"{least:,} to {most:,}",
        **({} if searched else {"first": _place(found["first"]), "last": _place(found["last"])}),
    }
    show(table(("what", "value"), [(name, words(value)) for name, value in facts.items()]), "[green]Valid.[/]")


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


def _warn(warning: Json, points: int) -> None:
    where = f" (at {_place(warning)})" if points > 1 else ""
    many = f", {warning['points']:,} of {points:,} points" if points > 1 else ""
    tell(f"Warning: {one_line(str(warning['pointer']))}: {one_line(str(warning['detail']))}{where}{many}")


def _place(one: Json) -> str:
    said: dict[str, Any] = {**one["values"], **({} if one["arm"] is None else {"arm": one["arm"]})}
    said |= {"seed": one["seed"]} if "seed" in one else {}
    shown = (f"{one_line(str(name))} = {one_line(str(value))}" for name, value in said.items())
    return ", ".join(shown) or "the template"
