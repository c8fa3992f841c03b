"""One attempt from an opened run directory to its last event, whatever goes wrong in between."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch

from bncore.data import InvalidData, load_data
from bncore.events import Failed, FailureCode, Finished, PhaseChanged, Stopped
from bncore.spec import load_spec, parse_json
from bncore.train.environment import prepare
from bncore.train.run_directory import RunDirectory
from bncore.train.trainer import Trainer

_logger = logging.getLogger(__name__)


def never() -> bool:
    """Nobody asks to stop."""
    return False


def run_attempt(path: Path, stop_asked: Callable[[], bool] = never) -> Finished | Stopped | Failed:
    """Train the spec of the run directory `path`; the last event written there.

    `stop_asked` is called before every step: once it says yes, the run is saved and ends. Raises `RunDirectoryBusy` or
    `RunDirectoryUsed`, and writes nothing, where the directory is not free to train in.
    """
    directory = RunDirectory(path)
    try:
        outcome = _train(directory, stop_asked)
        directory.log(outcome)
    finally:
        directory.close()
    return outcome


def _train(directory: RunDirectory, stop_asked: Callable[[], bool]) -> Finished | Stopped | Failed:
    try:
        spec = load_spec(parse_json(directory.read_spec()))
        directory.log(PhaseChanged(phase="loading_data"))
        environment = prepare(spec)
        trainer = Trainer(directory, spec, environment, load_data(spec.data))
        if directory.restorable():
            directory.log(PhaseChanged(phase="restoring"))
            trainer.restore()
        directory.log(PhaseChanged(phase="training"))
        return trainer.run(stop_asked)
    # Everything is caught: an attempt that failed without saying how would be restarted, and fail again.
    except Exception as error:
        _logger.exception("training failed")
        return Failed(code=_code(error), message=_line(error))


def _code(error: Exception) -> FailureCode:
    if isinstance(error, InvalidData):
        return "invalid_data"
    if isinstance(error, torch.OutOfMemoryError):
        return "out_of_memory"
    return "trainer_error"


def _line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:500]
