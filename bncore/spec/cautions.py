"""What a spec may say, and may not mean: nothing here keeps it from being run."""

from collections.abc import Iterator
from itertools import zip_longest

from bncore.spec.blueprint import Chain, Norm, Residual, Weights
from bncore.spec.data import data_shape
from bncore.spec.data.pixels import PixelsSpec
from bncore.spec.diagnostics import usual_diagnostics
from bncore.spec.diagnostics.fitting import cost
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault
from bncore.spec.network.recurrent import RecurrentSpec
from bncore.spec.network.resnet import ResnetSpec
from bncore.spec.norm.cold_start import COLD_START, warm_momentum
from bncore.spec.norm.recurrent import RecurrentLayerNormSpec, StepBatchNormSpec
from bncore.spec.optimizer import MAX_LR
from bncore.spec.plan import laid_network, steps_per_epoch, total_steps

MUCH_MEMORY = 8 * 2**30
"""Bytes of activations that most devices have no room for beside everything else."""
_BYTES = 4


def cautions(spec: ExperimentSpec) -> list[Fault]:
    """With a pointer, in words, and with a code, like faults; of equal layers the first is named."""
    found = [*_cold_starts(spec), *_dead_biases(spec), *_dead_channels(spec), *_blank_starts(spec)]
    return [*found, *_lonely_batches(spec), *_rates(spec), *_memory(spec), *_costs(spec)]


def _cold_starts(spec: ExperimentSpec) -> Iterator[Fault]:
    """Normalizations whose running statistics the budget is too short for."""
    sizes = data_shape(spec.data)
    steps = total_steps(spec.train, steps_per_epoch(spec.train, sizes))
    batches = steps * spec.train.accumulate
    said = set()
    for norm, place in laid_network(spec.network, sizes.signal, sizes.outputs).norms:
        share, pointer = norm.initial_share(batches), place.own(norm.momentum_field)
        if share > COLD_START and pointer not in said:
            said.add(pointer)
            detail = (
                f"At the end, {share:.0%} of the running statistics of {norm.name} are initial values, and evaluation "
                f"uses them; use {warm_momentum(batches):g} or more, or more steps"
            )
            yield Fault(pointer, detail, "cold_statistics")


def _dead_biases(spec: ExperimentSpec) -> Iterator[Fault]:
    """Asked for by name: by default they are there on purpose, so that arms of a comparison share every weight."""
    if "bias" not in spec.network.model_fields_set or spec.network.bias is not True:
        return
    sizes = data_shape(spec.data)
    name = _name_of_dead(spec.network.blueprint(sizes.signal, sizes.outputs), "")
    if name is not None:
        detail = f"The normalization behind {name} cancels its bias, which learns nothing; auto leaves such ones out"
        yield Fault("/network/bias", detail, "dead_bias")


def _name_of_dead(chain: Chain, prefix: str) -> str | None:
    """Of the first weights whose bias the layer behind them takes out."""
    for (name, layer), (_, behind) in zip_longest(chain.layers, chain.layers[1:], fillvalue=("", None)):
        found = None
        if isinstance(layer, Chain):
            found = _name_of_dead(layer, f"{prefix}{name}.")
        elif isinstance(layer, Residual):
            found = _name_of_dead(layer.body, f"{prefix}{name}.body.")
        elif isinstance(layer, Weights) and layer.bias and isinstance(behind, Norm):
            found = f"{prefix}{name}" if behind.spec.cancels_bias(layer.width) else None
        if found is not None:
            return found
    return None


def _dead_channels(spec: ExperimentSpec) -> Iterator[Fault]:
    network = spec.network
    if not isinstance(network, ResnetSpec):
        return
    dead, channels = network.channels_at_zero()
    if dead:
        detail = (
            f"{dead} of the last stage's {channels} channels stay 0 for ever: shortcut A fills them with zeros, and "
            f"with a scale of 0 in front of {network.activation} no gradient reaches them; use shortcut B, or "
            "leave zero_init_last_gamma out"
        )
        yield Fault("/network/zero_init_last_gamma", detail, "dead_channels")


