"""What a diagnostic of a spec measures: the library's function for it, on a batch that stays the same throughout.

Invariant: nothing of it leaves a trace in what trains (`bncore.diagnostics`), and what is found is a function of spec,
step and training state. In float32 and on the weights that train, whatever the precision and averages of the spec.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor, nn

from bncore import diagnostics
from bncore.data import DataSet, Examples
from bncore.data.sampling import order_of
from bncore.diagnostics import How
from bncore.norm.model.feed import evaluation_mode
from bncore.recording import Recording, from_bytes
from bncore.seeds import derive_seed
from bncore.spec import ExperimentSpec, Plan, data_shape, lr_factor
from bncore.spec.blueprint import depths
from bncore.spec.data.sampler import ShuffledSampler
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
from bncore.spec.diagnostics.affordable import LEAST_STEPS, MOST_PRECISE
from bncore.train.accuracies import Accuracies, Judging
from bncore.train.learner import Found
from bncore.train.task import Task

KEPT = "diagnostics/"
"""What names begin with that are kept in the training state."""
_TOO_SHORT = (
    "What needs a pass through the network (gaps, dead channels, clipped r and d, values) was not measured: the run "
    f'was too short, {{:,}} steps; from {LEAST_STEPS:,} on it takes little of it. "full": true measures it all the same'
)
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
_Given = tuple[nn.Module, Tensor | None, Tensor | None]


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
        self._judging = Judging(spec, planned, network, task, data, self._drawn)
        self._together = min(spec.train.micro_batches(spec.train.batch_size))
        self._earlier_statistics: dict[str, Tensor] = {}
        self._earlier_shift: Recording | None = None

    def found(self, asked: DiagnosticSpec, step: int, evaluated: Mapping[str, float], *, at_end: bool) -> Found:
        """What is asked, after that many steps; of norm_health at the end, how good it is with other statistics.

        `evaluated` is what was measured after these steps, and is not measured again.
        """
        if isinstance(asked, NormHealthSpec):
            return self._norm_health(asked, step, evaluated, at_end=at_end)
        recording = self._measured(asked, *self._given(asked, step))
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

    def _norm_health(self, asked: NormHealthSpec, step: int, evaluated: Mapping[str, float], *, at_end: bool) -> Found:
        passes = asked.passes_at(step)
        given, how = self._given(asked, step) if passes else ((self._network, None, None), How(step=step))
        judged = Accuracies({}, {})
        # Once, where each look would change the mode of every module and change it back.
        with evaluation_mode(self._network):
            if at_end:
                judged = self._judging.accuracies(evaluated, step, full=asked.is_full)
            found = diagnostics.norm_health(
                *given,
                earlier=self._earlier_statistics,
                accuracy=judged.values,
                examples=judged.examples,
                depths=self._depths,
                at_end=at_end,
                **how,
            )
        self._earlier_statistics = diagnostics.running_statistics(self._network)
        warnings = tuple(warning.words for warning in found.warnings)
        # NaN is what no layer has, such as bounds of r.
        known = {name: value for name, value in found.recording.scalars.items() if not math.isnan(value)}
        scalars = {**known, "warnings": float(len(warnings))}
        notes = (*(() if passes else (_TOO_SHORT.format(step),)), *judged.notes)
        return Found(replace(found.recording, scalars=scalars, notes=notes), warnings)

    @functools.cached_property
    def _depths(self) -> Mapping[str, int]:
        return depths(self._spec.network.blueprint(data_shape(self._spec.data).signal, self._planned.outputs))

    def _given(self, asked: DiagnosticSpec, step: int) -> tuple[_Given, How]:
        examples = asked.measured_on(self._data.train.size, self._together)
        probe = self._as_trained(examples) if isinstance(asked, NormHealthSpec) else self._probe(examples)
        how: How = {"lengths": probe.lengths, "loss": self._loss, "seed": self._spec.train.seed, "step": step}
        return (self._network, probe.inputs, probe.targets), how

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

    def _as_trained(self, examples: int) -> Examples:
        """As they come together in training: where a sampler says which do, in the order in which it would draw them.

        What normalizations do to a batch of one class, one of all classes does not show.
        """
        part, sampler, train = self._data.train, self._spec.data.sampler, self._spec.train
        if isinstance(sampler, ShuffledSampler):
            return self._probe(examples)
        seed = derive_seed(train.seed, "diagnostics")
        order = order_of(sampler, part.size, part.all_targets, train.batch_size, seed)(0)
        return part.gather(order[:examples].to(part.index_device))

    def _lr(self, step: int) -> float:
        """That of the next step."""
        total = self._planned.total_steps
        return self._spec.optimizer.lr * lr_factor(self._spec.schedule, min(step + 1, total), total)

    def _loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """As training descends it, of examples that are not mixed."""
        return self._task.loss(outputs, Examples(outputs, labels))
