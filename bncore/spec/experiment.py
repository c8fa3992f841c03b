"""One experiment: everything that decides its result, and nothing else.

The class that validates the POST is the class the trainer runs. What comes back from validation is complete, and is
valid again as it stands.
"""

import hashlib
import json
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.batches import batch_faults
from bncore.spec.budget import CheckpointSpec, EvaluationSpec, ResourcesSpec, TrainSpec
from bncore.spec.data import DataShape, DataSpec, DigitsSpec, data_shape
from bncore.spec.diagnostics import Diagnostics, usual_diagnostics
from bncore.spec.diagnostics.fitting import diagnostic_faults
from bncore.spec.faults import Fault
from bncore.spec.limits import NAME_CHARS, TAG_KEY_CHARS, TAG_VALUE_CHARS, TAGS
from bncore.spec.loss import LossSpec, usual_loss
from bncore.spec.measuring import measuring_faults, resources_faults
from bncore.spec.network import MlpSpec, NetworkSpec
from bncore.spec.optimizer import ConstantSchedule, OptimizerSpec, ScheduleSpec, SgdSpec
from bncore.spec.plan import faults_between_parts, laid_network, steps_per_epoch, total_steps
from bncore.spec.start_from import StartFrom, Trained, freeze_faults, start_faults
from bncore.spec.strict import SpecModel, Text

SPEC_VERSION = 1

TagKey = Annotated[Text, Field(min_length=1, max_length=TAG_KEY_CHARS, pattern=r"^[^:,]+$")]
TagValue = Annotated[Text, Field(max_length=TAG_VALUE_CHARS)]


class ExperimentSpec(SpecModel):
    """Data, network, optimizer, schedule, loss, budget, cadence and resources of one training run."""

    name: Annotated[Text, Field(max_length=NAME_CHARS)] | None = Field(
        default=None, description="For people; need not be unique."
    )
    tags: Annotated[dict[TagKey, TagValue], Field(max_length=TAGS)] = Field(
        default_factory=dict,
        description="Up to 16; a key has no colon and no comma, so that `tag=key:value` can filter.",
    )
    data: DataSpec = Field(default_factory=DigitsSpec)
    network: NetworkSpec = Field(default_factory=MlpSpec)
    optimizer: OptimizerSpec = Field(default_factory=SgdSpec)
    schedule: ScheduleSpec = Field(default_factory=ConstantSchedule)
    loss: LossSpec = Field(
        default_factory=usual_loss, description="cross_entropy, or mean_squared_error where the data are a regression."
    )
    train: TrainSpec = Field(default_factory=lambda: TrainSpec.model_validate({}))
    evaluation: EvaluationSpec = Field(default_factory=EvaluationSpec)
    diagnostics: Diagnostics = Field(
        default_factory=usual_diagnostics,
        description="What is measured of the network beside its results, each kind at most once; norm_health is, "
        "unless it is switched off. Training is the same with them and without.",
    )
    checkpoint: CheckpointSpec = Field(default_factory=CheckpointSpec)
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)
    start_from: StartFrom | None = None
    max_restarts: int = Field(
        default=3, ge=0, le=100, description="How often a lost or killed run starts again by itself."
    )
    deadline_seconds: Annotated[float, Field(gt=0.0, le=2_592_000.0)] | None = Field(
        default=None, description="Seconds from the first start, pauses excluded, at most 30 days; then it fails."
    )
    stall_seconds: Annotated[float, Field(ge=1.0, le=2_592_000.0)] | None = Field(
        default=3600.0,
        description="A trainer that has written nothing for so long is taken for stuck: it is killed and starts again. "
        "Longer than any step, evaluation, saving and diagnostic takes; null waits for ever.",
    )

    @model_validator(mode="after")
    def _parts_fit_together(self) -> "ExperimentSpec":
        faults = faults_between_parts(self.data, self.network, self.train, self.schedule, self.evaluation)
        sizes = data_shape(self.data)
        faults += batch_faults(self.data, sizes, self.train.batch_size)
        faults += measuring_faults(sizes, self.loss, self.train.target)
        faults += resources_faults(sizes, self.train, self.resources)
        if not faults:
            faults += self._diagnostic_faults(sizes)
        if self.start_from is not None and not faults:
            faults += self._start_faults(self.start_from)
        if faults:
            listed = [(fault.pointer, fault.detail, fault.code) for fault in faults]
            raise PydanticCustomError("cross_field", "parts of the spec do not fit together", {"faults": listed})
        return self

    def _diagnostic_faults(self, sizes: DataShape) -> list[Fault]:
        steps = total_steps(self.train, steps_per_epoch(self.train, sizes))
        laid = laid_network(self.network, sizes.signal, sizes.outputs)
        return list(diagnostic_faults(self.diagnostics, self.train, steps, sizes, laid, self.network))

    def _start_faults(self, start: StartFrom) -> list[Fault]:
        faults = []
        if start.source is not None:
            there, here = Trained(start.source.network, start.source.data), Trained(self.network, self.data)
            faults = start_faults(start, there, here)
        return faults or list(freeze_faults(start, self.data, self.network))

    def canonical_json(self) -> str:
        """The complete spec with sorted keys and no white space: equal experiments have equal text."""
        return canonical(self.model_dump(mode="json"))

    def fingerprint(self) -> str:
        """SHA-256 of the canonical text, in hex."""
        return fingerprint_of(self.canonical_json())


def canonical(document: Any) -> str:
    """A complete spec's document as `canonical_json` writes it."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint_of(canonical_json: str) -> str:
    """SHA-256 of an experiment's canonical text, in hex."""
    return hashlib.sha256(canonical_json.encode()).hexdigest()