def _blank_starts(spec: ExperimentSpec) -> Iterator[Fault]:
    """Recurrences without a spread to normalize while all images are blank, as the first rows of digits are."""
    network, begins_blank = spec.network, isinstance(spec.data, PixelsSpec) and spec.data.as_ != "image"
    if not begins_blank or not isinstance(network, RecurrentSpec):
        return
    detail = "The first steps of these images are blank: gradients may grow beyond measure there;"
    # Of what is normalized anew from step to step, the first says with what state sequences begin.
    for position in ("hidden_to_hidden", "sum", "cell"):
        norm, pointer = network.norm_at(position) if position in network.norm_order else (None, "")
        if isinstance(norm, StepBatchNormSpec):
            if norm.initial_noise == 0.0:
                yield Fault(f"/network{pointer}/initial_noise", f"{detail} leave it at 0.1", "blank_start")
            return
        if isinstance(norm, RecurrentLayerNormSpec) and not network.draws_biases():
            pointer = "/network/init" if network.bias else "/network/bias"
            yield Fault(pointer, f"{detail} use bias true with init default, which draws biases", "blank_start")
            return


def _lonely_batches(spec: ExperimentSpec) -> Iterator[Fault]:
    train, sizes = spec.train, data_shape(spec.data)
    examples, is_dropped = sizes.train_examples, train.drop_last or sizes.whole_batches
    per_epoch = steps_per_epoch(train, sizes)
    if train.batch_size > 1 and examples % train.batch_size == 1 and not is_dropped:
        if total_steps(train, per_epoch) < per_epoch:
            return
        detail = (
            f"The last batch of an epoch is a single one of {examples} examples, whose gradient counts as much as that "
            f"of {train.batch_size}; use another batch size or drop_last"
        )
        yield Fault("/train/batch_size", detail, "last_batch_of_one")


def _rates(spec: ExperimentSpec) -> Iterator[Fault]:
    if spec.optimizer.lr == MAX_LR:
        yield Fault("/optimizer/lr", f"Is the greatest there can be, {MAX_LR:g}: a search ends here", "lr_at_bound")


def _memory(spec: ExperimentSpec) -> Iterator[Fault]:
    """Batches whose activations hardly fit on a device. What a worker has is not known here."""
    train, sizes = spec.train, data_shape(spec.data)
    laid = laid_network(spec.network, sizes.signal, sizes.outputs)
    together = max(train.micro_batches(train.batch_size))
    bytes_kept = together * laid.activations * (_BYTES if train.precision == "fp32" else _BYTES // 2)
    steps = f" of {sizes.signal.steps:,} steps" if sizes.signal.steps > 1 else ""
    if bytes_kept > MUCH_MEMORY:
        detail = (
            f"Training would keep about {bytes_kept / 2**30:,.0f} GiB of activations for {together} examples{steps}; "
            "use a smaller batch_size, train.accumulate, or a smaller network"
        )
        yield Fault("/train/batch_size", detail, "much_memory")
    examples = min(spec.evaluation.batch_size, max(sizes.test_examples, sizes.validation_examples))
    bytes_at_once = examples * laid.widest * _BYTES
    if bytes_at_once > MUCH_MEMORY:
        detail = (
            f"Evaluation would hold about {bytes_at_once / 2**30:,.0f} GiB for {examples} examples{steps} at once; "
            "use a smaller batch_size, which changes no result"
        )
        yield Fault("/evaluation/batch_size", detail, "much_memory")


def _costs(spec: ExperimentSpec) -> Iterator[Fault]:
    """Diagnostics that take longer than the training that they look at."""
    sizes = data_shape(spec.data)
    steps = total_steps(spec.train, steps_per_epoch(spec.train, sizes))
    laid = laid_network(spec.network, sizes.signal, sizes.outputs)
    for place, one in enumerate(spec.diagnostics):
        times = cost(one, spec.train, steps, sizes, laid)
        # What every experiment has would be said of every short one.
        if times > 1.0 and one not in usual_diagnostics():
            detail = (
                f"{one.kind} would take about {times:.1f} times as long as training; measure less often, or on fewer "
                "examples"
            )
            yield Fault(f"/diagnostics/{place}", detail, "costly_diagnostic")
