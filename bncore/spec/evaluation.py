"""An evaluation: a checkpoint of an experiment, measured on other data with the statistics it has, and with others.

Invariant: what cannot be measured is refused here, before anything is loaded: the signal, the task and the outputs are
those that the network was trained for, and there are statistics that can be put in the place of its own.
"""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Signal
from bncore.spec.budget import DeviceSpec
from bncore.spec.data import DatasetSpec, DataShape, DataSpec, data_shape
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault, SpecError, faults_of
from bncore.spec.norm import BatchSize, NormModel, Place
from bncore.spec.norm.recurrent import StepBatchNormSpec
from bncore.spec.plan import laid_network
from bncore.spec.strict import SpecModel

Part = Literal["train", "validation", "test"]
Order = Literal["shuffled", "stored", "by_class", "one_class"]

_CHECKPOINT = re.compile(r"best|last|ckp_[0-9a-f]{32}")
_ALTERNATIVE = "; source measures it as it is"


class SourceStatistics(SpecModel):
    """The running statistics of the checkpoint, as training left them."""

    kind: Literal["source"] = "source"


class InBatches(SpecModel):
    """Statistics of batches, whose numbers depend on which examples are together."""

    batch_size: int = Field(
        default=200,
        ge=1,
        le=65_536,
        description="At most so many examples are normalized together: as few batches as there can be, all of one "
        "size. 200 is what Tent's authors use for small images.",
    )
    order: Order = Field(
        default="shuffled",
        description="Which examples come together: shuffled by seed; stored, as the data have them; by_class, which "
        "makes batches of one class or few, on which such statistics fail; one_class, where no batch has two classes, "
        "and each class is cut into batches of one size.",
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Shuffles; for order shuffled.")


class AdabnStatistics(InBatches):
    """AdaBN (arXiv 1603.04779): mean and variance of each layer's inputs over all of the target data; weights stay.

    Layers are measured from front to back, in a pass each. Batches then decide memory, not numbers.
    """

    kind: Literal["adabn"] = "adabn"
    sequential: bool = Field(
        default=True,
        description="false: one pass, each batch normalized by its own statistics on the way. step_batch_norm needs "
        "it: its inputs depend on its own statistics.",
    )


class PredictionTimeStatistics(InBatches):
    """Prediction-time batch normalization (arXiv 2006.10963): each batch by its own statistics.

    With alpha below 1 a blend with the running ones (arXiv 2006.16971).
    """

    kind: Literal["prediction_time"] = "prediction_time"
    alpha: float = Field(default=1.0, ge=0.0, le=1.0, description="Weight of the batch.")


class PreciseStatistics(SpecModel):
    """Statistics of all training data of the experiment, in batches as in training (arXiv 2105.07576, section 3)."""

    kind: Literal["precise"] = "precise"


class TentStatistics(InBatches):
    """Tent (arXiv 2006.10726): each batch by its own statistics, with scales and shifts that descend its entropy.

    One pass: each batch is predicted once, and what was learned from it stays for those behind it. With Adam.
    """

    kind: Literal["tent"] = "tent"
    lr: float = Field(default=1e-3, gt=0.0, le=10.0, description="Learning rate of Adam.")
    steps: int = Field(default=1, ge=1, le=100, description="Steps on a batch; what counts is said before the last.")


def _kind_by_itself(value: Any) -> Any:
    """`"adabn"` is `{"kind": "adabn"}`."""
    return {"kind": value} if isinstance(value, str) else value


StatisticsSpec = Annotated[
    SourceStatistics | AdabnStatistics | PredictionTimeStatistics | PreciseStatistics | TentStatistics,
    Field(
        discriminator="kind",
        description="What layers that average statistics of batches normalize with; a kind by itself, such as "
        '"adabn", means its defaults.',
    ),
    BeforeValidator(_kind_by_itself, json_schema_input_type=str | dict[str, Any]),
]


def names_a_checkpoint(text: str) -> str:
    """best, last or an id."""
    if not _CHECKPOINT.fullmatch(text):
        raise PydanticCustomError("not_a_checkpoint", "Should be best, last or the id of a checkpoint")
    return text


class CheckpointEvaluation(SpecModel):
    """Measure a checkpoint on a part of a data set: with its own statistics, and with those that are asked for."""

    data: DataSpec = Field(description="Of the signal, the task and the outputs that the network was trained for.")
    checkpoint: Annotated[str, AfterValidator(names_a_checkpoint)] = Field(
        default="best",
        description="best: the best weights, or the last ones where none were kept as the best; last; or an id.",
    )
    part: Part = Field(default="test", description="Of the data; what is measured, and adapted to.")
    statistics: StatisticsSpec = Field(default_factory=SourceStatistics)
    batch_size: int = Field(
        default=1024, ge=1, le=65_536, description="Of what is only measured: changes memory, not results."
    )
    resources: DeviceSpec = Field(default_factory=DeviceSpec)

    def canonical_json(self) -> str:
        """With sorted keys and no white space: what is asked alike has equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def load_evaluation(value: Any) -> CheckpointEvaluation:
    """The complete evaluation of a parsed document. Raises `SpecError` that names every field at fault."""
    if not isinstance(value, dict):
        raise SpecError([Fault("", "Must be an object", "not_an_object")])
    try:
        return CheckpointEvaluation.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, CheckpointEvaluation)) from None


def evaluation_faults(evaluation: CheckpointEvaluation, experiment: ExperimentSpec) -> list[Fault]:
    """Why a checkpoint of that experiment cannot be evaluated so."""
    source, target = data_shape(experiment.data), data_shape(evaluation.data)
    faults = list(_misfits(source, target))
    if evaluation.part == "validation" and not target.validation_examples:
        detail = "These data hold out nothing for validation; use test, or say validation in /data"
        faults.append(Fault("/part", detail, "no_such_part"))
    return faults or list(_statistics_faults(evaluation, experiment, source, target))


def signal_in_words(signal: Signal) -> str:
    """The shape of an example and whether it has a length of its own."""
    return f"{signal} and less, with lengths" if signal.lengths else str(signal)


def _misfits(source: DataShape, target: DataShape) -> Iterator[Fault]:
    if source.signal != target.signal:
        trained, given = signal_in_words(source.signal), signal_in_words(target.signal)
        detail = f"The network was trained on {trained}, and an example of these data is {given}"
        yield Fault("/data", detail, "signal_does_not_fit")
    if source.task != target.task:
        detail = f"The network was trained for {source.task}, and these data are for {target.task}"
        yield Fault("/data", detail, "task_does_not_fit")
    elif source.outputs != target.outputs:
        noun = "numbers to predict" if source.task == "regression" else "classes"
        detail = f"The network was trained for {source.outputs} {noun}, and these data have {target.outputs}"
        yield Fault("/data", detail, "outputs_do_not_fit")


def _statistics_faults(
    evaluation: CheckpointEvaluation, experiment: ExperimentSpec, source: DataShape, target: DataShape
) -> Iterator[Fault]:
    asked, where = evaluation.statistics, "/statistics"
    if asked.kind == "source":
        return
    laid = laid_network(experiment.network, source.signal, source.outputs)
    norms = [(norm, place) for norm, place in laid.norms if norm.has_running_statistics]
    if not norms:
        detail = f"No layer of the network averages statistics of batches, so {asked.kind} would change nothing"
        yield Fault(where, detail + _ALTERNATIVE, "no_batch_statistics")
        return
    if isinstance(asked, TentStatistics):
        yield from _tent_faults(norms, source)
    if isinstance(asked, PreciseStatistics) and _needs_another_set(evaluation.data, experiment.data):
        detail = (
            "Precise statistics are of the training data of the experiment, whatever is evaluated, and a worker reads "
            "one set that was brought in at a time; evaluate on a part of the set that was trained on, or use adabn, "
            "whose statistics are of the data that are evaluated"
        )
        yield Fault(where, detail, "another_dataset")
    if isinstance(asked, InBatches):
        if asked.order in ("by_class", "one_class") and target.task != "classification":
            detail = "An example of these data has no one class; use another order"
            yield Fault(f"{where}/order", detail, "no_class_of_examples")
        if _is_sequential(asked) and any(isinstance(norm, StepBatchNormSpec) for norm, _ in norms):
            detail = "The inputs of step_batch_norm depend on its own statistics; set sequential to false"
            yield Fault(where, detail, "statistics_depend_on_themselves")
        yield from _batch_faults(asked, norms, part_examples(target, evaluation.part))


def _needs_another_set(wanted: DataSpec, trained: DataSpec) -> bool:
    """Whether the data that were trained on were brought in, and are others: a worker has one such set at a time."""
    if not isinstance(trained, DatasetSpec):
        return False
    return not (isinstance(wanted, DatasetSpec) and wanted.sha256 == trained.sha256)


def _is_sequential(asked: InBatches) -> bool:
    return isinstance(asked, AdabnStatistics) and asked.sequential


def part_examples(sizes: DataShape, part: Part) -> int:
    """Of that part."""
    match part:
        case "train":
            return sizes.train_examples
        case "validation":
            return sizes.validation_examples
        case "test":
            return sizes.test_examples


def _tent_faults(norms: list[tuple[NormModel, Place]], source: DataShape) -> Iterator[Fault]:
    if source.task == "regression":
        detail = "A regression has no probabilities whose entropy could be descended; use adabn"
        yield Fault("/statistics", detail, "no_entropy")
    elif not any(norm.parameters(place.channels) for norm, place in norms):
        detail = "No layer with statistics of batches has a scale or shift to adapt; use adabn or prediction_time"
        yield Fault("/statistics", detail, "nothing_to_adapt")


def _batch_faults(asked: InBatches, norms: list[tuple[NormModel, Place]], examples: int) -> Iterator[Fault]:
    """What is wrong with the smallest batch for the first layer that cannot work with it."""
    together = examples if _is_sequential(asked) else examples // -(-examples // asked.batch_size)
    if isinstance(asked, PredictionTimeStatistics) and asked.alpha < 1.0:
        return
    is_cut = together < examples
    cure = "use larger batches" if is_cut else "leave statistics out"
    pointer = "/statistics/batch_size" if is_cut else "/statistics"
    batch = BatchSize(together, "a batch that gives the statistics", cure, pointer)
    for norm, place in norms:
        faults = list(norm.batch_faults(place, batch))
        if faults:
            yield from faults
            return
