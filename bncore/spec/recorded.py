"""Which series a run of a spec will leave, known before it runs.

Invariant: what is said to be there is there in every run that ends; of scalars of diagnostics only the kind is known.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bncore.spec.data import data_shape
from bncore.spec.diagnostics import NormHealthSpec
from bncore.spec.experiment import ExperimentSpec
from bncore.spec.plan import laid_network

_DIAGNOSTICS = "diagnostics/"


@dataclass(frozen=True)
class Recorded:
    """What a spec records."""

    series: tuple[str, ...]
    diagnostics: tuple[str, ...]
    """Kinds, whose scalars are series `diagnostics/<kind>/<name>`."""

    def has(self, metric: str) -> bool:
        """Whether there is such a series; of a diagnostic, whether its kind is measured."""
        if not metric.startswith(_DIAGNOSTICS):
            return metric in self.series
        kind, _, name = metric.removeprefix(_DIAGNOSTICS).partition("/")
        return bool(name) and kind in self.diagnostics


def recorded_of(spec: ExperimentSpec) -> Recorded:
    """The series of a spec."""
    sizes = data_shape(spec.data)
    laid = laid_network(spec.network, sizes.signal, sizes.outputs)
    kinds = [
        one.kind for one in spec.diagnostics if not isinstance(one, NormHealthSpec) or (one.enabled and laid.norms)
    ]
    return Recorded(tuple(_series(spec)), tuple(kinds))


def _series(spec: ExperimentSpec) -> Iterator[str]:
    sizes = data_shape(spec.data)
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
