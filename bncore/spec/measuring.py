"""Whether what is descended, measured and aimed at fits what the data have, and how that is computed the device."""

from collections.abc import Iterator

from bncore.spec.budget import EvaluationSpec, ResourcesSpec, TargetSpec, TrainSpec
from bncore.spec.data import DataShape
from bncore.spec.faults import Fault
from bncore.spec.loss import CrossEntropySpec, LossSpec, MeanSquaredErrorSpec
from bncore.spec.norm import BatchSize


def measuring_faults(sizes: DataShape, loss: LossSpec, target: TargetSpec | None) -> Iterator[Fault]:
    """What of loss and target the data have no answer for."""
    is_regression = sizes.task == "regression"
    if is_regression and isinstance(loss, CrossEntropySpec):
        detail = "These data are a regression and have no classes; use mean_squared_error"
        yield Fault("/loss/kind", detail, "loss_does_not_fit")
    if not is_regression and isinstance(loss, MeanSquaredErrorSpec):
        detail = "These data have classes and no numbers to predict; use cross_entropy"
        yield Fault("/loss/kind", detail, "loss_does_not_fit")
    if is_regression and target is not None and target.loss is None:
        field = "accuracy" if target.accuracy is not None else "test_accuracy"
        detail = "A regression has no accuracy; give loss"
        yield Fault(f"/train/target/{field}", detail, "target_does_not_fit")


def smallest_evaluated(evaluation: EvaluationSpec, sizes: DataShape) -> BatchSize | None:
    """Of the batches that are evaluated with their own statistics, the smallest; None without such."""
    if "batch" not in evaluation.statistics:
        return None
    which = "a batch that is evaluated with its own statistics"
    parts = [examples for examples in (sizes.validation_examples, sizes.test_examples) if examples]
    batches = [(examples, -(-examples // evaluation.batch_size)) for examples in parts]
    smallest, is_cut = min((examples // count, count > 1) for examples, count in batches)
    if is_cut:
        return BatchSize(smallest, which, "evaluate larger batches", "/evaluation/batch_size")
    # All that there is: no batch can be larger.
    return BatchSize(smallest, which, "leave batch out, or hold out more examples", "/evaluation/statistics")


def resources_faults(sizes: DataShape, train: TrainSpec, resources: ResourcesSpec) -> Iterator[Fault]:
    """A precision that the device may not have, and steps that cannot be compiled once and for all."""
    if resources.compile and sizes.signal.lengths:
        # Where compiling is given up after a few of them, the numbers depend on which came first.
        detail = "Sequences of different lengths would be compiled anew for each batch; leave it out"
        yield Fault("/resources/compile", detail, "compiled_anew")
    if train.precision == "fp16" and resources.device != "cuda":
        detail = "fp16 is for GPUs, and this may run elsewhere; set resources.device to cuda, or use bf16"
        yield Fault("/train/precision", detail, "precision_needs_cuda")
