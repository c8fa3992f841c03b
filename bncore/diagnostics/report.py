"""What a diagnosis says: numbers for programs, sentences for people."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from bncore.spec.norm.cold_start import COLD_START

LARGE_GAP = 0.2
"""A fifth of the output: more than the noise of the statistics of 32 values."""

VISIBLE = 0.1
"""A tenth of a standard deviation, or of the variance."""

FEW_VALUES = 16
"""With so few values, a batch's standard deviation is off by 18 % (1 / sqrt(2 n)), as a rule."""


CLIPPED = 0.25
"""Of batch renorm; its paper's bounds clip a small share (arXiv 1702.03275, section 4)."""


@dataclass(frozen=True)
class Worst:
    """The largest value among channels, and which one has it."""

    value: float
    channel: int


class Finding(NamedTuple):
    """What is wrong with a layer: a word for programs, a sentence for people."""

    code: str
    sentence: str


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
    channels: int | None = None
    dead: tuple[int, ...] = ()
    """Channels that are (nearly) constant over the batch: their variance drowns in eps."""
    batches_seen: int | None = None
    cold_start: float | None = None
    """The share of the initial mean 0 in the running statistics, (1 - momentum)^batches_seen; None where they are not
    what that would leave, because they were recalibrated, say."""
    updates_wanted: float | None = None
    """Batches after which next to nothing (1 %) is left of them: 5 / momentum; 1 where all batches count equally."""
    clipped_r: float | None = None
    """Of batch renorm, the share of channels whose r is at its bound, which holds now; and d."""
    clipped_d: float | None = None
    is_ramping: bool = False
    """Whether these bounds are still moving."""

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong with it, in sentences, the worst first; empty where nothing is."""
        return tuple(finding.sentence for finding in self.coded)

    @property
    def coded(self) -> tuple[Finding, ...]:
        """The same, each with its word."""
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


def _findings(layer: LayerDiagnosis) -> list[Finding]:
    found = []
    if layer.not_finite:
        found.append(Finding("not_finite", f"not finite: {', '.join(layer.not_finite)}"))
    if not layer.finite_input:
        found.append(Finding("input_not_finite", "its input is not finite"))
    if layer.overflows:
        sentence = "squares of its input overflow, and where they do nothing of it is left; choose other units"
        found.append(Finding("overflow", sentence))
    if not layer.reached:
        found.append(Finding("not_reached", "the batch does not reach it"))
    if layer.erases:
        sentence = "each of its means is of one value, and its output does not depend on its input; use fewer groups"
        found.append(Finding("erases", sentence))
    found += _findings_of_statistics(layer)
    if layer.small_scales:
        sentence = f"{len(layer.small_scales)} channels have a scale near 0: {_listed(layer.small_scales)}"
        found.append(Finding("small_scales", sentence))
    return found


def _findings_of_statistics(layer: LayerDiagnosis) -> list[Finding]:
    found = []
    if layer.dead:
        sentence = f"{len(layer.dead)} channels do not vary over the batch: {_listed(layer.dead)}"
        found.append(Finding("dead", sentence))
    if layer.gap is not None and not math.isfinite(layer.gap) and layer.finite_input and not layer.not_finite:
        sentence = "its output is not finite: running variances may be below 0, or too large for its type"
        found.append(Finding("output_not_finite", sentence))
    visible = max((worst.value for worst in (layer.mean_shift, layer.log_variance_ratio) if worst), default=0.0)
    if layer.cold_start is not None and layer.cold_start > COLD_START and visible > VISIBLE:
        sentence = (
            f"after {layer.batches_seen} batches, {layer.cold_start:.0%} of its running statistics are initial values: "
            "the momentum is too small for so short a run; enlarge it, or recalibrate"
        )
        found.append(Finding("cold_start", sentence))
    elif layer.gap is not None and LARGE_GAP < layer.gap < math.inf:
        sentence = f"training and evaluation outputs differ by {layer.gap:.0%}; recalibrate, or use larger batches"
        found.append(Finding("gap", sentence))
    clipped = [f"{share:.0%} of {what}" for what, share in (("r", layer.clipped_r), ("d", layer.clipped_d)) if share]
    if not layer.is_ramping and max(layer.clipped_r or 0.0, layer.clipped_d or 0.0) > CLIPPED:
        sentence = f"{' and '.join(clipped)} are at their bounds, where it normalizes by the batch alone"
        found.append(Finding("clipped", sentence))
    if layer.values is not None and layer.values < FEW_VALUES:
        found.append(Finding("few_values", f"its statistics are of {layer.values} values per channel"))
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
