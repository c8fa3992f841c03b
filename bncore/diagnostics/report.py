"""What a diagnosis says: numbers for programs, sentences for people."""

import math
from dataclasses import dataclass

from bncore.spec.norm.cold_start import COLD_START

LARGE_GAP = 0.2
"""A fifth of the output: more than the noise of the statistics of 32 values."""

VISIBLE = 0.1
"""A tenth of a standard deviation, or of the variance."""

FEW_VALUES = 16
"""With so few values, a batch's standard deviation is off by 18 % (1 / sqrt(2 n)), as a rule."""


@dataclass(frozen=True)
class Worst:
    """The largest value among channels, and which one has it."""

    value: float
    channel: int


@dataclass(frozen=True)
class LayerDiagnosis:
    """One normalization layer on one batch. None stands for what does not apply to the layer, or was not reached."""

    name: str
    """Path in the model; empty where the layer is the model."""
    kind: str
    reached: bool
    """Whether the batch came by."""
    finite_input: bool
    erases: bool
    """Whether each of its means is of a single value, so that nothing of its input is left."""
    not_finite: tuple[str, ...]
    """Parameters and buffers with NaN or infinite values."""
    small_scales: tuple[int, ...]
    """Channels whose scale is near 0: they are off, whatever the input."""
    overflows: bool = False
    """Whether the input is finite, and squares of it are not."""
    values: int | None = None
    """Values per channel in the batch, of which the statistics are."""
    gap: float | None = None
    """|training output - evaluation output| / |training output|, 2-norms over the batch; without noise that training
    adds. Not finite where one of the outputs is not."""
    mean_shift: Worst | None = None
    """|batch mean - running mean| in running standard deviations."""
    log_variance_ratio: Worst | None = None
    """|log(batch variance / running variance)|, with eps in both."""
    dead: tuple[int, ...] = ()
    """Channels that are (nearly) constant over the batch: their variance drowns in eps."""
    batches_seen: int | None = None
    cold_start: float | None = None
    """The share of the initial mean 0 in the running statistics, (1 - momentum)^batches_seen; None where they are not
    what that would leave, because they were recalibrated, say."""

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong with it, in sentences, the worst first; empty where nothing is."""
        return tuple(_findings(self))


@dataclass(frozen=True)
class Diagnosis:
    """All normalization layers of a model, in the order of `named_modules`; as a string, a table with findings."""

    layers: tuple[LayerDiagnosis, ...]

    @property
    def healthy(self) -> bool:
        """Whether there is no finding."""
        return not any(layer.findings for layer in self.layers)

    def __str__(self) -> str:
        head = ("layer", "kind", "values", "gap", "mean shift", "log var ratio", "batches")
        rows = [head, *(_row(layer) for layer in self.layers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        found = [f"{_name(layer)}: {finding}" for layer in self.layers for finding in layer.findings]
        return "\n".join([*lines, "", *(found or ["nothing found"])])


def _findings(layer: LayerDiagnosis) -> list[str]:
    found = []
    if layer.not_finite:
        found.append(f"not finite: {', '.join(layer.not_finite)}")
    if not layer.finite_input:
        found.append("its input is not finite")
    if layer.overflows:
        found.append("squares of its input overflow, and where they do nothing of it is left; choose other units")
    if not layer.reached:
        found.append("the batch does not reach it")
    if layer.erases:
        found.append("each of its means is of one value, and its output does not depend on its input; use fewer groups")
    found += _findings_of_statistics(layer)
    if layer.small_scales:
        found.append(f"{len(layer.small_scales)} channels have a scale near 0: {_listed(layer.small_scales)}")
    return found


def _findings_of_statistics(layer: LayerDiagnosis) -> list[str]:
    found = []
    if layer.dead:
        found.append(f"{len(layer.dead)} channels do not vary over the batch: {_listed(layer.dead)}")
    if layer.gap is not None and not math.isfinite(layer.gap) and layer.finite_input and not layer.not_finite:
        found.append("its output is not finite: running variances may be below 0, or too large for its type")
    visible = max((worst.value for worst in (layer.mean_shift, layer.log_variance_ratio) if worst), default=0.0)
    if layer.cold_start is not None and layer.cold_start > COLD_START and visible > VISIBLE:
        found.append(
            f"after {layer.batches_seen} batches, {layer.cold_start:.0%} of its running statistics are initial values: "
            "the momentum is too small for so short a run; enlarge it, or recalibrate"
        )
    elif layer.gap is not None and LARGE_GAP < layer.gap < math.inf:
        found.append(f"training and evaluation outputs differ by {layer.gap:.0%}; recalibrate, or use larger batches")
    if layer.values is not None and layer.values < FEW_VALUES:
        found.append(f"its statistics are of {layer.values} values per channel")
    return found


def _row(layer: LayerDiagnosis) -> tuple[str, ...]:
    shift, ratio = layer.mean_shift, layer.log_variance_ratio
    return (
        _name(layer),
        layer.kind,
        "" if layer.values is None else str(layer.values),
        "" if layer.gap is None else f"{layer.gap:.3f}",
        "" if shift is None else f"{shift.value:.2f} ({shift.channel})",
        "" if ratio is None else f"{ratio.value:.2f} ({ratio.channel})",
        "" if layer.batches_seen is None else str(layer.batches_seen),
    )


def _name(layer: LayerDiagnosis) -> str:
    return layer.name or "(the model)"


def _listed(channels: tuple[int, ...]) -> str:
    shown = ", ".join(str(channel) for channel in channels[:8])
    return shown if len(channels) <= 8 else f"{shown}, ..."
