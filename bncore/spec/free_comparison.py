"""What a free comparison is asked to be: specs of a user's own, what to measure of them, how large an effect counts.

Invariant: its size is known, and refused, before any spec of it is looked at.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.faults import Fault, SpecError, faults_of, pointer_part
from bncore.spec.limits import METRIC_KEY_CHARS, NAME_CHARS
from bncore.spec.strict import SpecModel, Text
from bncore.spec.sweep.axes import GridAxis, values_of
from bncore.spec.sweep.paths import Path
from bncore.spec.sweep.spec import MOST_EXPERIMENTS
from bncore.spec.wording import nearest

BASELINE = "baseline"
STEPS_TO_TARGET = "steps_to_target"
_USUAL = ("train/loss", "test/accuracy", "test/loss", "validation/accuracy", "validation/loss", STEPS_TO_TARGET)
MOST_ARMS = 16
MOST_AXES = 4
SEEDS_FLOOR = 6
"""Fewer pairs cannot reach p = .05 by their signs: 2 / 2^5 = .0625."""
PLACES_OF_A_PAIR = 4
"""Each arm at its own best setting, and at the other's."""

Key = Annotated[Text, Field(min_length=1, max_length=METRIC_KEY_CHARS)]
ArmName = Annotated[Text, Field(min_length=1, max_length=64, pattern=r"^[^/~]*[^/~\s][^/~]*$")]
_DELTA = "give the smallest effect that would matter to you, such as 0.01, which of an accuracy is one point"
_ANY_DELTA = 0.01
NUMBERS = ("/delta", "/seeds")
"""What nothing else that is asked depends on."""
MarginKind = Literal["superiority", "non_inferiority", "equality"]
Scalar = bool | int | float | Annotated[Text, Field(max_length=200)]
Values = Annotated[
    Annotated[list[Scalar], Field(min_length=1, max_length=MOST_EXPERIMENTS), Tag("values")]
    | Annotated[GridAxis, Tag("grid")],
    Discriminator(lambda value: "values" if isinstance(value, list | tuple) else "grid"),
]


class ReachedSpec(SpecModel):
    """A value of a series to reach."""

    metric: Key = Field(default="test/accuracy", description="The series.")
    value: Annotated[float, Field(ge=-1e300, le=1e300)] = Field(description="At least that; of a loss, at most.")
    higher_is_better: bool | None = Field(
        default=None, description="As the name has it, where it is an accuracy or a loss; of others say it."
    )

    @property
    def upwards(self) -> bool | None:
        """Whether more of it is better; None where nobody knows."""
        return better_by_name(self.metric) if self.higher_is_better is None else self.higher_is_better


