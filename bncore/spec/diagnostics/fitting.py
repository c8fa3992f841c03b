"""Whether diagnostics can measure what the rest of a spec describes, and what they would cost.

Invariant: what cannot be measured is refused, by a pointer and with what would be right; what only costs a lot is not.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import get_args

from bncore.spec.blueprint import Chain, Laid, Norm, Residual, Weights
from bncore.spec.blueprint.recurrent import Cell
from bncore.spec.budget import TrainSpec
from bncore.spec.data import DataShape
from bncore.spec.diagnostics import (
    MOST_MEASUREMENTS,
    DiagnosticSpec,
    GradientHeatmapSpec,
    NormHealthSpec,
    ScaleInvarianceSpec,
)
from bncore.spec.faults import Fault
from bncore.spec.network import NetworkSpec
from bncore.spec.norm import BatchSize

MOST_NUMBERS = 4_000_000
"""In one file: 32 MB, which a request reads whole."""

_STEP_PASSES = 3.0
"""Forward, and backward through inputs and weights."""
_MEASUREMENT_STEPS = 1.5
"""What a measurement takes whatever it measures: the copy of the network, the walk through it, the file."""
_NUMBERS_PER_CALL = 15_000
"""To call a layer takes as long as it takes to train on so many numbers that it keeps."""
_CALLS_PER_RECURRENT_STEP = 8
_MOST_OVERHEAD = 500.0
"""These four fit steps and diagnostics of perceptrons, convolutions, residual, recurrent networks and transformers on a
CPU, within a factor of 3 (`python -m bench.norm_health --all`)."""


def diagnostic_faults(
    diagnostics: Sequence[DiagnosticSpec],
    train: TrainSpec,
    total_steps: int,
    sizes: DataShape,
    laid: Laid,
    network: NetworkSpec,
) -> Iterator[Fault]:
    """What is wrong with each of them, for a network that fits the data."""
    for place, one in enumerate(diagnostics):
        pointer = f"/diagnostics/{place}"
        yield from _cadence_faults(one, pointer, total_steps)
        yield from _example_faults(one, pointer, train, sizes, laid)
        if isinstance(one, GradientHeatmapSpec) and sizes.task == "regression":
            detail = "These data are a regression and have no classes, which are its columns; leave it out"
            yield Fault(f"{pointer}/kind", detail, "diagnostic_does_not_fit")
        elif isinstance(one, ScaleInvarianceSpec) and not _has_normalized_weights(
            network.blueprint(sizes.signal, sizes.outputs)
        ):
            detail = "No normalization follows weights directly, so that nothing could be invariant; leave it out"
            yield Fault(f"{pointer}/kind", detail, "diagnostic_does_not_fit")


def cost(one: DiagnosticSpec, train: TrainSpec, total_steps: int, sizes: DataShape, laid: Laid) -> float:
    """What all measurements of a run take, in what its training takes, estimated from passes through the network.

    A pass takes as long as its examples and, for what is not arithmetic, as long as some more.
    """
    norms = {place.layer for _, place in laid.norms}
    weight_layers = sum(layer.parameters > 0 and layer.name not in norms for layer in laid.layers)
    examples = one.measured_on(sizes.train_examples, _together(train))
    more = _overhead(laid)
    passes = one.passes(weight_layers) * (examples + more) / (_STEP_PASSES * (train.batch_size + more))
    steps = one.measurements(total_steps) * (passes + _MEASUREMENT_STEPS)
    if isinstance(one, NormHealthSpec) and laid.norms and sizes.task == "classification":
        steps += one.accuracy_passes(total_steps, train.batch_size, sizes.test_examples) / (
            _STEP_PASSES * train.batch_size
        )
    return steps / total_steps


def _overhead(laid: Laid) -> float:
    """In examples, what a pass takes beside its arithmetic."""
    calls = sum(
        _CALLS_PER_RECURRENT_STEP * layer.output_shape[0] if layer.kind in get_args(Cell) else 1
        for layer in laid.layers
        if layer.parameters > 0
    )
    return min(_NUMBERS_PER_CALL * calls / max(1, laid.activations), _MOST_OVERHEAD)


def _cadence_faults(one: DiagnosticSpec, pointer: str, total_steps: int) -> Iterator[Fault]:
    for place, step in enumerate(one.at or ()):
        if step > total_steps:
            detail = f"The budget is {total_steps:,} steps: it would never be measured; use at most {total_steps}"
            yield Fault(f"{pointer}/at/{place}", detail, "beyond_budget")
    times = one.measurements(total_steps)
    if times > MOST_MEASUREMENTS:
        least = -(-total_steps // (MOST_MEASUREMENTS - 1))
        detail = f"Would be measured {times:,} times, at most {MOST_MEASUREMENTS:,} are kept; use {least} or more"
        yield Fault(f"{pointer}/every_steps", detail, "too_many_measurements")


def _example_faults(
    one: DiagnosticSpec, pointer: str, train: TrainSpec, sizes: DataShape, laid: Laid
) -> Iterator[Fault]:
    examples = one.measured_on(sizes.train_examples, _together(train))
    if examples * one.numbers(sizes.outputs) > MOST_NUMBERS:
        most = MOST_NUMBERS // sizes.outputs
        detail = f"{examples} rows of {sizes.outputs:,} numbers; use at most {most}, so that there are {MOST_NUMBERS:,}"
        yield Fault(f"{pointer}/examples", detail, "too_many_numbers")
    # As many as are normalized together in training have been looked at with the batches.
    if examples == _together(train):
        return
    cure = "measure on another number of them"
    batch = BatchSize(examples, "the examples of a diagnostic", cure, f"{pointer}/examples")
    for norm, place in laid.norms:
        faults = list(norm.batch_faults(place, batch))
        if faults:
            yield from faults
            return


def _together(train: TrainSpec) -> int:
    """Examples that are normalized together, at the least, of a whole batch."""
    return min(train.micro_batches(train.batch_size))


def _has_normalized_weights(chain: Chain) -> bool:
    layers = [layer for _, layer in chain.layers]
    for weights, behind in itertools.pairwise(layers):
        if isinstance(weights, Weights) and isinstance(behind, Norm) and behind.spec.has_layer:
            return True
    return any(_has_normalized_weights(inner) for layer in layers for inner in _chains(layer))


def _chains(layer: object) -> tuple[Chain, ...]:
    match layer:
        case Chain():
            return (layer,)
        case Residual():
            return (layer.body, layer.shortcut)
        case _:
            return ()
