"""The network of a spec, layer by layer, without torch: names, output shapes, parameter counts, and what cannot work.

It serves `POST /v1/experiments:validate` and refuses at the POST what would fail in the first training step. A test
holds it equal, over the whole union, to the network that `bncore.networks` builds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from bncore.spec.blueprint import Laid, LayerPlan, Signal, lay
from bncore.spec.budget import EvaluationSpec, TrainSpec
from bncore.spec.data import DataShape, DataSpec, Task, data_shape
from bncore.spec.faults import Fault
from bncore.spec.measuring import smallest_evaluated
from bncore.spec.network import NetworkSpec
from bncore.spec.norm import BatchSize
from bncore.spec.optimizer import ScheduleSpec

MAX_PARAMETERS = 50_000_000
"""With Adam a checkpoint is three float32 tensors a parameter: 600 MB, stored and restored through the database."""

MAX_STATE = 2 * MAX_PARAMETERS
"""Numbers that normalizations keep beside the parameters: as many as Adam."""

MAX_STEPS = 100_000_000

_NETWORK, _BATCH = "/network", "/train/batch_size"


@dataclass(frozen=True)
class Plan:
    """What a spec amounts to before anything runs."""

    input_shape: tuple[int, ...]
    task: Task
    outputs: int
    """Classes, or numbers that a regression predicts."""
    classes: int | None
    train_examples: int
    validation_examples: int
    test_examples: int
    steps_per_epoch: int
    total_steps: int
    layers: tuple[LayerPlan, ...]
    parameters: int


def plan_parts(data: DataSpec, network: NetworkSpec, train: TrainSpec) -> Plan:
    """The plan of a data set, a network and a budget that fit together."""
    sizes = data_shape(data)
    laid = laid_network(network, sizes.signal, sizes.outputs)
    per_epoch = steps_per_epoch(train, sizes)
    return Plan(
        input_shape=sizes.input_shape,
        task=sizes.task,
        outputs=sizes.outputs,
        classes=sizes.classes,
        train_examples=sizes.train_examples,
        validation_examples=sizes.validation_examples,
        test_examples=sizes.test_examples,
        steps_per_epoch=per_epoch,
        total_steps=total_steps(train, per_epoch),
        layers=laid.layers,
        parameters=laid.parameters,
    )


@lru_cache(maxsize=256)
def laid_network(network: NetworkSpec, signal: Signal, outputs: int) -> Laid:
    """The network laid out for the signal; remembered for the 256 seen last."""
    return lay(network.blueprint(signal, outputs), signal, _NETWORK)


def steps_per_epoch(train: TrainSpec, sizes: DataShape) -> int:
    """Batches in one epoch."""
    whole, rest = divmod(sizes.train_examples, train.batch_size)
    return whole + (1 if rest and not (train.drop_last or sizes.whole_batches) else 0)


def total_steps(train: TrainSpec, per_epoch: int) -> int:
    """Optimizer steps of the whole budget."""
    if train.steps is not None:
        return train.steps
    return (train.epochs or 0) * per_epoch


def faults_between_parts(
    data: DataSpec, network: NetworkSpec, train: TrainSpec, schedule: ScheduleSpec, evaluation: EvaluationSpec
) -> list[Fault]:
    """Everything that is wrong although each part is right by itself."""
    sizes = data_shape(data)
    if train.batch_size > sizes.train_examples:
        left = f", without the {sizes.validation_examples} held out for validation" * bool(sizes.validation_examples)
        detail = f"The data set has {sizes.train_examples} training examples{left}; a batch cannot be larger"
        return [Fault(_BATCH, detail, "batch_larger_than_data")]
    faults = list(_budget_faults(train, schedule, sizes))
    misfits = list(_misfits(network, sizes))
    if misfits:
        return faults + misfits
    laid = laid_network(network, sizes.signal, sizes.outputs)
    faults += laid.faults or _batch_faults(train, evaluation, sizes, laid)
    faults += _size_faults(network, laid)
    return faults


def _misfits(network: NetworkSpec, sizes: DataShape) -> Iterator[Fault]:
    """Why the network can make nothing of the data."""
    signal, pointer = sizes.signal, f"{_NETWORK}/kind"
    if signal.kind not in network.takes:
        wanted = " or ".join(f"{kind.rstrip('s')}s" for kind in network.takes)
        detail = f"{network.kind} takes {wanted}, and an example of these data is {signal}"
        yield Fault(pointer, f"{detail}{_cure(network, signal)}", "signal_does_not_fit")
    elif signal.lengths and not network.takes_lengths:
        detail = f"{network.kind} would read the padding of sequences of different lengths; use a recurrent network"
        yield Fault(pointer, detail, "signal_does_not_fit")
    elif sizes.task == "tagging" and not network.tags:
        detail = f"{network.kind} has one output for a sequence, and these data have a label for each step"
        has_other = "output" in type(network).model_fields
        cure = "set output to each_step" if has_other else "use a recurrent network with output each_step"
        yield Fault(pointer, f"{detail}; {cure}", "task_does_not_fit")
    elif sizes.task != "tagging" and network.tags:
        detail = "There would be an output for each step, and these data have one label for a sequence"
        yield Fault(f"{_NETWORK}/output", f"{detail}; use another output", "task_does_not_fit")


def _cure(network: NetworkSpec, signal: Signal) -> str:
    """What makes of these data something that the network takes, and else who takes them as they are."""
    if signal.kind == "image":
        is_row = "sequence" in network.takes and signal.channels == 1
        return "; as row in /data makes sequences of images" if is_row else ""
    if signal.kind == "sequence" and not signal.lengths and "image" in network.takes:
        return "; leave as at image in /data"
    takers = {"vector": "mlp and deep_linear take", "sequence": "recurrent networks and transformer_encoder take"}
    return f"; {takers[signal.kind]} these" if signal.kind in takers else ""


def _budget_faults(train: TrainSpec, schedule: ScheduleSpec, sizes: DataShape) -> Iterator[Fault]:
    total = total_steps(train, steps_per_epoch(train, sizes))
    if total > MAX_STEPS:
        detail = f"{total:,} steps; at most {MAX_STEPS:,} are allowed"
        yield Fault("/train/epochs", detail, "budget_too_long")
    if schedule.warmup_steps >= total:
        detail = f"The budget is {total} steps: the learning rate would never arrive; use fewer than {total}"
        yield Fault("/schedule/warmup_steps", detail, "warmup_longer_than_budget")


def _batch_faults(train: TrainSpec, evaluation: EvaluationSpec, sizes: DataShape, laid: Laid) -> Iterator[Fault]:
    """What is wrong with the batches for the first normalization that cannot work with them."""
    batches = [_smallest_part(train, train.batch_size, "each batch", "use a larger batch")]
    rest = 0 if train.drop_last or sizes.whole_batches else sizes.train_examples % train.batch_size
    if rest and (train.steps is None or train.steps >= steps_per_epoch(train, sizes)):
        cure = "use another batch size or drop_last"
        batches.append(_smallest_part(train, rest, "the last, partial batch of an epoch", cure))
    evaluated = smallest_evaluated(evaluation, sizes)
    if evaluated is not None:
        batches.append(evaluated)
    for norm, place in laid.norms:
        for batch in batches:
            faults = list(norm.batch_faults(place, batch))
            if faults:
                yield from faults
                return


def _smallest_part(train: TrainSpec, examples: int, which: str, cure: str) -> BatchSize:
    """Of a batch of so many examples, what is normalized together."""
    smallest = min(train.micro_batches(examples))
    if smallest == examples:
        return BatchSize(examples, which, cure, _BATCH)
    return BatchSize(smallest, f"a micro-batch of {which}", "accumulate fewer", "/train/accumulate")


def _size_faults(network: NetworkSpec, laid: Laid) -> Iterator[Fault]:
    if laid.state > MAX_STATE:
        norm, place = max(laid.norms, key=lambda mounted: mounted[0].state(mounted[1]))
        detail = (
            f"The normalizations would keep {laid.state:,} numbers; at most {MAX_STATE:,} are allowed; "
            f"use {norm.state_cure}"
        )
        yield Fault(place.own(norm.state_field), detail, "too_much_state")
    if laid.parameters > MAX_PARAMETERS:
        detail = f"{laid.parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed"
        yield Fault(f"{_NETWORK}/{network.width_field}", detail, "too_many_parameters")