class EstimandSpec(SpecModel):
    """What is compared: one number of each run."""

    metric: Key = Field(
        default="test/accuracy",
        description="A series that all arms record, such as test/accuracy or train/loss; or steps_to_target, the step "
        "of the first value of `target`.",
    )
    take: Literal["final", "best", "mean"] = Field(
        default="final", description="Of the series: its last value, its best, or its mean over the steps of `over`."
    )
    over: Annotated[tuple[int, int], Field(strict=False)] | None = Field(
        default=None, description="Of a mean: the first and the last step that count; all unless said."
    )
    higher_is_better: bool | None = Field(
        default=None, description="As the name has it, where it is an accuracy or a loss; of others say it."
    )
    scale: Literal["difference", "ratio"] = Field(
        default="difference", description="Whether arms differ by so much or by a factor; steps do by a factor."
    )
    target: ReachedSpec | None = Field(default=None, description="Of steps_to_target: what is to be reached.")

    @property
    def is_time(self) -> bool:
        """Whether it is when something was reached."""
        return self.metric == STEPS_TO_TARGET

    @property
    def is_ratio(self) -> bool:
        """Whether arms differ by a factor."""
        return self.is_time or self.scale == "ratio"

    @property
    def series(self) -> str:
        """What it is made of."""
        return self.target.metric if self.is_time and self.target else self.metric

    @property
    def upwards(self) -> bool | None:
        """Whether more is better; None where nobody knows."""
        if self.is_time:
            return False
        return better_by_name(self.metric) if self.higher_is_better is None else self.higher_is_better

    @model_validator(mode="after")
    def _fits_together(self) -> "EstimandSpec":
        if faults := [*self._faults_of_times(), *self._faults_of_series()]:
            raise PydanticCustomError("cross_field", "an estimand", {"faults": faults})
        return self

    def _faults_of_times(self) -> Iterator[tuple[str, str, str]]:
        if not self.is_time:
            if self.target is not None:
                yield (
                    "/target",
                    f"Is of steps_to_target; leave it out, or make that the metric, not {self.metric}",
                    ("no_time"),
                )
            return
        if self.target is None:
            detail = 'Say what is to be reached, such as {"metric": "test/accuracy", "value": 0.9}'
            yield "/target", detail, "no_target"
        elif self.target.upwards is None:
            yield "/target/higher_is_better", f"Say whether more of {self.target.metric} is better", "direction_unknown"
        elif better_by_name(self.target.metric) and self.target.value > 1:
            yield "/target/value", "Accuracies are between 0 and 1: 90 % is 0.9", "target_too_large"
        if self.higher_is_better:
            detail = "Fewer steps are better; leave it out, or say it of the target"
            yield "/higher_is_better", detail, "wrong_direction"
        if self.take != "final":
            yield "/take", "A time is no series; leave it out", "no_series"

    def _faults_of_series(self) -> Iterator[tuple[str, str, str]]:
        if self.upwards is None:
            close = nearest(self.metric, _USUAL)
            meant = f"; or did you mean {close}?" if close else ""
            detail = f"Say whether more of {self.metric} is better; of /accuracy and /loss that is known{meant}"
            yield "/higher_is_better", detail, "direction_unknown"
        if self.over is not None and self.take != "mean":
            yield "/over", 'Is of a mean; leave it out, or set take to "mean"', "no_mean"
        elif self.over is not None and not 0 <= self.over[0] < self.over[1]:
            yield "/over", "The first step has to be at least 0, and less than the last", "no_stretch"


