"""Which series a run of a spec will leave, known before it runs.

Invariant: what is said to be there is there in every run that ends with finite numbers, and nothing else is.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args

from bncore.spec.budget import Statistics
from bncore.spec.catalog import members
from bncore.spec.data import DataShape, data_shape
from bncore.spec.diagnostics import DiagnosticSpec, NormHealthSpec
from bncore.spec.diagnostics.affordable import affordable
from bncore.spec.diagnostics.sighted import Sighted
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.plan import laid_network, steps_per_epoch, total_steps
from bncore.spec.wording import meant_or_all, nearest, series_here

_DIAGNOSTICS = "diagnostics/"
_KINDS: tuple[str, ...] = tuple(member.model_fields["kind"].default for member in members(DiagnosticSpec))


@dataclass(frozen=True)
class Recorded:
    """What a spec records."""

    evaluated: tuple[str, ...]
    """Series of training and of evaluations."""
    diagnostics: Mapping[str, tuple[int, ...]]
    """By the kinds that measure, after which steps."""
    scalars: Mapping[str, tuple[str, ...]]
    """By kind, whose series are `diagnostics/<kind>/<scalar>`."""
    known: Mapping[str, tuple[int, ...]]
    """By series of a diagnostic, after which of these steps it is a number."""
    why_unknown: Mapping[str, str]
    """By those that are a number after none, whatever the weights come to, why, and what would help."""
    left_out: frozenset[str]
    """Scalars of `norm_health` that it leaves out of so short a run, unless it is asked for all."""
    evaluated_at: tuple[int, int]
    """The steps between evaluations, and the last one."""
    is_normalized: bool
    """Whether the network has any normalization."""

    @cached_property
    def series(self) -> frozenset[str]:
        """All of them, but for speed."""
        found = (f"{_DIAGNOSTICS}{kind}/{name}" for kind, names in self.scalars.items() for name in names)
        return frozenset((*self.evaluated, *found))

    def has(self, metric: str) -> bool:
        """Whether there is such a series, and it is a number at any step."""
        return metric in self.series and metric not in self.why_unknown

    def has_between(self, metric: str, first: int, last: int) -> bool:
        """Whether it has a value at a step of these, both included."""
        if not self.has(metric):
            return False
        if metric.startswith(_DIAGNOSTICS):
            return any(first <= step <= last for step in self.known[metric])
        every, end = self.evaluated_at
        first, last = max(first, 1), min(last, end)
        if not metric.startswith(("test/", "validation/")):
            return first <= last
        return first <= end <= last or first <= last // every * every

    def cure(self, metric: str) -> str:
        """What would have to be otherwise for there to be such a series, as the end of a sentence."""
        if metric in self.why_unknown:
            return self.why_unknown[metric]
        part, _, rest = metric.partition("/")
        if part == "diagnostics":
            return self._cure_of_diagnostic(*rest.partition("/")[::2])
        return _cure_of_evaluated(metric, self.evaluated)

    def _cure_of_diagnostic(self, kind: str, name: str) -> str:
        if kind not in _KINDS:
            close = nearest(kind, _KINDS)
            return f"did you mean {_DIAGNOSTICS}{close}/{name}?" if close else f"diagnostics are {', '.join(_KINDS)}"
        if kind == "norm_health" and kind not in self.scalars:
            return (
                "norm_health is switched off; have it in each spec"
                if self.is_normalized
                else "a network without normalizations has no norm_health; give all of them one"
            )
        if kind not in self.scalars:
            return f'ask for it in each spec, as diagnostics: [{{"kind": "{kind}"}}]'
        names = self.scalars[kind]
        if kind == "norm_health" and name in self.left_out:
            return 'a run this short leaves it out; ask for it in each spec: {"kind": "norm_health", "full": true}'
        close = nearest(name, names)
        return f"did you mean {_DIAGNOSTICS}{kind}/{close}?" if close else f"{kind} finds {', '.join(names)}"


def recorded_of(spec: ExperimentSpec) -> Recorded:
    """The series of a spec."""
    sizes = data_shape(spec.data)
    steps = total_steps(spec.train, steps_per_epoch(spec.train, sizes))
    laid = laid_network(spec.network, sizes.signal, sizes.outputs)
    norms = tuple(norm for norm, _ in laid.norms)
    blueprint = spec.network.blueprint(sizes.signal, sizes.outputs)
    moments = {one.kind: one.moments(steps) for one in spec.diagnostics if norms or not _is_health(one)}
    sighted = Sighted(
        blueprint,
        norms,
        (),
        steps,
        has_accuracy=sizes.task != "regression",
        evaluates_each=set(spec.evaluation.statistics) >= set(get_args(Statistics)),
        affordable=affordable(steps, spec.train.batch_size, sizes.train_examples, sizes.test_examples),
        is_drawn=spec.start_from is None,
    )
    seen = {kind: replace(sighted, moments=when) for kind, when in moments.items() if when}
    scalars: dict[str, tuple[str, ...]] = {
        one.kind: one.found_in(seen[one.kind]) for one in spec.diagnostics if one.kind in seen
    }
    whole = (
        one.model_copy(update={"full": True}).found_in(seen[one.kind])
        for one in spec.diagnostics
        if isinstance(one, NormHealthSpec) and one.kind in seen
    )
    return Recorded(
        evaluated=evaluated_of(spec),
        diagnostics={kind: one.moments for kind, one in seen.items()},
        scalars=scalars,
        known={series: one.known_at(name, seen[one.kind]) for series, name, one in _named(spec, scalars)},
        why_unknown={
            series: why for series, name, one in _named(spec, scalars) if (why := one.why_unknown(name, seen[one.kind]))
        },
        left_out=frozenset(itertools.chain(*whole)).difference(*scalars.values()),
        evaluated_at=(spec.evaluation.every_steps, steps),
        is_normalized=bool(norms),
    )


def evaluated_of(spec: ExperimentSpec) -> tuple[str, ...]:
    """The series of training and of evaluations, which say no more of the network than its task."""
    return tuple(_evaluated(spec, data_shape(spec.data)))


def why_unmeasured(series: str, spec: ExperimentSpec) -> str:
    """Why a run of a spec has no such series of an evaluation, and what to do."""
    return f"Is no series of these runs; {_cure_of_evaluated(series, evaluated_of(spec))}"


def _cure_of_evaluated(series: str, evaluated: Sequence[str]) -> str:
    """What would have to be otherwise for there to be such a series of an evaluation, as the end of a sentence."""
    if (here := series_here(series)) != series:
        cure = "" if here in evaluated else f"; {_cure_of_evaluated(here, evaluated)}"
        return f"did you mean {here}?{cure}"
    part, _, name = series.partition("/")
    parts = {one.partition("/")[0] for one in evaluated}
    if part == "validation" and part not in parts:
        return 'nothing is held out for validation: say so in each spec, as data.validation: {"share": 0.2}'
    if part == "test" and part not in parts:
        return "the data have no test part: name a series of validation"
    if name.partition("@")[0] == "accuracy" and "train/accuracy" not in evaluated:
        return f"a regression has no accuracy: name {part}/loss"
    if "@" in name:
        return "ask for it in each spec: evaluation.statistics for batch and precise, train.ema for ema"
    return meant_or_all(series, evaluated)


def _named(spec: ExperimentSpec, scalars: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str, DiagnosticSpec]]:
    """Series and scalar of each, and what finds it."""
    for one in spec.diagnostics:
        yield from ((f"{_DIAGNOSTICS}{one.kind}/{name}", name, one) for name in scalars.get(one.kind, ()))


def _is_health(one: DiagnosticSpec) -> bool:
    return isinstance(one, NormHealthSpec)


def _evaluated(spec: ExperimentSpec, sizes: DataShape) -> Iterator[str]:
    names = ("loss",) if sizes.task == "regression" else ("loss", "accuracy")
    yield from (f"train/{name}" for name in names)
    yield "lr"
    parts = ["test"] * bool(sizes.test_examples) + ["validation"] * bool(sizes.validation_examples)
    weights = ["", "@ema"] if spec.train.ema else [""]
    for part in parts:
        for average in weights:
            for statistics in spec.evaluation.statistics:
                suffix = average + ("" if statistics == "running" else f"@{statistics}")
                yield from (f"{part}/{name}{suffix}" for name in names)
