"""How a study is followed, stage by stage, and how its answer is shown: verdict first."""

import re
import webbrowser
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from client.commands.naming import only
from client.commands.outcome import Exit, leave
from client.commands.output import (
    STATE_COLOURS,
    Bars,
    bars,
    emit,
    inline,
    message,
    show,
    table,
    tell,
    time_left,
    words,
)
from client.commands.target import target_option
from client.errors import Json, Unreachable
from client.http import Client
from client.printable import one_line

_WHOLE = re.compile(r"stu_[0-9a-f]{32}")
_NEWEST = "last"
_SCALES = {"tiny": "tiny: shows that it runs, and decides nothing"}
_OUTCOMES = {"holds": "green", "does_not_hold": "red", "inconclusive": "yellow"}

StudyId = Annotated[
    str,
    typer.Argument(
        help="A study: its id, the beginning of that, its name or claim, or `last` for the newest.",
        metavar="STUDY",
        show_default=False,
    ),
]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="Stay until it was judged, and show the verdict.")]
Timeout = Annotated[float | None, typer.Option("--timeout", min=0.0, help="Wait no longer.", metavar="SECONDS")]
Page = Annotated[
    Path | None,
    target_option("--output", "-o", help="Write the report there: a page, or .json.", metavar="PATH"),
]
Opened = Annotated[bool, typer.Option("--open", help="Show the page in a browser.")]


def study_id_of(client: Client, wanted: str) -> str:
    """The id of the one study that can be meant. Raises `ClientError`."""
    if _WHOLE.fullmatch(wanted):
        return wanted
    every = client.studies()
    found: Iterator[Json] = (
        one for one in every if wanted in (one["name"], one["claim"]) or str(one["id"]).startswith(wanted)
    )
    return only("study", wanted, islice(every, 1) if wanted == _NEWEST else found, ("id", "state", "claim", "name"))


def announced(
    client: Client,
    study: Json,
    *,
    wait: bool,
    timeout: float | None,
    output: Path | None,
    opened: bool,
    as_json: bool,
) -> None:
    """Say what was submitted; with `wait`, or where there is a report to be written, see it through."""
    if not as_json:
        _warn_of(study)
    if wait or output is not None or opened:
        see_through(client, study, timeout, as_json, output, opened=opened)
    elif as_json:
        emit(study)
    else:
        show(f"{inline(study['id'])} [dim]{inline(study['state'])}[/]")


def _warn_of(study: Json) -> None:
    """What may not be meant so of what was submitted, each with the first arm that it is of."""
    for one in study.get("warnings") or ():
        part = f"{one['claim']}, " if study["kind"] == "article" else ""
        at = ", ".join(f"{path} = {value}" for path, value in one["setting"].items())
        where = f"{part}{one['arm']}{f' at {at}' if at else ''}, {one['places']:,} of {one['of']:,}"
        tell(f"Warning: {one_line(str(one['pointer']))}: {one_line(str(one['detail']))} (arm {one_line(where)})")


def see_through(
    client: Client,
    study: Json,
    timeout: float | None,
    as_json: bool,
    output: Path | None = None,
    *,
    opened: bool = False,
) -> None:
    """Stay until it was judged, a bar a stage, and show the answer; ends the command as the study did."""
    study_id = study["id"]
    try:
        with bars(shown=not as_json) as shown:
            found = client.wait_study(study_id, timeout, _Following(shown, study["state"]))
    except (KeyboardInterrupt, Unreachable):
        tell(f"{study_id} goes on. `bnlab study wait {study_id}` waits again, `bnlab study cancel {study_id}` ends it.")
        raise
    path = None
    if found["judged"] and (output is not None or opened):
        path = save_report(client, study_id, output, opened=opened)
    if as_json:
        verdict = {"verdict": client.study_verdict(study_id)} if found["judged"] else {}
        emit({**found, **verdict, **({} if path is None else {"report": str(path)})})
    else:
        print_study(found)
        print_verdict(client, found)
        if path is not None:
            show(f"report: {inline(path)}")
    if found["state"] != "succeeded":
        leave(Exit.ENDED_BADLY)


