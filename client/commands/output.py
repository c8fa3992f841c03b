"""What people and programs see. Standard output has the answer and nothing else; the rest goes to standard error.

Invariant: nothing reaches a terminal but through here, and here every text is made `printable`.
"""

import csv
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from client.errors import Json
from client.numbers import encoded
from client.printable import one_line, printable

UNBROKEN = frozenset({"id", "checkpoint", "norm", "state", "submitted (UTC)", "at (UTC)"})
"""Columns for copying from or comparing by: never cut or folded."""

UNFOLDED_WIDTH = 1000

STATE_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


def emit(value: Any, indent: int | None = 2) -> None:
    """One JSON document on standard output."""
    text = json.dumps(encoded(value), indent=indent, allow_nan=False)
    # The one control character that JSON lets stand; all others, and all that is not ASCII, are escapes.
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def emit_csv(rows: Iterable[Iterable[Any]]) -> None:
    """Rows on standard output as CSV, numbers in full; what is not known is empty."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows([one_line(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    sys.stdout.flush()


def show(*parts: Any, **options: Any) -> None:
    """For people, on standard output."""
    # Into a file or a pipe, lines are never folded: somebody looks for words in them.
    folded = sys.stdout.isatty() or "COLUMNS" in os.environ
    safe = [printable(part) if isinstance(part, str) else part for part in parts]
    _console(width=None if folded else UNFOLDED_WIDTH).print(*safe, highlight=False, **options)


def pass_on(text: str) -> None:
    """Lines from elsewhere as they are, on standard output, at once."""
    sys.stdout.write(printable(text))
    sys.stdout.flush()


def tell(text: str) -> None:
    """For people, beside the answer: on standard error."""
    _aside().print(escape(printable(text)), highlight=False)


def ask(question: str) -> bool:
    """A question to whoever sits at the terminal; anything but a yes is a no."""
    try:
        answer = _aside().input(f"{escape(printable(question))} \\[y/N] ")
    except EOFError:
        answer = ""
    return answer.strip().lower() in ("y", "yes")


def warn_of(answer: Mapping[str, Any]) -> None:
    """What was found in a spec that may not be meant so."""
    for warning in answer.get("warnings") or ():
        tell(f"Warning: {one_line(str(warning['pointer']))}: {one_line(str(warning['detail']))}")


def complain(text: str) -> None:
    """Say on standard error what is wrong."""
    _aside().print(f"[bold red]error:[/] {escape(printable(text))}", highlight=False)


def table(columns: Iterable[str], rows: Iterable[Iterable[Any]], title: str | None = None) -> Table:
    """A table; numbers are right-aligned and rounded, what is not known is a dash."""
    made = Table(title=inline(title or ""), title_justify="left", header_style="bold", box=None, pad_edge=False)
    listed = [[*row] for row in rows]
    for at, column in enumerate(columns):
        numeric = any(isinstance(row[at], int | float) for row in listed)
        made.add_column(column, justify="right" if numeric else "left", no_wrap=column in UNBROKEN)
    for row in listed:
        made.add_row(*(cell if isinstance(cell, Text) else escape(one_line(words(cell))) for cell in row))
    return made


def words(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def minute(moment: str) -> str:
    """A time of the API without its seconds and its zone, which is UTC."""
    return moment[:16].replace("T", " ")


def inline(value: object) -> str:
    """A value from elsewhere as part of a line of rich markup."""
    return escape(one_line(str(value)))


def message(text: object) -> str:
    """A message from elsewhere as rich markup; its lines are indented, so that none passes for one of ours."""
    return escape(printable(str(text))).replace("\n", "\n  ")


def coloured(experiment: Mapping[str, Any]) -> Text:
    """The state of an experiment. A run that diverged has succeeded as a measurement, but is nothing to be glad of."""
    state, diverged = str(experiment["state"]), experiment.get("stop_reason") == "diverged"
    colour = "yellow" if diverged else STATE_COLOURS.get(state, "")
    return Text(one_line(state) + (" (diverged)" if diverged else ""), style=colour)


class Bars:
    """A progress bar for each experiment."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._watched: set[TaskID] = set()

    def add(self, experiment: Mapping[str, Any], label: str | None = None) -> None:
        """Begin a bar for an experiment as `submit` returned it."""
        name = label or experiment.get("name") or experiment["id"]
        task = self._progress.add_task(inline(name), total=1.0, state="queued", numbers="", took=None, start=False)
        self._tasks[str(experiment["id"])] = task

    def update(self, results: Json) -> None:
        """Move a bar to where the results are."""
        task, progress = self._tasks[results["id"]], results.get("progress") or {}
        if results["state"] != "queued" and progress.get("step"):
            self._progress.start_task(task)
        state = results["state"] if results["state"] != "running" else results.get("phase") or "running"
        state += f", place {place}" if (place := place_in_queue(results)) else ""
        numbers = f"{progress.get('step', 0):,}/{progress.get('total_steps', 0):,}"
        numbers += _measured(results.get("summary") or {})
        numbers += f"  {left} left" if (left := time_left(results)) else ""
        fraction = progress.get("fraction") or 0.0
        self._progress.update(task, completed=fraction, state=inline(state), numbers=numbers)
        if results.get("is_terminal"):
            self._progress.update(task, took=_took(results, watched=task in self._watched))
            self._progress.stop_task(task)
        self._watched.add(task)


