"""AdaBN: the statistics of the target domain in place of those of the source."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from bncore.adapt.adaptation import Adaptation, Snapshot
from bncore.norm.model.feed import Forward
from bncore.norm.model.found import normalizations
from bncore.norm.model.recalibrate import recalibrate


def adabn(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    where: Callable[[str, nn.Module], bool] | None = None,
    sequential: bool = True,
) -> Adaptation:
    """Give each batch norm layer the mean and variance of its inputs over the whole target set; weights stay.

    `y = weight * (x - mean_target) / sqrt(var_target + eps) + bias`, where the moments of each neuron are over all
    images of the target domain, exactly merged. Layers are measured from front to back, each with adapted layers in
    front of it, as in the model that comes out: neither the order of the images nor their division into batches
    matters. No label is used, and the mode stays: call `model.eval()` for predictions.

    Elsewhere it is often done by forward passes in training mode, whose averages depend on the order of the batches and
    keep some of the source.

    arXiv 1603.04779, algorithm 1.

    Args:
        model: any module with batch norm layers, torch's or ours.
        batches: the target set; see `bncore.norm.recalibrate`. Gone through once for each layer.
        forward: how to run the model on a batch, `forward(model, batch)`.
        where: called with the path and the layer; only layers for which it is true are adapted.
        sequential: False takes a single pass, in which each batch is normalized by its own statistics; then the
            division into batches matters. Recurrent layers with statistics of each step need it: their inputs depend on
            their own statistics.

    Returns:
        The adaptation; `reset()` brings the source's statistics back.

    Raises:
        ValueError: as `recalibrate`; the model is as before then.
    """
    layers = [layer for _, layer in normalizations(model, batch_statistics=True)]
    source = Snapshot(model, [buffer for layer in layers for buffer in layer.buffers()])
    recalibrate(model, batches, forward=forward, where=where, sequential=sequential)
    return _OtherStatistics(source)


class _OtherStatistics(Adaptation):
    def __init__(self, source: Snapshot) -> None:
        self._source = source

    def reset(self) -> None:
        self._source.restore()
