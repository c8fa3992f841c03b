"""An evaluation as a job: what a run directory asks for, and what was found.

Invariant: the checkpoint's file is read and never written; the same files give the same result, to the bit, on the same
kind of device.
"""

import logging
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file

from bncore.data import Examples, InvalidData, Part, load_data, load_for
from bncore.data.dataset import HELD_BYTES
from bncore.evaluation.answering import answered
from bncore.evaluation.measuring import Found, measure
from bncore.evaluation.scores import INLINE_PER_CLASS
from bncore.events import Concluded, Failed, PhaseChanged, Stopped
from bncore.networks import build_network
from bncore.spec import ExperimentSpec, SpecError, data_shape, parse_json
from bncore.spec.evaluation import CheckpointEvaluation, evaluation_faults, load_evaluation
from bncore.spec.prediction import Prediction, load_prediction, prediction_faults
from bncore.train.attempt import conclude, failure_of
from bncore.train.checkpoint import read_weights
from bncore.train.environment import prepare_device
from bncore.train.evaluate import equal_parts
from bncore.train.loading import saved_spec, standardization_of
from bncore.train.run_directory import RunDirectory

CONFUSION_FILE = "confusion.safetensors"
MOST_NAMED = INLINE_PER_CLASS
"""Of more classes, a result names none."""

_logger = logging.getLogger(__name__)


class _StopAsked(Exception):
    pass


def run_evaluation(directory: RunDirectory, stop_asked: Callable[[], bool]) -> Concluded | Stopped | Failed:
    """Evaluate `checkpoint/weights.safetensors` of an opened run directory as its `evaluation.json` says.

    The last event, which is logged: what was found, or why nothing was. Between batches it looks whether it is asked to
    stop; nothing is kept then, and another attempt begins anew.
    """
    outcome: Concluded | Stopped | Failed
    try:
        outcome = _evaluate(directory, stop_asked)
    except _StopAsked:
        outcome = Stopped(step=0)
    # Everything is caught: an attempt that failed without saying how would be restarted, and fail again.
    except Exception as error:
        _logger.exception("the evaluation failed")
        outcome = failure_of(error)
    return conclude(directory, outcome)


def _evaluate(directory: RunDirectory, stop_asked: Callable[[], bool]) -> Concluded:
    def between() -> None:
        if stop_asked():
            raise _StopAsked

    layout = directory.layout
    document = parse_json(layout.evaluation.read_bytes())
    if isinstance(document, dict) and "inputs" in document:
        return _predict(directory, load_prediction(document))
    asked = load_evaluation(document)
    directory.log(PhaseChanged(phase="restoring"))
    saved = saved_spec(layout.checkpoint_weights)
    _check(asked, saved.spec)
    device = torch.device(prepare_device(asked.resources))
    shape = data_shape(saved.spec.data)
    network = build_network(saved.spec.network, shape.signal, shape.outputs, device=device)
    read_weights(layout.checkpoint_weights, network)
    directory.log(PhaseChanged(phase="loading_data"))
    # Shown as the network learned to see inputs, not by what these data have themselves.
    seen = standardization_of(layout.checkpoint_weights)
    data = load_for(asked.data, layout.data, seen)
    examples = _placed(data.parts[asked.part], device)
    train = _training_batches(saved.spec, layout.data, device) if asked.statistics.kind == "precise" else ()
    between()
    directory.log(PhaseChanged(phase="evaluating"))
    found = measure(
        network.eval(), examples, shape.task, shape.outputs, asked.statistics, asked.batch_size, train, between
    )
    _save_arrays(directory, found)
    named = {"class_names": list(data.class_names)} if data.class_names and len(data.class_names) <= MOST_NAMED else {}
    return Concluded(result=_in_json({"step": saved.step, "device": device.type, **found.result, **named}))


def _predict(directory: RunDirectory, asked: Prediction) -> Concluded:
    weights = directory.layout.checkpoint_weights
    saved = saved_spec(weights)
    faults = prediction_faults(asked, saved.spec)
    if faults:
        raise InvalidData(str(SpecError(faults)))
    shape = data_shape(saved.spec.data)
    device = torch.device(prepare_device(asked.resources))
    network = build_network(saved.spec.network, shape.signal, shape.outputs, device=device)
    read_weights(weights, network)
    found = answered(network, asked, shape.signal, shape.task, standardization_of(weights))
    return Concluded(result=_in_json({"step": saved.step, **found}))


def _check(asked: CheckpointEvaluation, experiment: ExperimentSpec) -> None:
    faults = evaluation_faults(asked, experiment)
    if faults:
        raise InvalidData(str(SpecError(faults)))


def _training_batches(experiment: ExperimentSpec, data: Path, device: torch.device) -> Iterable[Examples]:
    """All training data of the experiment, in batches no smaller than those that training normalizes."""
    train = _placed(load_data(experiment.data, data).train, device)
    together = min(experiment.train.micro_batches(experiment.train.batch_size))
    return equal_parts(train, train.size // together)


def _placed(part: Part, device: torch.device) -> Part:
    return part.placed(device, held=part.stored_bytes <= HELD_BYTES[device.type])


def _save_arrays(directory: RunDirectory, found: Found) -> None:
    if found.arrays:

        def write(path: Path) -> None:
            # The tensors' names are sorted, and there are no metadata: the same numbers are the same bytes.
            save_file(found.arrays, path)

        directory.save(CONFUSION_FILE, "confusion", write)


def _in_json(value: Any) -> Any:
    """With "NaN", "Infinity" and "-Infinity" for what JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _in_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_in_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
