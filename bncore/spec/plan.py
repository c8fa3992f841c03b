"""The network of a spec, layer by layer, without torch: names, output shapes, parameter counts, and what cannot work.

It serves `POST /v1/experiments:validate` and refuses at the POST what would fail in the first training step. A test
holds it equal, over the whole union, to the network that `bncore.networks` builds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import assert_never

from bncore.spec.budget import TrainSpec
from bncore.spec.data import DataShape, DataSpec, data_shape
from bncore.spec.faults import Fault
from bncore.spec.network import CnnSpec, MlpSpec, NetworkSpec
from bncore.spec.norm import BatchNormSpec, BatchSize, NormSpec, Place
from bncore.spec.optimizer import ScheduleSpec

MAX_PARAMETERS = 50_000_000
"""With Adam a checkpoint is three float32 tensors a parameter: 600 MB, stored and restored through the database."""

MAX_STATE = 2 * MAX_PARAMETERS
"""Numbers that normalizations keep beside the parameters: as many as Adam."""

MAX_STEPS = 100_000_000

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerPlan:
    """One layer: its name in the network, its kind, its output shape without the batch axis, its parameters."""

    name: str
    kind: str
    output_shape: Shape
    parameters: int


@dataclass(frozen=True)
class Plan:
    """What a spec amounts to before anything runs."""

    input_shape: Shape
    classes: int
    train_examples: int
    test_examples: int
    steps_per_epoch: int
    total_steps: int
    layers: tuple[LayerPlan, ...]
    parameters: int


@dataclass
class _Draft:
    """A network while its layers are laid one behind the other."""

    shape: Shape
    layers: list[LayerPlan] = field(default_factory=list)
    norms: list[tuple[NormSpec, Place]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def add(self, name: str, kind: str, shape: Shape, parameters: int = 0) -> None:
        self.shape = shape
        self.layers.append(LayerPlan(name, kind, shape, parameters))


def plan_parts(data: DataSpec, network: NetworkSpec, train: TrainSpec) -> Plan:
    """The plan of a data set, a network and a budget that fit together."""
    sizes = data_shape(data)
    draft = _draft(network, sizes)
    per_epoch = steps_per_epoch(train, sizes)
    return Plan(
        input_shape=sizes.input_shape,
        classes=sizes.classes,
        train_examples=sizes.train_examples,
        test_examples=sizes.test_examples,
        steps_per_epoch=per_epoch,
        total_steps=total_steps(train, per_epoch),
        layers=tuple(draft.layers),
        parameters=sum(layer.parameters for layer in draft.layers),
    )


def steps_per_epoch(train: TrainSpec, sizes: DataShape) -> int:
    """Batches in one epoch."""
    whole, rest = divmod(sizes.train_examples, train.batch_size)
    return whole + (1 if rest and not train.drop_last else 0)


def total_steps(train: TrainSpec, per_epoch: int) -> int:
    """Optimizer steps of the whole budget."""
    if train.steps is not None:
        return train.steps
    return (train.epochs or 0) * per_epoch


def faults_between_parts(data: DataSpec, network: NetworkSpec, train: TrainSpec, schedule: ScheduleSpec) -> list[Fault]:
    """Everything that is wrong although each part is right by itself."""
    sizes = data_shape(data)
    if train.batch_size > sizes.train_examples:
        detail = f"The data set has {sizes.train_examples} training examples; a batch cannot be larger"
        return [Fault("/train/batch_size", detail, "batch_larger_than_data")]
    faults = list(_budget_faults(train, schedule, sizes))
    draft = _draft(network, sizes)
    faults += draft.faults or list(_batch_faults(train, sizes, draft))
    faults += _state_faults(draft)
    parameters = sum(layer.parameters for layer in draft.layers)
    if parameters > MAX_PARAMETERS:
        width = "/network/hidden" if isinstance(network, MlpSpec) else "/network/channels"
        detail = f"{parameters:,} parameters; at most {MAX_PARAMETERS:,} are allowed"
        faults.append(Fault(width, detail, "too_many_parameters"))
    return faults


def _budget_faults(train: TrainSpec, schedule: ScheduleSpec, sizes: DataShape) -> Iterator[Fault]:
    total = total_steps(train, steps_per_epoch(train, sizes))
    if total > MAX_STEPS:
        detail = f"{total:,} steps; at most {MAX_STEPS:,} are allowed"
        yield Fault("/train/epochs", detail, "budget_too_long")
    if schedule.warmup_steps >= total:
        detail = f"The budget is {total} steps: the learning rate would never arrive; use fewer than {total}"
        yield Fault("/schedule/warmup_steps", detail, "warmup_longer_than_budget")


def _batch_faults(train: TrainSpec, sizes: DataShape, draft: _Draft) -> Iterator[Fault]:
    """What is wrong with the batches for the first normalization that cannot work with them."""
    batches = [BatchSize(train.batch_size, "each batch", "use a larger batch")]
    rest = 0 if train.drop_last else sizes.train_examples % train.batch_size
    if rest and (train.steps is None or train.steps >= steps_per_epoch(train, sizes)):
        cure = "use another batch size or drop_last"
        batches.append(BatchSize(rest, "the last, partial batch of an epoch", cure))
    for norm, place in draft.norms:
        for batch in batches:
            faults = list(norm.batch_faults(place, batch))
            if faults:
                yield from faults
                return


def _state_faults(draft: _Draft) -> Iterator[Fault]:
    state = sum(norm.state(place) for norm, place in draft.norms)
    if state > MAX_STATE:
        # What it grows with: a window of batches, or the width of a group.
        norm = draft.norms[-1][0]
        field, cure = ("window", "a shorter window") if hasattr(norm, "window") else ("num_groups", "more groups")
        detail = f"The normalizations would keep {state:,} numbers; at most {MAX_STATE:,} are allowed; use {cure}"
        yield Fault(f"/network/norm/{field}", detail, "too_much_state")


def _draft(network: NetworkSpec, sizes: DataShape) -> _Draft:
    draft = _Draft(shape=sizes.input_shape)
    match network:
        case MlpSpec():
            _lay_mlp(draft, network)
        case CnnSpec():
            _lay_cnn(draft, network)
        case _:
            assert_never(network)
    if not draft.faults:
        (features,) = draft.shape
        draft.add("output", "linear", (sizes.classes,), (features + 1) * sizes.classes)
    return draft


def _lay_mlp(draft: _Draft, network: MlpSpec) -> None:
    draft.add("flatten", "flatten", (math.prod(draft.shape),))
    _lay_input_norm(draft, network)
    for number, width in enumerate(network.hidden, start=1):
        fan_in = draft.shape[0]
        draft.add(f"linear{number}", "linear", (width,), _weights(network, fan_in, width))
        _lay_norm_and_activation(draft, network, number, fan_in)


def _lay_cnn(draft: _Draft, network: CnnSpec) -> None:
    _lay_input_norm(draft, network)
    for number, width in enumerate(network.channels, start=1):
        channels, height, breadth = draft.shape
        fan_in = channels * network.kernel_size**2
        draft.add(f"conv{number}", "conv2d", (width, height, breadth), _weights(network, fan_in, width))
        _lay_norm_and_activation(draft, network, number, fan_in)
        if network.pool == "none":
            continue
        if min(height, breadth) < 2:
            detail = f"Block {number} would pool a {height}x{breadth} image; use fewer blocks or pool none"
            draft.faults.append(Fault(f"/network/channels/{number - 1}", detail, "image_too_small"))
            return
        draft.add(f"pool{number}", f"{network.pool}_pool", (width, height // 2, breadth // 2))
    draft.add("global_pool", "global_average_pool", (draft.shape[0], 1, 1))
    draft.add("flatten", "flatten", draft.shape[:1])


def _weights(network: MlpSpec | CnnSpec, fan_in: int, width: int) -> int:
    return (fan_in + int(network.bias)) * width + network.norm.weight_parameters(width)


def _lay_input_norm(draft: _Draft, network: MlpSpec | CnnSpec) -> None:
    if network.normalize_input:
        place = _place(draft, network, number=0, fan_in=0)
        draft.norms.append((BatchNormSpec(affine=False), replace(place, layer="input_norm")))
        draft.add("input_norm", "batch_norm", draft.shape)


def _lay_norm_and_activation(draft: _Draft, network: MlpSpec | CnnSpec, number: int, fan_in: int) -> None:
    if network.placement == "before_activation":
        _lay_norm(draft, network, number, fan_in)
    draft.add(f"activation{number}", network.activation, draft.shape)
    if network.placement == "after_activation":
        _lay_norm(draft, network, number, fan_in)
    if network.dropout > 0.0:
        draft.add(f"dropout{number}", "dropout", draft.shape)


def _lay_norm(draft: _Draft, network: MlpSpec | CnnSpec, number: int, fan_in: int) -> None:
    norm, place = network.norm, _place(draft, network, number, fan_in)
    said = {fault.pointer for fault in draft.faults}
    # What is wrong with every layer alike is said once.
    draft.faults += [fault for fault in norm.faults(place) if fault.pointer not in said]
    if norm.has_layer:
        draft.norms.append((norm, place))
        draft.add(place.layer, norm.kind, draft.shape, norm.parameters(place.channels))


def _place(draft: _Draft, network: MlpSpec | CnnSpec, number: int, fan_in: int) -> Place:
    width = "hidden" if isinstance(network, MlpSpec) else "channels"
    return Place(
        layer=f"norm{number}",
        channels=draft.shape[0],
        positions=math.prod(draft.shape[1:]),
        fan_in=fan_in,
        width_pointer=f"/network/{width}/{number - 1}",
        activation=network.activation,
        placement=network.placement,
        common_divisor=math.gcd(*(network.hidden if isinstance(network, MlpSpec) else network.channels)),
    )
