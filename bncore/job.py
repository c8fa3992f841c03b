"""One job in one run directory: an experiment is trained, a data set imported, a checkpoint evaluated, a study
judged or taken further.

Invariant: whatever the kind, the directory is locked by one process, used once, and its last event says how it ended.
Which kind it is, a file says (`RunLayout.kind`); a kind's module is imported when there is a job for it.
"""

import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from bncore.events import Concluded, Failed, Finished, Rested, Stopped
from bncore.run_directory import JobKind, RunLayout
from bncore.train.attempt import conclude, failure_of, never, run_attempt, unheard
from bncore.train.run_directory import RunDirectory

_logger = logging.getLogger(__name__)

_FUNCTIONS: dict[JobKind, tuple[str, str]] = {
    "dataset": ("bncore.data.importing", "run_import"),
    "evaluation": ("bncore.evaluation", "run_evaluation"),
    "study": ("bncore.study_step", "run_step"),
}


class _Run(Protocol):
    """What does a job that trains nothing: it logs its events, the last one included, and returns that."""

    def __call__(self, directory: RunDirectory, stop_asked: Callable[[], bool]) -> Concluded | Stopped | Failed: ...


def run_job(
    path: Path,
    stop_asked: Callable[[], bool] = never,
    *,
    wait_seconds: float = 0.0,
    ring: Callable[[], None] = unheard,
    durable: bool = True,
) -> Finished | Concluded | Stopped | Rested | Failed:
    """Do what the run directory `path` asks for; how it ended, which is the last event written there.

    Arguments and errors are those of `bncore.train.run_attempt`; ValueError where two things are asked for.
    """
    kind = RunLayout(path).kind
    if kind == "experiment":
        return run_attempt(path, stop_asked, wait_seconds=wait_seconds, ring=ring, durable=durable)
    directory = RunDirectory(path, wait_seconds=wait_seconds, stop_asked=stop_asked, ring=ring, durable=durable)
    try:
        return _run(directory, kind, stop_asked)
    finally:
        directory.close()


def _run(directory: RunDirectory, kind: JobKind, stop_asked: Callable[[], bool]) -> Concluded | Stopped | Failed:
    module, name = _FUNCTIONS[kind]
    try:
        run = cast(_Run, getattr(importlib.import_module(module), name))
        return run(directory, stop_asked)
    # As in training: what ends without a word would be tried again, and end so again.
    except Exception as error:
        _logger.exception("%s failed", kind)
        return conclude(directory, failure_of(error))
