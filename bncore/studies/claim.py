"""A claim: a function from what has been found to what to run next, or to the evidence on its questions.

Everything that could be chosen so that a verdict comes out as expected stands in `design`, before anything is run:
data, network, settings, seeds, effects worth calling one. `next_step` only reads results.

Invariant: a function of design and results. Asked again with the same results it gives the same batch or the same
evidence, so that whoever drives it may be killed at any point, and may ask twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from bncore.spec.merging import merged
from bncore.studies.margin import Margin
from bncore.studies.measures import Measure
from bncore.studies.results import Metric, Place, Results, Setting
from bncore.studies.tuning import Grid
from bncore.studies.verdict import Evidence, Exact, Fractions

Scale = Literal["tiny", "cpu", "gpu"]
"""`tiny` shows that a claim runs, with fewer seeds or steps than a verdict takes; `cpu` decides in minutes; `gpu` is
near the papers' sizes."""
Question = Evidence | Exact | Fractions
NO_GRID = Grid(())
TUNING_SEEDS_FROM = 1_000_000
"""Seeds that choose a setting are none of those that judge it, which count from 0."""


class ScaleMissing(ValueError):
    """The claim has no design of that scale."""


@dataclass(frozen=True)
class Source:
    """What a publication says on a claim, in our own words."""

    where: str
    """An arXiv id, with section, figure or table."""
    says: str
    agrees: bool
    """With the claim; where a counter-claim is what is asked, with that."""
    question: str | None = None
    """The name of the one question that it speaks of, or how the names of several begin; else of all."""


@dataclass(frozen=True)
class Arm:
    name: str
    words: str
    """As a sentence names it: "batch normalization"."""
    patch: Mapping[str, Any] = field(default_factory=dict)
    """What makes it of the template: a JSON merge patch (RFC 7396)."""
    spec: Mapping[str, Any] | None = None
    """All of it, where arms have no template in common; then there is no patch."""
    evaluated: tuple[str, ...] | None = None
    """Those of the design's evaluations that are made of it; None: all. A network without statistics of batches has
    none to put in their place, and such an evaluation of it is refused."""


@dataclass(frozen=True)
class Design:
    """What a study does, fixed before it runs."""

    claim: str
    scale: Scale
    template: Mapping[str, Any]
    """The spec that all arms share."""
    arms: tuple[Arm, ...]
    measures: tuple[Measure, ...]
    """What of each experiment's series becomes the metrics of its `Run`."""
    margins: Mapping[str, Margin]
    """How large the effects have to be, by question."""
    seeds: int
    most: int
    """Seeds to which it may be extended: see `looks`."""
    pairs: tuple[tuple[str, str], ...] = ()
    """(treatment, baseline), of those that are compared at their own best settings."""
    grid: Grid = NO_GRID
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, evaluations of each experiment's last checkpoint, adapted or on other data: specs as they are posted.
    Their numbers become metrics of its `Run` (`measures.evaluation_metrics`); a batch is done when they are. Which arm
    has which: `evaluations`."""
    tuned_by: Metric | None = None
    tuning_seeds: int = 0
    extensions: tuple[int, ...] = ()
    """How many seeds each extension has added."""
    trains_at: float | None = field(default=None, metadata={"told_where_said": True})
    """The accuracy from which on an arm counts as having trained; None: `guards.bar`. A design without it is told, and
    has the fingerprint, as before there was such a field."""
    varied_later: tuple[str, ...] = field(default=(), compare=False)
    """Paths that are no axis of the grid, and are varied where it is judged. It follows from the claim, and makes no
    other design (`asking.fingerprint_of`)."""

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def extended(self, seeds: int) -> "Design":
        """With so many more.

        Raises:
            ValueError: none, or more than it may have.
        """
        now = self.seeds + sum(self.extensions)
        if not 0 < seeds <= self.most - now:
            raise ValueError(f"a study with {now} of at most {self.most} seeds cannot have {seeds} more")
        return replace(self, extensions=(*self.extensions, seeds))


@dataclass(frozen=True)
class Batch:
    """Experiments to run next: each place with each seed."""

    stage: str
    """Its name in the study: a batch is submitted once under it."""
    places: tuple[Place, ...]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Experiment:
    """One of a batch; its spec is validated like any other."""

    place: Place
    seed: int
    spec: dict[str, Any]


class Claim(Protocol):
    """One of the article's, or anybody's."""

    name: str
    """In URLs."""
    number: str
    """C1 ... C19."""
    source: str
    literature: tuple[Source, ...]

    @property
    def says(self) -> str:
        """What the article says, in our own words."""
        ...

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        """What it will do.

        Args:
            seeds: None: as many as the effect is expected to take.
            overrides: a merge patch of the template.

        Raises:
            ScaleMissing: it has no such design.
        """
        ...

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """What to run next, given the stages that are done; or the evidence, if that is all."""
        ...


def experiments(design: Design, batch: Batch) -> tuple[Experiment, ...]:
    """The experiments of a batch; arms of a seed share everything that the seed decides."""
    return tuple(Experiment(place, seed, _spec(design, place, seed)) for place in batch.places for seed in batch.seeds)


def evaluations(design: Design, arm: str) -> dict[str, Mapping[str, Any]]:
    """Those that are made of each of its experiments, by name."""
    chosen = design.arm(arm).evaluated
    return {name: asked for name, asked in design.evaluations.items() if chosen is None or name in chosen}


def patched(template: Mapping[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    """A template with what the user has changed of it."""
    result: dict[str, Any] = merged(dict(template), dict(overrides or {}))
    return result


def seeds_of(batches: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Consecutive seeds from 0 of batches of that size."""
    starts = [sum(batches[:k]) for k in range(len(batches))]
    return tuple(tuple(range(start, start + size)) for start, size in zip(starts, batches, strict=True))


def at_setting(spec: Mapping[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """A spec with other values at some paths."""
    result: dict[str, Any] = merged(dict(spec), _nested(tuple(setting.items())))
    return result


def _spec(design: Design, place: Place, seed: int) -> dict[str, Any]:
    arm = design.arm(place.arm)
    spec = merged(dict(design.template), arm.patch) if arm.spec is None else dict(arm.spec)
    spec = at_setting(spec, dict(place.setting))
    result: dict[str, Any] = merged(spec, {"train": {"seed": seed}})
    return result


def _nested(setting: Setting) -> dict[str, Any]:
    patch: dict[str, Any] = {}
    for path, value in setting:
        *parents, last = path.split(".")
        inner = patch
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return patch
