"""`bnlab sweep`: many experiments of one template, from a file to a table."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated

import typer
from rich.text import Text

from client.commands.connection import AsJson, Url, connect
from client.commands.dataset_names import with_dataset_ids
from client.commands.ending import YesToMany, require_yes_to_all_of
from client.commands.listing import age_seconds
from client.commands.naming import only
from client.commands.outcome import Exit, leave, reported
from client.commands.output import (
    STATE_COLOURS,
    bars,
    duration,
    emit,
    inline,
    show,
    table,
    time_left,
    words,
)
from client.commands.spec_file import Assignments, SpecFile, faults_located, load
from client.commands.sweep_validate import warn_of_points
from client.errors import Json
from client.http import Client
from client.printable import one_line

_WHOLE = re.compile(r"swp_[0-9a-f]{32}")
_NEWEST = "last"

SweepId = Annotated[
    str,
    typer.Argument(
        help="A sweep: its id, the beginning of that, its name, or `last` for the newest.",
        metavar="SWEEP",
        show_default=False,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Stay until all has ended.")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.0, help="Wait no longer.", metavar="SECONDS")]


@reported
def submit_sweep(
    file: SpecFile,
    assignments: Assignments = None,
    wait: Wait = False,
    timeout: Timeout = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again submits nothing new.", metavar="KEY")
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Queue every value of each axis with every value of the others, in every arm, with every seed.

    Example: bnlab sweep submit rates.yaml --set seeds=5 --wait
    """
    document = load(file, assignments)
    with connect(url) as client:
        with faults_located(file, document):
            made = client.submit_sweep(with_dataset_ids(client, document.value), idempotency_key=idempotency_key)
        if not as_json:
            warn_of_points(made, made["points"])
        if wait:
            _see_through(client, made, timeout, as_json)
        elif as_json:
            emit(made)
        else:
            show(f"{inline(made['id'])} [dim]{made['experiments']:,} experiments {inline(made['state'])}[/]")


@reported
def wait_sweep(wanted: SweepId, timeout: Timeout = None, url: Url = None, as_json: AsJson = False) -> None:
    """Stay until all of a sweep has ended.

    Example: bnlab sweep wait last
    """
    with connect(url) as client:
        _see_through(client, client.sweep(sweep_id_of(client, wanted)), timeout, as_json)


