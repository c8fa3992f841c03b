"""What a diagnostic of a spec measures: the library's function for it, on a batch that stays the same throughout.

Invariant: nothing of it leaves a trace in what trains (`bncore.diagnostics`), and what is found is a function of spec,
step and training state. In float32 and on the weights that train, whatever the precision and averages of the spec.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor, nn

from bncore import diagnostics
from bncore.data import DataSet, Examples
from bncore.diagnostics import How
from bncore.norm.model.found import normalizations
from bncore.recording import Recording, from_bytes
from bncore.seeds import derive_seed
from bncore.spec import ExperimentSpec, Plan, Statistics, lr_factor
from bncore.spec.diagnostics import (
    ActivationMomentsSpec,
    CovariateShiftSpec,
    DiagnosticSpec,
    GradientHeatmapSpec,
    GradientNormsSpec,
    HessianTopEigenvalueSpec,
    LossLandscapeSpec,
    NormHealthSpec,
    ScaleInvarianceSpec,
    StepProbeSpec,
    WeightNormsSpec,
)
from bncore.train.evaluate import equal_parts, evaluate, using
from bncore.train.learner import Found
from bncore.train.progress import TEST_ACCURACY
from bncore.train.task import Task

LEAST_PRECISE, MOST_PRECISE = 256, 10_000
"""Training examples for precise statistics: of the first, means are off by 6 % of a standard deviation, where rows have
one value a channel; arXiv 2105.07576, section 3.2, finds a tenth of the second enough for images."""
_PRECISE_SHARE = 96
"""Of so many that are trained on, one is looked at again for them, within these bounds: half a percent of the time."""
_PRECISE_BATCH = 256
"""At the least: front layers normalized by small batches leave errors behind (section 3.3 there)."""

KEPT = "diagnostics/"
"""What names begin with that are kept in the training state."""
_SHIFT, _STATISTICS = "covariate_shift", "norm_health/"

AnyButHealth = (
    ActivationMomentsSpec
    | GradientHeatmapSpec
    | GradientNormsSpec
    | ScaleInvarianceSpec
    | StepProbeSpec
    | CovariateShiftSpec
    | LossLandscapeSpec
    | HessianTopEigenvalueSpec
    | WeightNormsSpec
)
_Given = tuple[nn.Module, Tensor, Tensor]


class Measuring:
    """The diagnostics of one network that trains."""

    def __init__(self, spec: ExperimentSpec, planned: Plan, network: nn.Module, task: Task, data: DataSet) -> None:
        self._spec = spec
        self._planned = planned
        self._network = network
        self._task = task
        self._data = data
        seed = derive_seed(spec.train.seed, "diagnostics")
        order = torch.randperm(data.train.size, generator=torch.Generator().manual_seed(seed))
        self._drawn = order[:MOST_PRECISE].clone()
        self._together = min(spec.train.micro_batches(spec.train.batch_size))
        self._earlier_statistics: dict[str, Tensor] = {}
        self._earlier_shift: Recording | None = None

    def found(self, asked: DiagnosticSpec, step: int, evaluated: Mapping[str, float], *, at_end: bool) -> Found:
        """What is asked, after that many steps; of norm_health at the end, how good it is with other statistics.

        `evaluated` is what was measured after these steps, and is not measured again.
        """
        probe = self._probe(asked.measured_on(self._data.train.size, self._together))
        given = (self._network, probe.inputs, probe.targets)
        how: How = {"lengths": probe.lengths, "loss": self._loss, "seed": self._spec.train.seed, "step": step}
        if isinstance(asked, NormHealthSpec):
            return self._norm_health(given, how, self._accuracies(evaluated) if at_end else {}, at_end=at_end)
        recording = self._measured(asked, given, how)
        if isinstance(asked, CovariateShiftSpec):
            self._earlier_shift = recording
        return Found(recording)

    def kept(self) -> dict[str, Tensor]:
        """What later measurements are compared with, by name."""
        kept = {f"{KEPT}{_STATISTICS}{name}": tensor for name, tensor in self._earlier_statistics.items()}
        if self._earlier_shift is not None:
            kept[KEPT + _SHIFT] = torch.frombuffer(bytearray(self._earlier_shift.to_bytes()), dtype=torch.uint8)
        return kept

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on with it."""
        named = {name.removeprefix(KEPT): tensor for name, tensor in kept.items()}
        if _SHIFT in named:
            self._earlier_shift = from_bytes(named.pop(_SHIFT).numpy().tobytes())
        self._earlier_statistics = {name.removeprefix(_STATISTICS): tensor for name, tensor in named.items()}

    def _norm_health(self, given: _Given, how: How, accuracy: Mapping[str, float], *, at_end: bool) -> Found:
        found = diagnostics.norm_health(
            *given, earlier=self._earlier_statistics, accuracy=accuracy, at_end=at_end, **how
        )
        self._earlier_statistics = diagnostics.running_statistics(self._network)
        warnings = tuple(warning.words for warning in found.warnings)
        # NaN is what no layer has, such as bounds of r.
        known = {name: value for name, value in found.recording.scalars.items() if not math.isnan(value)}
        scalars = {**known, "warnings": float(len(warnings))}
        return Found(replace(found.recording, scalars=scalars), warnings)

    def _measured(self, asked: AnyButHealth, given: _Given, how: How) -> Recording:  # noqa: C901 - one case a member
        lr = self._lr(how["step"])
        match asked:
            case ActivationMomentsSpec():
                return diagnostics.activation_moments(*given, **how)
            case GradientHeatmapSpec(examples=rows):
                return diagnostics.gradient_heatmap(*given, rows=rows, **how)
            case GradientNormsSpec():
                return diagnostics.gradient_norms(*given, **how)
            case ScaleInvarianceSpec(factors=factors):
                return diagnostics.scale_invariance(*given, factors=factors, **how)
            case StepProbeSpec(distances=distances):
                return diagnostics.step_probe(*given, distances=distances, **how)
            case CovariateShiftSpec():
                return diagnostics.covariate_shift(*given, lr=lr, earlier=self._earlier_shift, **how)
            case LossLandscapeSpec(distances=distances):
                return diagnostics.loss_landscape(*given, lr=lr, steps=distances, **how)
            case HessianTopEigenvalueSpec(iterations=iterations, tolerance=tolerance):
                return diagnostics.hessian_top_eigenvalue(*given, iterations=iterations, tolerance=tolerance, **how)
            case WeightNormsSpec():
                return diagnostics.weight_norms(*given, lr=lr, **how)
            case _:
                assert_never(asked)

    def _probe(self, examples: int) -> Examples:
        """The first of an order that the seed draws, as they lie: those of a smaller probe are among a larger one's."""
        part = self._data.train
        return part.gather(self._drawn[:examples].sort().values.to(part.index_device))

    def _lr(self, step: int) -> float:
        """That of the next step."""
        total = self._planned.total_steps
        return self._spec.optimizer.lr * lr_factor(self._spec.schedule, min(step + 1, total), total)

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """As training descends it, of examples that are not mixed."""
        return self._task.loss(outputs, Examples(outputs, labels))

    def _accuracies(self, evaluated: Mapping[str, float]) -> dict[str, float]:
        """Of the test data, by statistics; nothing where there is no accuracy, or no statistics to choose."""
        if self._task.chosen_by != "accuracy" or not normalizations(self._network, batch_statistics=True):
            return {}
        kinds: tuple[Statistics, ...] = ("running", "batch", "precise")
        keys = {kind: TEST_ACCURACY if kind == "running" else f"{TEST_ACCURACY}@{kind}" for kind in kinds}
        return {kind: evaluated[key] if key in evaluated else self._accuracy(kind) for kind, key in keys.items()}

    def _accuracy(self, statistics: Statistics) -> float:
        train, test = self._data.train, self._data.test
        trained = self._planned.total_steps * self._spec.train.batch_size
        examples = min(max(trained // _PRECISE_SHARE, LEAST_PRECISE), MOST_PRECISE)
        drawn = train.select(self._drawn[:examples].sort().values.to(train.index_device))
        together = max(self._together, min(_PRECISE_BATCH, self._spec.evaluation.batch_size))
        batches = equal_parts(drawn, max(1, drawn.size // together))
        tested = equal_parts(test, -(-test.size // self._spec.evaluation.batch_size))
        try:
            with using(statistics, self._network, batches) as usable:
                return evaluate(self._network, self._task, tested)["accuracy"] if usable else math.nan
        except ValueError:
            # Too few examples for statistics of their own.
            return math.nan
