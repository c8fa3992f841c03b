"""One attempt from an opened run directory to its last event, whatever goes wrong in between."""

import contextlib
import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from bncore.data import InvalidData, load_data
from bncore.events import Concluded, Failed, FailureCode, Finished, PhaseChanged, Rested, Stopped
from bncore.spec import load_spec, parse_json
from bncore.train.checkpoint import CheckpointDamaged
from bncore.train.environment import prepare
from bncore.train.run_directory import RunDirectory
from bncore.train.trainer import Trainer

Outcome = TypeVar("Outcome", Finished | Stopped | Rested | Failed, Concluded | Stopped | Failed)

_logger = logging.getLogger(__name__)


def never() -> bool:
    """Nobody asks to stop."""
    return False


def unheard() -> None:
    """Nobody listens."""


def run_attempt(
    path: Path,
    stop_asked: Callable[[], bool] = never,
    *,
    wait_seconds: float = 0.0,
    ring: Callable[[], None] = unheard,
    durable: bool = True,
) -> Finished | Stopped | Rested | Failed:
    """Train the spec of the run directory `path`; how it ended, which is the last event written there.

    `stop_asked` is called before every step: once it says yes, the run is saved and ends. For another trainer's end it
    waits up to `wait_seconds`; `ring` is called when there are new numbers. What is not `durable` a power cut may take:
    for whoever begins a new directory then. Raises `RunDirectoryBusy` or
    `RunDirectoryUsed`, and writes nothing, where the directory is not free to train in. On a full disk the event may be
    missing.
    """
    directory = RunDirectory(path, wait_seconds=wait_seconds, stop_asked=stop_asked, ring=ring, durable=durable)
    try:
        return conclude(directory, _train(directory, stop_asked))
    finally:
        directory.close()


def conclude(directory: RunDirectory, outcome: Outcome) -> Outcome | Failed:
    """Log the last event of an attempt, and return it. Where there is no room for it, a failure that is shorter."""
    try:
        directory.log(outcome)
    except OSError as error:
        if not is_disk_full(error):
            raise
        failed = failure_of(error)
        # The exit code says it too.
        with contextlib.suppress(OSError):
            directory.log(failed)
        return failed
    return outcome


def failure_of(error: Exception) -> Failed:
    """What an exception that nobody caught comes to."""
    return Failed(code=_code(error), message=_line(error))


def is_disk_full(error: BaseException) -> bool:
    """Whether the error is the host's want of room, which another try elsewhere would not repeat."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _train(directory: RunDirectory, stop_asked: Callable[[], bool]) -> Finished | Stopped | Rested | Failed:
    try:
        spec = load_spec(parse_json(directory.read_spec()))
        directory.log(PhaseChanged(phase="loading_data"))
        environment = prepare(spec)
        trainer = Trainer(directory, spec, environment, load_data(spec.data, directory.layout.data))
        if directory.restorable():
            directory.log(PhaseChanged(phase="restoring"))
            trainer.restore()
        elif spec.start_from is not None:
            directory.log(PhaseChanged(phase="restoring"))
            trainer.begin_from(directory.layout.checkpoint_weights)
        directory.log(PhaseChanged(phase="training"))
        return trainer.run(stop_asked)
    # Everything is caught: an attempt that failed without saying how would be restarted, and fail again.
    except Exception as error:
        _logger.exception("training failed")
        return failure_of(error)


def _code(error: Exception) -> FailureCode:
    if is_disk_full(error):
        return "disk_full"
    if isinstance(error, CheckpointDamaged):
        return "checkpoint_damaged"
    if isinstance(error, InvalidData):
        return "invalid_data"
    if isinstance(error, torch.OutOfMemoryError):
        return "out_of_memory"
    return "trainer_error"


def _line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:500]