@reported
def list_sweeps(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List sweeps, newest first.

    Example: bnlab sweep list
    """
    with connect(url) as client:
        found = list(islice(client.sweeps(page_size=min(limit, 100)), limit))
    if as_json:
        emit(found)
        return
    rows = [(one["id"], _state(one), one["experiments"], _share(one), _age(one), one["name"]) for one in found]
    show(table(("id", "state", "runs", "done", "age", "name"), rows))


@reported
def show_sweep(wanted: SweepId, url: Url = None, as_json: AsJson = False) -> None:
    """Show how far a sweep is.

    Example: bnlab sweep show last
    """
    with connect(url) as client:
        found = client.sweep(sweep_id_of(client, wanted))
    if as_json:
        emit(found)
    else:
        _print(found)


@reported
def cancel_sweep(wanted: SweepId, yes: YesToMany = False, url: Url = None, as_json: AsJson = False) -> None:
    """End all of a sweep that has not ended. Running ones save a checkpoint first.

    Example: bnlab sweep cancel last --yes
    """
    _ask(wanted, lambda client, sweep_id: _cancelled(client, sweep_id, yes), url, as_json)


@reported
def pause_sweep(wanted: SweepId, url: Url = None, as_json: AsJson = False) -> None:
    """Let all of a sweep rest until `bnlab sweep resume`.

    Example: bnlab sweep pause last
    """
    _ask(wanted, Client.pause_sweep, url, as_json)


@reported
def resume_sweep(wanted: SweepId, url: Url = None, as_json: AsJson = False) -> None:
    """Queue again what rests of a sweep.

    Example: bnlab sweep resume last
    """
    _ask(wanted, Client.resume_sweep, url, as_json)


@reported
def retry_sweep(
    wanted: SweepId,
    cancelled: Annotated[bool, typer.Option("--cancelled", help="Those that were cancelled, too.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Queue again what failed of a sweep; each goes on from its last checkpoint.

    Example: bnlab sweep retry last
    """
    _ask(wanted, lambda client, sweep_id: client.retry_sweep(sweep_id, cancelled=cancelled), url, as_json)


@reported
def extend_sweep(
    wanted: SweepId,
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="So many more.", metavar="N")] = None,
    which: Annotated[list[int] | None, typer.Option("--seed", min=0, help="This one. Repeatable.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Add seeds to all points of a sweep.

    Example: bnlab sweep extend last --seeds 5
    """
    if (seeds is None) == (not which):
        leave(Exit.USAGE, "say --seeds N, or --seed for each; one of the two")
    _ask(wanted, lambda client, sweep_id: client.extend_sweep(sweep_id, which or seeds or 1), url, as_json)


@reported
def delete_sweep(wanted: SweepId, yes: YesToMany = False, url: Url = None, as_json: AsJson = False) -> None:
    """Delete a sweep of which all has ended, with all its experiments. There is no way back.

    Example: bnlab sweep delete last --yes
    """
    with connect(url) as client:
        sweep_id = sweep_id_of(client, wanted)
        require_yes_to_all_of("sweep", "delete", lambda: client.sweep(sweep_id), yes)
        client.delete_sweep(sweep_id)
    if as_json:
        emit({"id": sweep_id, "deleted": True})
    else:
        show(f"{sweep_id} deleted")


def sweep_id_of(client: Client, wanted: str) -> str:
    """The id of the one sweep that can be meant. Raises `ClientError`."""
    if _WHOLE.fullmatch(wanted):
        return wanted
    every = client.sweeps()
    found: Iterator[Json] = (one for one in every if one["name"] == wanted or str(one["id"]).startswith(wanted))
    return only("sweep", wanted, islice(every, 1) if wanted == _NEWEST else found, ("id", "state", "name"))


def _cancelled(client: Client, sweep_id: str, yes: bool) -> Json:
    require_yes_to_all_of("sweep", "cancel", lambda: client.sweep(sweep_id), yes)
    return client.cancel_sweep(sweep_id)


def _ask(wanted: str, action: Callable[[Client, str], Json], url: str | None, as_json: bool) -> None:
    with connect(url) as client:
        found = action(client, sweep_id_of(client, wanted))
    if as_json:
        emit(found)
    else:
        _print(found)


def _see_through(client: Client, sweep: Json, timeout: float | None, as_json: bool) -> None:
    with bars(shown=not as_json) as shown:
        shown.add(sweep)
        found = client.wait_sweep(sweep["id"], timeout, shown.update)
    if as_json:
        emit(found)
    else:
        _print(found)
    if found["state"] != "succeeded":
        leave(Exit.ENDED_BADLY)


def _print(sweep: Json) -> None:
    counts = ", ".join(f"{count:,} {inline(state)}" for state, count in sweep["states"].items())
    show(inline(sweep["id"]), _state(sweep), counts)
    facts = {
        "name": sweep["name"],
        "axes": ", ".join(map(one_line, sweep["axes"])) or None,
        "arms": ", ".join(map(one_line, sweep["arms"])) or None,
        "seeds": len(sweep["seeds"]),
        "search": _search(sweep),
        "prune": _prune(sweep),
        "points": sweep["points"],
        "diverged": sweep["stop_reasons"].get("diverged", 0),
        "done": _share(sweep),
        "left": time_left(sweep),
    }
    show(table(("what", "value"), [(name, words(value)) for name, value in facts.items() if value is not None]))
    if sweep.get("rungs"):
        rows = [(one["arm"], one["step"], one["points"], one["kept"], _rung(one)) for one in sweep["rungs"]]
        show(table(("arm", "rung at step", "points", "kept", "state"), rows))


def _prune(sweep: Json) -> str | None:
    prune = sweep.get("prune")
    if not prune:
        return None
    order = "highest" if prune["higher_is_better"] else "lowest"
    said = f"{prune['state']}, one in {prune['factor']} by the {order} {prune['metric']}"
    return one_line(f"{said}, {prune['experiments']:,} experiments ended")


def _rung(rung: Json) -> str:
    if rung["decided_at"] is not None:
        return "decided"
    return "later" if rung["awaited"] is None else f"waits for {rung['awaited']:,} experiments"


def _search(sweep: Json) -> str | None:
    search = sweep.get("search")
    if not search:
        return None
    said = f"{search['state']}, {search['submitted']:,} trials, {search['direction']} {search['objective']}"
    return one_line(said + (f": {search['note']}" if search["note"] else ""))


def _state(sweep: Json) -> Text:
    state = one_line(str(sweep["state"]))
    return Text(state, style=STATE_COLOURS.get(state, ""))


def _age(sweep: Json) -> str | None:
    seconds = age_seconds(sweep)
    return None if seconds is None else duration(seconds)


def _share(sweep: Json) -> str:
    return f"{100 * sweep['progress']['fraction']:.0f} %"
