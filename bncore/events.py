"""The lines a trainer writes to `events.jsonl`, one JSON object a line, in the order of training.

The file is the whole interface from trainer to supervisor. A line counts only once its newline is there; a block of
metrics never spans a checkpoint, so that cutting the file at a checkpoint cuts no block.
"""

import time
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, field_validator
from pydantic_core import to_json

from bncore.spec.limits import METRIC_KEY_CHARS, NAME_CHARS, WORD_CHARS

Phase = Literal[
    "restoring", "loading_data", "training", "evaluating", "diagnosing", "saving", "reading", "checking", "writing"
]
RESULT_BYTES = 1 << 20
"""What the result of a job that trains nothing may have, as JSON."""
StopReason = Literal["budget", "target_reached", "diverged"]
MetricKey = Annotated[str, Field(min_length=1, max_length=METRIC_KEY_CHARS)]
FailureCode = Literal[
    "invalid_data",
    "out_of_memory",
    "checkpoint_damaged",
    "disk_full",
    "trainer_error",
    "study_incomplete",
    "design_changed",
    "studies_missing",
]


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    at: float = Field(default_factory=time.time, description="Wall clock of the trainer, UTC epoch seconds.")


class PhaseChanged(_Event):
    kind: Literal["phase"] = "phase"
    phase: Phase


class Started(_Event):
    """Training is about to take step `step + 1`."""

    kind: Literal["started"] = "started"
    step: int
    total_steps: int
    device: Literal["cpu", "cuda"]
    device_model: str
    torch_version: str
    threads: int


class FirstStep(_Event):
    """The first optimizer step of this attempt is done; `step` is its number."""

    kind: Literal["first_step"] = "first_step"
    step: int


class MetricsBlock(_Event):
    """`count` consecutive steps from `first_step`; every series in `values` has `count` numbers."""

    kind: Literal["metrics"] = "metrics"
    first_step: int
    count: int
    values: dict[MetricKey, list[float]]


class StoredFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str = Field(description="Relative to the run directory.")
    size: int
    sha256: str


class CheckpointSaved(_Event):
    """Written after both files were renamed into place. Only kind `last` has a training state."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    kind: Literal["checkpoint"] = "checkpoint"
    checkpoint_kind: Literal["best", "last"]
    step: int
    epoch: int
    weights: StoredFile
    state: StoredFile | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class FileSaved(_Event):
    """Written after a result file was renamed into place; a later one of the same name replaces it."""

    kind: Literal["file"] = "file"
    name: str = Field(min_length=1, max_length=NAME_CHARS, description="What the file is called where it is shown.")
    file_kind: str = Field(min_length=1, max_length=WORD_CHARS, description="What it is, in a word.")
    file: StoredFile
    step: int | None = Field(default=None, description="Of training, where it is of one.")


class TargetReached(_Event):
    """The first evaluation at the target or better; `test_accuracy` where that is what was measured."""

    kind: Literal["target_reached"] = "target_reached"
    step: int
    test_accuracy: float | None = None
    metric: MetricKey = "test/accuracy"
    value: float | None = None


class Note(_Event):
    """Something the owner of the experiment should know, e.g. code `not_bit_exact`."""

    kind: Literal["note"] = "note"
    code: str
    message: str


class NormsChecked(_Event):
    """What is wrong with the normalizations at this step, in words; written where that is not what it was before."""

    kind: Literal["norm_health"] = "norm_health"
    step: int
    warnings: tuple[str, ...] = ()


class Best(BaseModel):
    """The best value of the series that weights are chosen by, and the first step that had it, where that is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    metric: MetricKey
    value: float
    step: int | None = None


class Summary(BaseModel):
    """The result of a run in a few numbers; `seconds` is training time summed over attempts.

    `metrics` is the last evaluation by series. `best_test_accuracy` is chosen on the test data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    steps: int
    seconds: float
    test_accuracy: float | None
    test_loss: float
    best_test_accuracy: float | None
    steps_to_target: int | None = None
    diverged_at: int | None = Field(default=None, description="First step whose training loss was not finite.")
    metrics: dict[MetricKey, float] = Field(default_factory=dict)
    best: Best | None = None


class Finished(_Event):
    kind: Literal["finished"] = "finished"
    stop_reason: StopReason
    step: int
    summary: Summary


class Concluded(_Event):
    """The end of a job that trains nothing: what it found out, non-finite numbers as texts."""

    kind: Literal["concluded"] = "concluded"
    result: dict[str, JsonValue]

    @field_validator("result")
    @classmethod
    def _is_bounded(cls, result: dict[str, JsonValue]) -> dict[str, JsonValue]:
        size = len(to_json(result))
        if size > RESULT_BYTES:
            raise ValueError(f"a result has at most {RESULT_BYTES} bytes as JSON, this one has {size}")
        return result


class Stopped(_Event):
    """Asked to stop by SIGTERM; the last checkpoint before this line has everything. Without training, step is 0."""

    kind: Literal["stopped"] = "stopped"
    step: int = 0


class Rested(_Event):
    """It has come to the step at which it was to rest; the last checkpoint before this line has everything."""

    kind: Literal["rested"] = "rested"
    step: int


class Failed(_Event):
    kind: Literal["failed"] = "failed"
    code: FailureCode
    message: str


Event = Annotated[
    PhaseChanged
    | Started
    | FirstStep
    | MetricsBlock
    | CheckpointSaved
    | FileSaved
    | TargetReached
    | Note
    | NormsChecked
    | Finished
    | Concluded
    | Stopped
    | Rested
    | Failed,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def encode(event: Event) -> str:
    """One line, newline included. Non-finite numbers become "NaN", "Infinity", "-Infinity"."""
    return event.model_dump_json() + "\n"


def decode(line: str | bytes) -> Event:
    """The event of one line. Raises `pydantic.ValidationError` for anything else."""
    return _ADAPTER.validate_json(line)