def save_report(client: Client, study_id: str, output: Path | None, *, opened: bool) -> Path:
    """The report in a file, a page unless the suffix is .json."""
    target = output or Path(f"{study_id}.html")
    if target.suffix.lower() == ".json":
        leave(Exit.USAGE, f"{target}: `bnlab study report --json > {target}` writes the report as JSON")
    path = client.save_study_page(study_id, target)
    if opened:
        webbrowser.open(path.resolve().as_uri())
    return path


def print_study(study: Json) -> None:
    """How far it is."""
    state = Text(one_line(str(study["state"])), style=STATE_COLOURS.get(study["state"], ""))
    counts = ", ".join(f"{count:,} {inline(name)}" for name, count in study["states"].items())
    show(inline(study["id"]), state, counts)
    facts: dict[str, Any] = {
        "name": study["name"],
        "claim": study["claim"],
        "scale": _SCALES.get(study["scale"], study["scale"]),
        "stage": study["stage"],
        "seeds": f"{study['seeds']:,} of at most {study['most']:,}" if study["most"] else None,
        "workers' time": f"{study['seconds']:,.0f} s",
        "done": f"about {100 * study['progress']['fraction']:.0f} %" if not study["is_terminal"] else None,
        "ahead": ", ".join(f"{one['name']}: about {one['experiments']:,} runs" for one in study["ahead"]) or None,
        "left": time_left(study) if not study["is_terminal"] else None,
        "waits for": study["waiting_for"],
    }
    show(table(("what", "value"), [(name, words(value)) for name, value in facts.items() if value is not None]))
    if study["failure"]:
        show(f"[red]{inline(study['failure']['code'])}[/]: {message(study['failure']['message'])}")


def print_verdict(client: Client, study: Json) -> None:
    """Every question with its outcome, and the sentence that says it."""
    if not study["judged"]:
        return
    verdicts = client.study_verdict(study["id"])["verdicts"]
    for verdict in verdicts:
        outcome = str(verdict["outcome"])
        label = f" ({verdict['label']})" if verdict.get("label") else ""
        said = Text(one_line(f"{outcome.replace('_', ' ')}{label}".replace("_", " ")), style=_OUTCOMES.get(outcome, ""))
        show("")
        show(Text(one_line(str(verdict["name"])), style="bold"), said)
        show(message(verdict["sentence"]))


class _Following:
    """A bar a stage, from when the stage is there; told how the study is."""

    def __init__(self, shown: Bars, state: str) -> None:
        self._shown = shown
        self._state = state
        self._known: set[str] = set()

    def __call__(self, study: Json) -> None:
        for stage in study["stages"]:
            if stage["name"] not in self._known:
                self._known.add(stage["name"])
                self._shown.add({"id": stage["name"]}, f"{stage['name']} ({stage['experiments']:,} runs)")
            self._shown.update(_as_bar(study, stage))
        if study["state"] == "paused" != self._state:
            tell(f"{study['id']} is paused; `bnlab study resume {study['id']}` lets it go on.")
        self._state = study["state"]


def _as_bar(study: Json, stage: Mapping[str, Any]) -> Json:
    """A stage as `Bars` has it of an experiment."""
    done = stage["progress"]["fraction"] >= 1.0 or not set(stage["states"]) - {"succeeded", "failed", "cancelled"}
    is_last = stage is study["stages"][-1]
    state = "done" if done else str(study["state"])
    left = {"eta_seconds": study["eta_seconds"]} if is_last and not done else {}
    # Runs that diverged have ended before their last step.
    progress = {**stage["progress"], **({"fraction": 1.0} if done else {})}
    return {"id": stage["name"], "state": state, "progress": progress, "is_terminal": done, **left}
