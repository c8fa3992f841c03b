"""What a run comes to, in lines: one a check, and everything that a fault needs to be understood."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench.chaos.ledger import Deed, Ledger

_MOST_SHOWN = 12
_LOG_LINES = 40
_SAY_LITTLE = ("timestamp", "process", "level", "experiment_id", "request_id", "request", "checkpoint_stored")


@dataclass
class Finding:
    """One check: what it is about, and what is wrong."""

    title: str
    faults: list[str] = field(default_factory=list)
    jobs: set[str] = field(default_factory=set)
    """Those that a fault is about: their history is shown."""
    note: str = ""

    def fault(self, words: str, job_id: str | None = None) -> None:
        self.faults.append(words)
        if job_id is not None:
            self.jobs.add(job_id)

    def lines(self) -> Iterator[str]:
        yield f"{'FAULT' if self.faults else 'ok   '} {self.title}{f' ({self.note})' if self.note else ''}"
        for words in self.faults[:_MOST_SHOWN]:
            yield f"        {words}"
        if len(self.faults) > _MOST_SHOWN:
            yield f"        and {len(self.faults) - _MOST_SHOWN} more"


def summary(ledger: Ledger, ends: Counter[str], restarts: int, attempts: int, seconds: float) -> Iterator[str]:
    """What was done, and what the jobs came to."""
    yield f"{len(ledger.deeds)} actions in {seconds:.0f} s:"
    by_kind: dict[str, Counter[str]] = {}
    for deed in ledger.deeds:
        by_kind.setdefault(deed.kind, Counter())[deed.outcome] += 1
    for kind, outcomes in sorted(by_kind.items()):
        yield f"  {kind:<38} {', '.join(f'{count} {outcome}' for outcome, count in outcomes.most_common())}"
    yield f"jobs: {', '.join(f'{count} {state}' for state, count in sorted(ends.items()))}"
    yield f"attempts: {attempts}, restarts counted: {restarts}"
    yield f"answers: {', '.join(f'{count} x {status}' for status, count in sorted(ledger.answers.items()))}"


def history(job_id: str, directory: Path, deeds: Sequence[Deed], names: Iterable[str]) -> Iterator[str]:
    """What was done to a job, and what the processes said of it, in order of time."""
    yield f"--- {job_id}"
    told = [(_stamp(deed.at), f"[{deed.number}] {deed.kind} {deed.outcome}: {deed.what}") for deed in deeds]
    for name in names:
        for line in _log(directory / f"{name}.log"):
            if job_id in json.dumps(line) and line.get("event") not in _SAY_LITTLE:
                said = {key: value for key, value in line.items() if key not in _SAY_LITTLE}
                told.append((str(line.get("timestamp", "")), f"{name}: {json.dumps(said)[:600]}"))
    for at, words in sorted(told)[-_LOG_LINES:]:
        yield f"  {at[11:23]} {words}"


def broken_lines(directory: Path, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Lines of the logs with a traceback in them, and text that is no line of a log, by process."""
    for name in names:
        for line in _log(directory / f"{name}.log"):
            if "exception" in line:
                words = " | ".join(part.strip() for part in str(line["exception"]).strip().splitlines()[-7:])
                yield name, f"{line.get('timestamp', '')} {line.get('event')}: {words}"[-900:]


def _log(path: Path) -> Iterator[dict[str, object]]:
    if not path.exists():
        return
    for text in path.read_text(errors="replace").splitlines():
        if text.startswith("{") and text.endswith("}"):
            yield json.loads(text)
        elif text.startswith(("Traceback", "Exception", "Fatal")):
            yield {"event": "not a line of the log", "exception": text}


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
