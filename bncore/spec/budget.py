"""How long to train, on what batches, how often to measure and to save, and on what machine."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.strict import Fraction, SpecModel, Steps

DEFAULT_EPOCHS = 20


class TargetSpec(SpecModel):
    """A number to reach; the first evaluation at it or better is recorded as steps_to_target. Give one.

    It is that of the validation data, where the data set has some (`data.validation`), else that of the test data.
    """

    accuracy: Fraction | None = Field(default=None, description="At least so much.")
    loss: Annotated[float, Field(ge=0.0, le=1e9)] | None = Field(default=None, description="At most so much.")
    test_accuracy: Fraction | None = Field(
        default=None, description="At least so much on the test data, which then choose, whatever else there is."
    )
    stop: bool = Field(default=False, description="End the run there; otherwise only the step is recorded.")

    @model_validator(mode="after")
    def _says_one_number(self) -> "TargetSpec":
        names = ("accuracy", "loss", "test_accuracy")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            pointer = f"/{given[1]}" if given else "/accuracy"
            fault = (pointer, "Give one of accuracy, loss and test_accuracy", "one_target")
            raise PydanticCustomError("cross_field", "a target is one number", {"faults": [fault]})
        return self


class EmaSpec(SpecModel):
    """An exponential moving average of the weights, evaluated beside them (series `...@ema`); training is the same.

    Running statistics of normalizations are averaged along, by the same decay; whatever else layers keep is the live
    one. It begins with the weights after the first step, and is saved with the training state.
    """

    decay: float = Field(default=0.999, gt=0.0, lt=1.0, description="Weight of what was averaged so far, each step.")


class TrainSpec(SpecModel):
    """The budget and the batches. Give `steps` or `epochs`; neither means 20 epochs."""

    steps: Steps | None = Field(default=None, description="Optimizer steps.")
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description=f"Passes over the training data; {DEFAULT_EPOCHS} where steps are not given either."
    )
    batch_size: int = Field(default=60, ge=1, le=65_536, description="At most the number of training examples.")
    drop_last: bool = Field(default=False, description="Leave out an epoch's last batch when it is smaller.")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=65_536,
        description="Micro-batches a step: each batch is cut into so many parts, as equal as can be, and the gradient "
        "is the mean over all its examples. A part is normalized by itself, and moves running statistics by itself. A "
        "smaller last batch of an epoch is cut into as few as are no larger. At most batch_size.",
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Fixes initialization, batch order and dropout.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="bf16 and fp16 are autocast: parameters, statistics and optimizer stay in float32. fp16 scales the "
        "loss, and leaves out steps whose gradients overflow; it needs the device cuda.",
    )
    clip_grad_norm: Annotated[float, Field(gt=0.0, le=1e6)] | None = Field(
        default=None, description="Scale the gradient down when its global 2-norm exceeds this."
    )
    adaptive_clipping: Annotated[float, Field(gt=0.0, le=1e6)] | None = Field(
        default=None,
        description="Scale the gradient of each unit down to this times the norm of its weights, the output layer's "
        "excepted (arXiv 2102.06171: 0.01 for batches of 4096, more for smaller ones). Not with clip_grad_norm.",
    )
    ema: EmaSpec | None = Field(default=None, description="Average the weights as well, and evaluate the averages.")
    target: TargetSpec | None = Field(default=None, description="What to record the first step of, or to end at.")

    @model_validator(mode="before")
    @classmethod
    def _budget_is_filled_in(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("steps") is None and value.get("epochs") is None:
            return {**value, "epochs": DEFAULT_EPOCHS}
        return value

    @model_validator(mode="after")
    def _one_of_each(self) -> "TrainSpec":
        faults = []
        if self.steps is not None and self.epochs is not None:
            faults.append(("/epochs", "Give steps or epochs, not both", "two_budgets"))
        if self.clip_grad_norm is not None and self.adaptive_clipping is not None:
            # Which came first would change the result.
            detail = "Give clip_grad_norm or adaptive_clipping, not both"
            faults.append(("/adaptive_clipping", detail, "two_clippings"))
        if self.accumulate > self.batch_size:
            detail = f"A batch of {self.batch_size} cannot be cut into {self.accumulate} parts; use at most batch_size"
            faults.append(("/accumulate", detail, "more_parts_than_examples"))
        if faults:
            raise PydanticCustomError("cross_field", "fields that do not go together", {"faults": faults})
        return self

    def micro_batches(self, examples: int) -> list[int]:
        """Sizes of the parts that a batch of so many examples is cut into, in their order."""
        parts = -(-examples * self.accumulate // self.batch_size)
        size, larger = divmod(examples, parts)
        return [size + 1] * larger + [size] * (parts - larger)


Statistics = Literal["running", "batch", "precise"]
"""What normalizations with statistics of the batch evaluate with."""


class EvaluationSpec(SpecModel):
    """Measure on the test data, and on those for validation, every so many steps and at the end."""

    every_steps: Steps = Field(default=100, description="Measured at the multiples of this.")
    batch_size: int = Field(
        default=1024, ge=1, le=65_536, description="Changes memory, not results, but for statistics of the batch."
    )
    statistics: Annotated[tuple[Statistics, ...], Field(strict=False, min_length=1, max_length=3)] = Field(
        default=("running",),
        description="What normalizations with statistics of the batch evaluate with; several are measured beside one "
        "another, and `running` is always among them, since best and target are measured with it. `running`: their "
        "running averages (series test/accuracy, test/loss). `batch` (test/accuracy@batch): those of the batch that is "
        "evaluated, as few batches of at most batch_size as there can be, all of one size. `precise` "
        "(test/accuracy@precise): those of all training data with the weights there are (arXiv 2105.07576), which "
        "takes a pass over them each time. Training goes on as if nothing had been measured. A network without such "
        "normalizations gives the same numbers each time.",
    )

    @model_validator(mode="after")
    def _each_once_and_running_among_them(self) -> "EvaluationSpec":
        faults = []
        if len(set(self.statistics)) < len(self.statistics):
            faults.append(("/statistics", "Name each kind once", "repeated_statistics"))
        if "running" not in self.statistics:
            detail = "Best, target and summary are measured with running statistics; put running among them"
            faults.append(("/statistics", detail, "running_is_missing"))
        if faults:
            raise PydanticCustomError("cross_field", "statistics", {"faults": faults})
        return self


class CheckpointSpec(SpecModel):
    """Save weights and training state every so many steps and at the end; the best weights at evaluations."""

    every_steps: Steps = Field(default=500, description="Saved at the multiples of this.")
    keep_best: bool = Field(
        default=True,
        description="Keep the best weights so far: of the greatest accuracy, or the least loss of a regression, on the "
        "validation data where there are some (`data.validation`), else on the test data, which then choose.",
    )
    keep_periodic: bool = Field(default=False, description="Keep every periodic checkpoint, not only the last.")


class DeviceSpec(SpecModel):
    """Where to run. Results are bit-reproducible for the same device model, thread count and torch version."""

    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto is cuda where the service has a worker with one, else cpu."
    )
    threads: int = Field(default=1, ge=1, le=256, description="CPU threads; small networks gain nothing from more.")


class ResourcesSpec(DeviceSpec):
    """Where to run, and how. Results are bit-reproducible for the same device model, thread count and torch version."""

    channels_last: bool = Field(
        default=False,
        description="Keep images with their channels innermost (NHWC), which some devices convolve faster. Other bits, "
        "the same files; networks without convolutions do not notice.",
    )
    compile: bool = Field(
        default=False,
        description="Train with torch.compile, a program for each size of a batch. The first steps take up to minutes; "
        "the worker needs a C++ compiler, on cuda Triton. Other bits; evaluation and files are those without.",
    )
