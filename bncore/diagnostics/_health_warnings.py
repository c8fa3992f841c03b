"""What is said of normalization layers in training, in words that say what to do: of each layer, and of accuracies."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from bncore.diagnostics.report import LayerDiagnosis

_WORSE = 0.05
"""So much accuracy lost by the running statistics is more than the noise of some hundred test examples."""
_CURES = {
    "not_finite": "lower the learning rate, or clip gradients, and begin again from weights that are finite",
    "input_not_finite": "look at the layers and the data in front of it",
    "not_reached": "leave it out, or use it",
    "dead": "lower the learning rate, or leave them out; inputs that never vary need a larger eps",
    "output_not_finite": "recalibrate the running statistics",
    "clipped": "raise r_max and d_max, or lower the learning rate",
    "few_values": "use larger batches, batch renorm, or a norm that needs no batch",
    "small_scales": "spare scales from weight decay if these are not meant to be off",
}
"""Of findings whose sentence does not say it."""


class HealthWarning(NamedTuple):
    """What is wrong with a layer (or "" for the network), as a word for programs and in words that say what to do."""

    layer: str
    code: str
    words: str


def warnings_of_layers(said: list[LayerDiagnosis], *, at_end: bool) -> list[HealthWarning]:
    """Of what was found of each; running statistics may still be young before training is over, `at_end`."""
    found = []
    for layer in said:
        for finding in layer.coded:
            if finding.code == "cold_start" and not at_end:
                continue
            cure = _CURES.get(finding.code)
            words = finding.sentence if cure is None else f"{finding.sentence}; {cure}"
            found.append(_warning(layer, finding.code, words))
        seen, wanted = layer.batches_seen, layer.updates_wanted
        if at_end and seen is not None and wanted is not None and seen < wanted and layer.cold_start is not None:
            words = (
                f"its running statistics have seen {seen} batches, and their momentum wants {wanted:.0f}: "
                "evaluate with precise statistics, train longer, or enlarge the momentum"
                if wanted < math.inf
                else "its momentum is 0, so that its running statistics stay what they began with: evaluate with "
                "precise statistics, or give it a momentum"
            )
            found.append(_warning(layer, "few_updates", words))
    return found


def _warning(layer: LayerDiagnosis, code: str, words: str) -> HealthWarning:
    return HealthWarning(layer.name, code, f"{layer.name or 'the model'}: {words}")


def warnings_of_accuracy(accuracy: Mapping[str, float], examples: int | None) -> list[HealthWarning]:
    """Of the accuracies (as shares) with `running`, `precise` and `batch` statistics that there are."""
    running, precise, batch = (accuracy.get(name, math.nan) for name in ("running", "precise", "batch"))
    of, found = "" if examples is None else f" of {examples:,} test examples", []

    def warn(code: str, name: str, other: float, cure: str) -> None:
        words = f"accuracy{of} is {running:.1%} with running statistics and {other:.1%} with {name} ones; {cure}"
        found.append(HealthWarning("", code, words))

    if precise - running > _WORSE:
        warn("stale_statistics", "precise", precise, "evaluate with precise statistics, or enlarge the momentum")
    # Where precise ones mend it, the batch is not what is wanted.
    if batch - (running if math.isnan(precise) else max(running, precise)) > _WORSE:
        cure = "use larger or mixed batches, batch renorm, or a norm that needs no batch"
        warn("batch_dependent", "batch", batch, cure)
    return found
