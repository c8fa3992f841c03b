"""What a search of a sweep is asked to be: a space, an objective, how many trials, and who proposes them.

Invariant: what can never be searched is refused before anything of it is proposed.
"""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.experiment import ExperimentSpec
from bncore.spec.faults import Fault, pointer_part
from bncore.spec.recorded import evaluated_of, why_unmeasured
from bncore.spec.strict import SpecModel
from bncore.spec.sweep.axes import Number, Seed, Whole, which
from bncore.spec.sweep.paths import Path
from bncore.spec.wording import nearest

MOST_TRIALS = 10_000
MOST_CHOICES = 100
_OF, _MEASURED = ("validation", "test"), ("loss", "accuracy")
_OBJECTIVE = re.compile(r"^(validation|test)/(loss|accuracy)(:min|:max|:first)?$")
_PARTS = (":min", ":max", ":first")


class _Range(SpecModel):
    """From `low` to `high`, both included."""

    @model_validator(mode="after")
    def _is_one(self) -> "_Range":
        low, high = self.low, self.high  # type: ignore[attr-defined]  # each kind has its own type of bounds
        if low >= high:
            _refuse("/high", "Must be greater than low; swap them", "bounds_swapped")
        if self.scale == "log" and low <= 0:  # type: ignore[attr-defined]
            _refuse("/low", "Must be greater than 0 where scale is log", "not_positive")
        return self


class FloatRange(_Range):
    """Any number."""

    kind: Literal["float"]
    low: Number
    high: Number
    scale: Literal["linear", "log"] = "linear"


class IntegerRange(_Range):
    """A whole number."""

    kind: Literal["integer"]
    low: Whole
    high: Whole
    scale: Literal["linear", "log"] = "linear"


Range = Annotated[
    Annotated[list[Any], Field(min_length=2, max_length=MOST_CHOICES), Tag("values")]
    | Annotated[FloatRange, Tag("float")]
    | Annotated[IntegerRange, Tag("integer")],
    Discriminator(which),
]


class TpeSampler(SpecModel):
    """Tree-structured Parzen estimator (Bergstra et al. 2011): the first trials at random, then where good ones lie."""

    kind: Literal["tpe"] = "tpe"
    seed: Seed = 0
    startup_trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = 10


class RandomSampler(SpecModel):
    """Each trial by itself."""

    kind: Literal["random"] = "random"
    seed: Seed = 0


def _is_measured(objective: str) -> str:
    if not _OBJECTIVE.fullmatch(objective):
        detail = "Should be validation/ or test/, then loss or accuracy; :min, :max or :first behind it for another"
        close = nearest(objective.partition(":")[0], [f"{part}/{name}" for part in _OF for name in _MEASURED])
        said = f"{detail} value than the last" + (f"; did you mean {close}?" if close else "")
        raise PydanticCustomError("no_such_metric", "{said}", {"said": said})
    return objective


class SearchSpec(SpecModel):
    """Trials that are proposed one after another from what the others came to; each arm is searched by itself."""

    space: Annotated[dict[Path, Range], Field(min_length=1, max_length=16)] = Field(
        description='By a path of the spec: a list of values, or {"kind": "float" | "integer", "low": , "high": , '
        '"scale": "linear" | "log"}.'
    )
    objective: Annotated[
        str,
        AfterValidator(_is_measured),
        Field(description="Mean over the seeds.", json_schema_extra={"pattern": _OBJECTIVE.pattern}),
    ]
    direction: Literal["minimize", "maximize"] | None = Field(
        default=None, description="Without it accuracies are maximized and losses minimized."
    )
    trials: Annotated[int, Field(ge=1, le=MOST_TRIALS)] = Field(description="Of each arm.")
    at_once: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=4,
        description="How many of an arm may run at a time: a trial is proposed from those that lie so far before it.",
    )
    sampler: Annotated[TpeSampler | RandomSampler, Field(discriminator="kind")] = Field(default_factory=TpeSampler)

    @property
    def maximizes(self) -> bool:
        return "accuracy" in self.objective if self.direction is None else self.direction == "maximize"

    @property
    def on_test_data(self) -> bool:
        """Whether it chooses by data that then say nothing of how good the choice is."""
        return self.objective.startswith("test/")

    @property
    def series(self) -> str:
        """The key of the objective's series."""
        return next(
            (self.objective.removesuffix(part) for part in _PARTS if self.objective.endswith(part)), self.objective
        )

    def unmeasured(self, spec: ExperimentSpec) -> Iterator[Fault]:
        """What an experiment of this spec has not; pointers are into the search."""
        if self.series not in evaluated_of(spec):
            yield Fault("/objective", why_unmeasured(self.series, spec), "no_such_metric")

    def faults(self) -> Iterator[Fault]:
        """What is wrong although each part is right; pointers are into the search."""
        for path, one in self.space.items():
            if isinstance(one, list) and len({repr(value) for value in one}) < len(one):
                yield Fault(f"/space{pointer_part(path)}", "Has a value twice", "repeated")
        most = math.prod(count_of(one) for one in self.space.values())
        if most < self.trials:
            detail = f"The space has {most:,.0f} different points; ask for so many trials at most, or use axes"
            yield Fault("/trials", detail, "too_many_trials")


def count_of(one: Any) -> float:
    """How many different values it has."""
    if isinstance(one, list):
        return len(one)
    return one.high - one.low + 1 if isinstance(one, IntegerRange) else math.inf


def corners(one: Any) -> list[Any]:
    """Values that have to be right for all to be: the ends of a range, all of a list."""
    return list(one) if isinstance(one, list) else [one.low, one.high]


def _refuse(pointer: str, detail: str, code: str) -> None:
    raise PydanticCustomError("cross_field", "a range", {"faults": [(pointer, detail, code)]})