def _took(results: Json, *, watched: bool) -> str | None:
    """How long a run trained; None: as long as was looked on, which is nothing where it had ended before."""
    seconds = (results.get("summary") or {}).get("seconds")
    if isinstance(seconds, int | float):
        return f"{seconds:,.1f} s"
    return None if watched else ""


class Clock(TimeElapsedColumn):
    """How long a bar has been looked at while its run trains; of a run that has ended, how long it trained."""

    def render(self, task: Task) -> Text:
        """What the run took, in seconds, once that is known."""
        took = task.fields.get("took")
        return super().render(task) if took is None else Text(took, style="progress.elapsed")


def place_in_queue(experiment: Mapping[str, Any]) -> str | None:
    """Where it stands among those that wait, 1 being the next; None where it does not, or that is not known."""
    queue = experiment.get("queue")
    if not isinstance(queue, Mapping) or not isinstance(queue.get("position"), int):
        return None
    return f"{words(queue['position'])}{' or later' * bool(queue.get('ahead_capped'))}"


def time_left(experiment: Mapping[str, Any]) -> str | None:
    """How long what runs will take, in words; None where that is not known."""
    seconds = experiment.get("eta_seconds")
    return f"about {duration(seconds)}" if isinstance(seconds, int | float) and math.isfinite(seconds) else None


def duration(seconds: float) -> str:
    """A span in its greatest unit."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def byte_bar(name: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A live bar on standard error for what is sent; told how many bytes are there, and of how many."""
    layout = (TextColumn("{task.description}"), BarColumn(bar_width=30), DownloadColumn(), TransferSpeedColumn())
    with ExitStack() as shown_from_the_first:
        progress = Progress(*layout, console=_console(stderr=True), disable=not shown)
        task = progress.add_task(inline(name), total=None, start=False)

        def update(done: int, of: int) -> None:
            if not progress.tasks[0].started:
                # What is refused before a byte is sent has no bar.
                shown_from_the_first.enter_context(progress)
                progress.start_task(task)
            progress.update(task, completed=done, total=of)

        yield update


def _measured(summary: Json) -> str:
    """What the test data say last: the accuracy, or the loss of a regression, which has none."""
    accuracy, loss = summary.get("test_accuracy"), summary.get("test_loss")
    if isinstance(accuracy, float):
        return f"  test accuracy {accuracy:.3f}"
    return f"  test loss {loss:.4g}" if isinstance(loss, float) else ""


@contextmanager
def bars(*, shown: bool = True) -> Iterator[Bars]:
    """Live bars on standard error."""
    layout = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[state]}"),
        TextColumn("{task.fields[numbers]}"),
        Clock(),
    )
    with Progress(*layout, console=_console(stderr=True), disable=not shown) as progress:
        yield Bars(progress)


def _aside() -> Console:
    return _console(stderr=True, soft_wrap=True)


def _console(**how: Any) -> Console:
    # A name with colons in it is no emoji.
    return Console(emoji=False, **how)