class FreeComparison(SpecModel):
    """Specs of one's own against one of them, by a number of each run: tuned alike, and judged with paired seeds."""

    name: Annotated[Text, Field(max_length=NAME_CHARS)] | None = Field(default=None, description="For people.")
    compare: Annotated[dict[ArmName, dict[str, Any]], Field(max_length=MOST_ARMS)] = Field(
        description='Specs of experiments by name. One is called "baseline"; each of the others is compared with it.'
    )
    estimand: EstimandSpec = Field(default_factory=EstimandSpec)
    delta: Annotated[float, Field(le=1e9)] = Field(
        description="The smallest effect worth calling one, in units of the metric: 0.01 of an accuracy is one point. "
        "Where arms differ by a factor, how much that exceeds 1: 0.5 is half as much again."
    )
    margin: MarginKind = Field(
        default="superiority",
        description="What is claimed of each arm: better than the baseline by more than delta, worse by less than it, "
        "or within it.",
    )
    trains_at: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None,
        description="The accuracy from which on an arm counts as having trained. Unless said it is three times chance, "
        "or with few classes half-way from there to 1: say it where the data are too noisy for that.",
    )
    tune: Annotated[dict[Path, Values], Field(max_length=MOST_AXES)] = Field(
        default_factory=dict,
        description="By a dotted path of the specs, the values that each arm is tried at; its best setting on the "
        "validation data is what it is then judged at, with other seeds.",
    )
    tuning_seeds: int = Field(default=3, ge=1, le=100, description="Of each setting that is tried.")
    seeds: int = Field(default=10, le=1000, description="Pairs that judge; it may be extended to twice as many.")

    @model_validator(mode="after")
    def _fits_together(self) -> "FreeComparison":
        faults = [*self._faults_of_arms(), *self._faults_of_numbers(), *self._faults_of_tuning()]
        faults = faults or list(self._too_many())
        if faults:
            raise PydanticCustomError("cross_field", "parts of the comparison", {"faults": faults})
        return self

    @property
    def treatments(self) -> tuple[str, ...]:
        """The arms but the baseline, in their order."""
        return tuple(name for name in self.compare if name != BASELINE)

    def values(self, path: str) -> tuple[Any, ...]:
        """Those that a path is tried at, numbers ascending."""
        values = values_of(path, self.tune[path])
        are_numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        return tuple(sorted(values)) if are_numbers else tuple(values)

    def _faults_of_arms(self) -> Iterator[tuple[str, str, str]]:
        if BASELINE not in self.compare:
            detail = f'Call one of the specs "{BASELINE}": the others are compared with it'
            yield f"/compare/{BASELINE}", detail, "no_baseline"
        elif not self.treatments:
            yield "/compare", "Give a second spec, under any other name, to compare with the baseline", "one_arm"

    def _faults_of_numbers(self) -> Iterator[tuple[str, str, str]]:
        if self.seeds < SEEDS_FLOOR:
            detail = f"With fewer than {SEEDS_FLOOR} pairs nothing can be decided; give {SEEDS_FLOOR} or more"
            yield "/seeds", detail, "too_few_seeds"
        if self.delta <= 0:
            yield "/delta", f"Has to be more than 0, where any difference would count: {_DELTA}", "no_margin"
        elif not self.estimand.is_ratio and self.estimand.metric.endswith("/accuracy") and self.delta >= 1:
            yield "/delta", "Accuracies are between 0 and 1: a point is 0.01", "margin_too_large"

    def _faults_of_tuning(self) -> Iterator[tuple[str, str, str]]:
        for path, axis in self.tune.items():
            if not isinstance(axis, list):
                continue
            pointer = f"/tune{pointer_part(path)}"
            if len(axis) < 2:
                yield pointer, "One value is no choice; set it in the specs", "one_value"
            kinds = {bool if isinstance(value, bool) else str if isinstance(value, str) else float for value in axis}
            if len(kinds) > 1:
                yield pointer, "Values are of one kind: numbers, words, or true and false", "mixed_values"
            for place, value in enumerate(axis):
                if value in axis[:place]:
                    yield f"{pointer}/{place}", "Is there already; leave it out", "repeated_value"
                    break

    def _too_many(self) -> Iterator[tuple[str, str, str]]:
        settings = math.prod(len(axis) if isinstance(axis, list) else axis.count for axis in self.tune.values())
        tried = len(self.compare) * settings * self.tuning_seeds if self.tune else 0
        judged = self.seeds * (PLACES_OF_A_PAIR * len(self.treatments) if self.tune else len(self.compare))
        if tried + judged > MOST_EXPERIMENTS:
            pointer = "/tune" if tried else "/seeds"
            made = f"{settings:,} settings of {len(self.compare)} arms" if tried else f"{self.seeds:,} seeds"
            detail = (
                f"{made} come to {tried + judged:,} experiments; a study has at most {MOST_EXPERIMENTS:,}: "
                f"give fewer values{' , or fewer axes' if len(self.tune) > 1 else ''}".replace(" ,", ",")
            )
            yield pointer, detail, "too_many_points"


def _beside(value: dict[str, Any]) -> list[Fault]:
    try:
        load_comparison(value)
    except SpecError as error:
        return error.faults
    return []


def sound_in_numbers(value: dict[str, Any]) -> dict[str, Any]:
    """A document with a delta and seeds that nobody has to choose, so that all else of it can be looked at."""
    return {**value, "delta": _ANY_DELTA, "seeds": SEEDS_FLOOR}


def better_by_name(metric: str) -> bool | None:
    """Accuracies are better large, losses and steps small; None of what is neither."""
    name = metric.rpartition("/")[2].partition("@")[0]
    return {"accuracy": True, "loss": False}.get(name)


def load_comparison(value: Any) -> FreeComparison:
    """The comparison of a parsed document. Raises `SpecError` with all that is wrong: a missing delta hides nothing."""
    if not isinstance(value, dict):
        raise SpecError([Fault("", "Must be an object", "not_an_object")])
    if value.get("delta") is None:
        missing = Fault("/delta", f"Is required: {_DELTA}", "missing")
        raise SpecError([missing, *_beside({**value, "delta": _ANY_DELTA})])
    try:
        return FreeComparison.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, FreeComparison)) from None
