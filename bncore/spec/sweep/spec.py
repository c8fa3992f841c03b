"""What a sweep is asked to be: a template, axes, arms, seeds.

Invariant: its size is known, and refused, before anything of it is made.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from bncore.spec.faults import Fault, SpecError, faults_of, pointer_part
from bncore.spec.limits import NAME_CHARS
from bncore.spec.strict import SpecModel, Text
from bncore.spec.sweep.axes import Axis, count_of
from bncore.spec.sweep.paths import Path, is_within
from bncore.spec.sweep.pruning import PruneSpec, beside_search, into_sweep
from bncore.spec.sweep.search import SearchSpec

MOST_EXPERIMENTS = 10_000
"""Of one sweep, extensions included."""
MOST_AXES = 16
MOST_ARMS = 100

_SET_OTHERWISE = {
    "train.seed": "seeds of the sweep are given as `seeds`",
    "name": "it is the template's in all",
    "tags": "they are the template's in all",
    "resources.device": "a sweep waits in one queue",
}
Name = Annotated[Text, Field(min_length=1, max_length=64, pattern=r"^[^/~]*[^/~\s][^/~]*$")]
Patch = Annotated[dict[Path, Any], Field(max_length=MOST_AXES)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Seeds = Annotated[
    Annotated[int, Field(ge=1, le=MOST_EXPERIMENTS), Tag("count")]
    | Annotated[list[Seed], Field(min_length=1, max_length=MOST_EXPERIMENTS), Tag("seeds")],
    Discriminator(lambda value: "seeds" if isinstance(value, list | tuple) else "count"),
]


class SweepSpec(SpecModel):
    """Experiments that differ from a template along axes, by arms and by seeds: each with each."""

    name: Annotated[Text, Field(max_length=NAME_CHARS)] | None = Field(
        default=None, description="For people; need not be unique."
    )
    template: dict[str, Any] = Field(description="A spec of an experiment, valid as it stands.")
    axes: Annotated[dict[Path, Axis], Field(max_length=MOST_AXES)] = Field(
        default_factory=dict,
        description="By a dotted path of the spec, such as optimizer.lr: a list of values, or "
        '{"kind": "grid" | "uniform" | "log_uniform" | "integer", "low": , "high": , "count": }. Every value of one '
        "comes with every value of the others.",
    )
    together: list[Annotated[list[Path], Field(min_length=2, max_length=MOST_AXES)]] = Field(
        default_factory=list,
        max_length=MOST_AXES // 2,
        description="Groups of axes that advance in step, the first value with the first: of equal counts. A random "
        "search draws its axes so.",
    )
    arms: Annotated[dict[Name, Patch], Field(max_length=MOST_ARMS)] = Field(
        default_factory=dict,
        description="What is compared: by name, values at paths of the spec, all set at once; {} is the template.",
    )
    search: SearchSpec | None = Field(
        default=None, description="Instead of axes: points that are proposed from what those before came to."
    )
    prune: PruneSpec | None = Field(
        default=None, description="Points that fall behind on validation data are ended early."
    )
    seeds: Seeds = Field(
        default=1, description="How many (0, 1, ...), or which. A seed fixes initialization, order and dropout."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "SweepSpec":
        faults = [*self._misplaced(), *self._steps_apart(), *self._repeated_seeds()] or list(self._too_many())
        if faults:
            listed = [(fault.pointer, fault.detail, fault.code) for fault in faults]
            raise PydanticCustomError("cross_field", "parts of the sweep do not fit together", {"faults": listed})
        return self

    @property
    def points(self) -> int:
        """How many there are, before seeds; of a search, will be."""
        if self.search is not None:
            return self.search.trials * max(1, len(self.arms))
        counts = {path: count_of(axis) for path, axis in self.axes.items()}
        for group in self.together:
            for path in group[1:]:
                counts[path] = 1
        return math.prod(counts.values()) * max(1, len(self.arms))

    @property
    def bracket_points(self) -> int:
        """How many points are ranked together where they are pruned: each group has as many."""
        return self.points // (1 if self.prune is None else len(self.prune.brackets(list(self.arms))))

    @property
    def seed_list(self) -> list[int]:
        """Which seeds it begins with."""
        return seeds_of(self.seeds)

    @property
    def varied(self) -> Mapping[str, Any]:
        """The paths at which points differ."""
        return self.axes if self.search is None else self.search.space

    @property
    def above_varied(self) -> str:
        """The pointer to them."""
        return "/axes" if self.search is None else "/search/space"

    def _misplaced(self) -> Iterator[Fault]:
        if self.search is not None:
            yield from (Fault(f"/search{one.pointer}", one.detail, one.code) for one in self.search.faults())
            if self.axes:
                detail = "A search proposes all values; leave axes out, and put these into /search/space as a list"
                yield Fault("/axes", detail, "axes_beside_search")
        yield from self._unprunable()
        for path in self.varied:
            yield from _set_otherwise(f"{self.above_varied}{pointer_part(path)}", path)
        for name, patch in self.arms.items():
            for path in patch:
                pointer = f"/arms{pointer_part(name)}{pointer_part(path)}"
                yield from _set_otherwise(pointer, path)
                hidden = next((axis for axis in self.varied if is_within(path, axis)), None)
                if hidden is not None:
                    detail = f"The axis {hidden} sets this in every arm; leave it out of one of them"
                    yield Fault(pointer, detail, "set_twice")

    def _unprunable(self) -> Iterator[Fault]:
        if self.prune is None:
            return
        if self.search is not None:
            yield beside_search()
        else:
            yield from map(into_sweep, self.prune.too_few(self.bracket_points))

    def _steps_apart(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for number, group in enumerate(self.together):
            for place, path in enumerate(group):
                pointer = f"/together/{number}/{place}"
                if path not in self.axes:
                    yield Fault(pointer, "Is no axis; name one of /axes", "no_axis")
                elif path in seen:
                    yield Fault(pointer, "Is named before; an axis advances in one group", "repeated")
                elif group[0] in self.axes and count_of(self.axes[path]) != count_of(self.axes[group[0]]):
                    here, first = count_of(self.axes[path]), count_of(self.axes[group[0]])
                    yield Fault(pointer, f"Has {here} values, and {group[0]} has {first}", "counts_differ")
                seen.add(path)

    def _repeated_seeds(self) -> Iterator[Fault]:
        if isinstance(self.seeds, list) and len(set(self.seeds)) < len(self.seeds):
            first = next(place for place, seed in enumerate(self.seeds) if seed in self.seeds[:place])
            yield Fault(f"/seeds/{first}", "Is given twice; the same seed makes the same run", "repeated_seed")

    def _too_many(self) -> Iterator[Fault]:
        seeds = len(seeds_of(self.seeds))
        if self.points * seeds > MOST_EXPERIMENTS:
            made = f"{self.points:,} points with {seeds:,} seeds are {self.points * seeds:,} experiments"
            cure = f"a sweep has at most {MOST_EXPERIMENTS:,}; draw axes at random and put them `together`"
            pointer = "/axes" if self.search is None else "/search/trials"
            yield Fault(pointer, f"{made}; {cure}", "too_many_points")


class Extension(SpecModel):
    """More seeds of all points of a sweep."""

    seeds: Seeds = Field(description="How many more, the next that it has not; or which.")


def load_sweep(value: Any) -> SweepSpec:
    """The sweep of a parsed document. Raises `SpecError`."""
    try:
        return SweepSpec.model_validate(value)
    except ValidationError as error:
        raise SpecError(faults_of(error, SweepSpec)) from None


def seeds_of(seeds: int | list[int]) -> list[int]:
    """Which they are."""
    return list(range(seeds)) if isinstance(seeds, int) else list(seeds)


def _set_otherwise(pointer: str, path: str) -> Iterator[Fault]:
    for fixed, why in _SET_OTHERWISE.items():
        if is_within(path, fixed) or is_within(fixed, path):
            yield Fault(pointer, f"Cannot differ within a sweep: {why}", "not_an_axis")
