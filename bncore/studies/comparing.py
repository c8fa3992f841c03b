"""A free comparison as a claim: specs of a user's own, each against the baseline, by one number of each run.

Tuned and judged as the article's claims are: the same grid for all arms by validation data, fresh paired seeds at the
winners, matched settings beside best versus best, the same guards.

Invariant: the design is a function of what was asked. Asked again, it is the same to the bit.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from bncore.spec.data import data_shape
from bncore.spec.free_comparison import BASELINE, EstimandSpec, FreeComparison
from bncore.spec.parse import load_spec
from bncore.studies.claim import Arm, Batch, Design, Question, Scale, Source
from bncore.studies.comparable import Complete, completed, ignorant, is_valid, steps_of
from bncore.studies.estimand import Effects, Estimand, effects
from bncore.studies.guards import Guard, baseline_trains, target_reached, treatment_trains, winner_inside_grid
from bncore.studies.margin import Margin
from bncore.studies.measures import Final, FirstReaching, Greatest, Least, MeanOverSteps, Measure
from bncore.studies.results import Metric, Place, Results
from bncore.studies.stages import Confirmed, staged
from bncore.studies.tuning import Axis, Grid, gained, matched
from bncore.studies.verdict import Evidence, Words

_ACCURACY = Final("test/accuracy")
_CURE = "Train longer, or ask anew with the accuracy that these data allow as `trains_at`."
_WHICH = {
    "best_versus_best": "each at its best setting",
    "at_best_of_baseline": "at the setting that is best for the baseline",
}


class Comparison:
    """A `Claim` of specs that somebody has posted."""

    name = "comparison"
    number = ""
    source = ""
    literature: tuple[Source, ...] = ()

    def __init__(self, asked: FreeComparison) -> None:
        """`asked` has complete specs: see `compared`."""
        self.asked = asked
        self._measuring = _Measuring(asked)
        arms = ", ".join(asked.treatments)
        self.says = f"{self._measuring.quantity}: {arms} {_SAID[asked.margin]} {BASELINE}."

    def design(self, scale: Scale, seeds: int | None = None, overrides: Mapping[str, Any] | None = None) -> Design:
        """What it will do. `scale` is only noted: sizes are those of the specs.

        Raises:
            ValueError: there are overrides, which have no template to change.
        """
        if overrides:
            raise ValueError("a comparison says its specs whole; change them there")
        asked, n = self.asked, seeds or self.asked.seeds
        margin = Margin(asked.margin, math.log1p(asked.delta) if asked.estimand.is_ratio else asked.delta)
        return Design(
            claim=self.name,
            scale=scale,
            template={},
            arms=tuple(Arm(name, name, spec=spec) for name, spec in asked.compare.items()),
            measures=self._measuring.measures,
            margins={name: margin for arm in asked.treatments for name in _names(asked, arm)},
            seeds=n,
            most=2 * n,
            pairs=tuple((arm, BASELINE) for arm in asked.treatments),
            grid=Grid(tuple(_axis(asked, path) for path in asked.tune)),
            tuned_by=self._measuring.tuned_by if asked.tune else None,
            tuning_seeds=asked.tuning_seeds if asked.tune else 0,
            trains_at=asked.trains_at,
        )

    def next_step(self, design: Design, found: Results) -> Batch | tuple[Question, ...]:
        """Matched settings are asked about where they are not those of best versus best."""
        at = staged(design, found)
        if isinstance(at, Batch):
            return at
        return tuple(evidence for pair in design.pairs for evidence in self._evidence(design, at, pair))

    def _evidence(self, design: Design, at: Confirmed, pair: tuple[str, str]) -> Iterator[Evidence]:
        treatment, baseline = pair
        places = matched(at.best, *pair) if at.best else {"": (Place(treatment), Place(baseline))}
        asked: list[tuple[Place, Place]] = []
        for which in _WHICH if at.best else ("",):
            if places[which] in asked:
                continue
            asked.append(places[which])
            estimand = self._measuring.estimand
            each = effects(estimand, at.runs, *places[which], at.seeds)
            name = f"{treatment}-{which}" if which else treatment
            guards = tuple(self._guards(at, pair, places[which], each))
            words = self._words(treatment, which)
            yield Evidence(name, words, estimand, design.margins[name], each, guards)

    def _guards(
        self, at: Confirmed, pair: tuple[str, str], places: tuple[Place, Place], each: Effects
    ) -> Iterator[Guard]:
        if at.best:
            yield winner_inside_grid({arm: at.best[arm] for arm in pair})
        accuracy = self._measuring.accuracy
        if accuracy is not None:
            # A baseline that never gets to a target may be what is asked about, and `target_reached` sees to the rest.
            least = self.asked.trains_at
            if not self.asked.estimand.is_time:
                place = at.best[pair[1]].place if at.best else places[1]
                yield self._curable(baseline_trains(at.runs, place, accuracy, least))
            yield self._curable(treatment_trains(at.runs, places[0], accuracy, least))
        if self.asked.estimand.is_time:
            yield target_reached(each)

    def _curable(self, guard: Guard) -> Guard:
        """Noise may leave any network below a bar that nobody chose for these data."""
        if guard.passed or self.asked.trains_at is not None:
            return guard
        return replace(guard, sentence=f"{guard.sentence} {_CURE}")

    def _words(self, treatment: str, which: str) -> Words:
        asked, quantity = self.asked, self._measuring.quantity
        where = f", {_WHICH[which]}" if which else ""
        unit, factor = self._measuring.unit
        by = (
            f"a factor of {1 + asked.delta:g}"
            if asked.estimand.is_ratio
            else f"{asked.delta * factor:g} {unit}".strip()
        )
        compared = {
            "superiority": f"better with {treatment} than with {BASELINE} by more than {by}",
            "non_inferiority": f"worse with {treatment} than with {BASELINE} by less than {by}, if at all",
            "equality": f"the same with {treatment} as with {BASELINE} within {by}",
        }[asked.margin]
        return Words(f"Is {quantity} {compared}{where}?", quantity, treatment, BASELINE, unit, factor)


_SAID = {
    "superiority": "better than",
    "non_inferiority": "not worse than",
    "equality": "the same as",
}


def compared(asked: FreeComparison, complete: Complete = lambda document: document) -> Comparison:
    """The claim of a comparison; `asked` of it has complete specs, and needs no `complete` when it is asked again.

    Raises:
        SpecError: a spec is invalid, or arms cannot be compared so; with pointers into what was asked.
    """
    return Comparison(completed(asked, complete))


class _Measuring:
    """What of a run is compared, what chooses settings, and what says whether it trains."""

    def __init__(self, asked: FreeComparison) -> None:
        self._asked = asked.estimand
        spec = load_spec(asked.compare[BASELINE])
        sizes = data_shape(spec.data)
        self._budget = steps_of(spec)
        self._every = spec.evaluation.every_steps
        self._chance = None if sizes.task == "regression" else 1.0 / sizes.outputs
        self._ignorant = ignorant(spec)
        self._measure = _measure(self._asked, self._asked.series)
        self._tuning = self._tuned(bool(asked.tune))

    @property
    def measures(self) -> tuple[Measure, ...]:
        trains = () if self.accuracy is None else (_ACCURACY,)
        return tuple(dict.fromkeys((self._measure, *self._tuning, *trains)))

    @property
    def estimand(self) -> Estimand:
        if self._asked.is_time:
            metric = Metric(self._measure.name, higher_is_better=False)
            first = 1 if self._asked.series.startswith(("train/", "lr")) else min(self._every, self._budget)
            return Estimand(metric, "log_time_ratio", budget=self._budget, first=first)
        metric = self._metric(self._measure, bool(self._asked.upwards))
        return Estimand(metric, "log_ratio" if self._asked.is_ratio else "difference")

    @property
    def accuracy(self) -> Metric | None:
        """None where there is no such thing, or what is compared is measured before anything is learned."""
        if self._chance is None or self._asked.series.startswith("diagnostics/"):
            return None
        # Who always says the commonest class has learned nothing, however often that is right.
        return replace(self._metric(_ACCURACY, upwards=True), when_diverged=self._ignorant)

    @property
    def tuned_by(self) -> Metric:
        (measure,) = self._tuning
        if isinstance(measure, FirstReaching):
            never = float(self._budget)
            return Metric(measure.name, higher_is_better=False, when_diverged=never, when_never=never)
        same = measure.series.removeprefix("validation/") == self._asked.series.removeprefix("test/")
        upwards = bool(self._asked.upwards) if same else measure.series == "validation/accuracy"
        return self._metric(measure, upwards)

    @property
    def quantity(self) -> str:
        series = self._asked.series.replace("/", " ")
        if self._asked.is_time and self._asked.target is not None:
            value, share = self._asked.target.value, series.endswith("accuracy")
            return f"steps to {f'{value * 100:g} %' if share else f'{value:g}'} {series}"
        stretch = f" over steps {self._asked.over[0]} to {self._asked.over[1]}" if self._asked.over else ""
        return {"final": series, "best": f"best {series}", "mean": f"mean {series}{stretch}"}[self._asked.take]

    @property
    def unit(self) -> tuple[str, float]:
        """Differences of accuracies are said in points."""
        is_share = not self._asked.is_ratio and "/accuracy" in self._asked.metric
        return ("points", 100.0) if is_share else ("", 1.0)

    def _tuned(self, is_tuned: bool) -> tuple[Measure, ...]:
        """The same of the validation data, where it is of the test data; else how good the network is there."""
        if not is_tuned:
            return ()
        series = self._asked.series
        if series.startswith(("test/", "validation/")):
            return (_measure(self._asked, series.replace("test/", "validation/", 1)),)
        return (Final("validation/loss" if self._chance is None else "validation/accuracy"),)

    def _metric(self, measure: Measure, upwards: bool) -> Metric:
        """What diverged knows nothing: its accuracy is chance, and its loss that of equal odds."""
        when = None
        if self._chance is not None and "/accuracy" in measure.series:
            when = self._chance
        elif self._chance is not None and "/loss" in measure.series:
            when = -math.log(self._chance)
        return Metric(measure.name, higher_is_better=upwards, when_diverged=when)


def _measure(asked: EstimandSpec, series: str) -> Measure:
    if asked.is_time and asked.target is not None:
        return FirstReaching(series, asked.target.value, bool(asked.target.upwards))
    if asked.take == "best":
        return Greatest(series) if asked.upwards else Least(series)
    return MeanOverSteps(series, asked.over) if asked.take == "mean" else Final(series)


def _names(asked: FreeComparison, arm: str) -> tuple[str, ...]:
    return tuple(f"{arm}-{which}" for which in _WHICH) if asked.tune else (arm,)


def _axis(asked: FreeComparison, path: str) -> Axis:
    """Its scale is that on which its values are more evenly spaced; it ends where a spec would be valid no more."""
    values = asked.values(path)
    if isinstance(values[0], bool | str):
        return Axis(path, values, "choice")
    scale: Literal["log", "linear"] = "log" if _is_log(asked, path, values) else "linear"
    axis = Axis(path, values, scale)
    least = _limit(asked, axis, gained(axis, values[0]), values[0], -math.inf)
    largest = _limit(asked, axis, gained(axis, values[-1]), values[-1], math.inf)
    return replace(axis, least=least, largest=largest)


def _is_log(asked: FreeComparison, path: str, values: tuple[Any, ...]) -> bool:
    given = asked.tune[path]
    if not isinstance(given, list):
        return given.scale == "log"
    if values[0] <= 0:
        return False
    pairs = list(itertools.pairwise(values))
    ratios, differences = [high / low for low, high in pairs], [high - low for low, high in pairs]
    return bool(max(ratios) / min(ratios) <= max(differences) / min(differences))


def _limit(asked: FreeComparison, axis: Axis, beyond: tuple[float, ...], edge: float, unlimited: float) -> float:
    """The last value beyond an edge at which every spec is valid, where one of them is not."""
    others = {other: asked.values(other)[0] for other in asked.tune if other != axis.path}

    def is_allowed(value: float) -> bool:
        return all(is_valid(spec, {**others, axis.path: value}) for spec in asked.compare.values())

    allowed = tuple(itertools.takewhile(is_allowed, beyond))
    return unlimited if len(allowed) == len(beyond) else allowed[-1] if allowed else edge
