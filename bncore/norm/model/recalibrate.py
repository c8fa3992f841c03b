"""Running statistics measured instead of averaged along the way: of all batches, with the weights that there are now.

Invariant: the buffers of a model change when everything is measured and finite, or not at all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm._moments import Moments
from bncore.norm.model.feed import Forward, evaluating, run
from bncore.norm.model.found import normalizations, path
from bncore.norm.model.observe import Observation, install, observing
from bncore.norm.model.population import Population, population_of


def recalibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    where: Callable[[str, nn.Module], bool] | None = None,
    sequential: bool = False,
) -> nn.Module:
    """Set the running statistics of batch norm layers to the exact ones of their inputs over all `batches`.

    For a model whose statistics are behind its weights: after averaging weights, after training with a small momentum
    or small batches, or with a variant whose training does not look like its evaluation. Weights do not move, dropout
    is off, and what is measured is merged in float64 (Chan, Golub, LeVeque 1979): of the inputs of a layer, the result
    is that of one batch with all of them, whatever the number and sizes of the batches.

    What the inputs of a layer are depends on how the layers in front normalize:

    - As in training (the default; "PreciseBN", arXiv 2105.07576, section 3): each by the statistics of the batch that
      passes, without what a variant adds in training (noise, correction, virtual batches). One pass over the batches.
      The inputs depend on how the data are divided into batches; make them as large as in training. A batch of one
      value per channel is refused as in training, unless no other layer is measured behind: it would be erased.
    - `sequential`: each by its new running statistics, as in evaluation afterwards. Layers are measured one after the
      other in the order in which they run, with one pass over the batches for each. The result does not depend on how
      the data are divided, and a batch norm's output over all of them has exactly mean `bias` and variance `weight^2`
      (but for eps). A `StepBatchNorm` in a recurrence cannot: its input depends on its own statistics at earlier steps.

    Each layer keeps what its own training would: the variance times n / (n - 1), for n values per channel in all; batch
    renorm the biased one, since it is the square of its standard deviation; `LpBatchNorm` and `L1BatchNorm` their norm
    (the latter takes a second pass); `PowerNorm` and `MovingAverageBatchNorm` the mean square; whitening layers their
    matrix; `torch.nn.InstanceNorm*` with running statistics the means of its instances' statistics (unless
    `sequential`, it normalizes each by its own); `DomainBatchNorm` those of the chosen domain; `StepBatchNorm` those of
    each step that had two sequences. A layer that is used several times in a forward pass gets the statistics of all
    its inputs. Layers that no batch reaches, that keep no statistics, or keep them fixed (`FrozenBatchNorm`), stay as
    they are.

    Buffers are written in place. `num_batches_tracked` stays: it says how long a layer has trained, and schedules hang
    on it; only a step that no training had seen counts as seen. Each process measures its own batches.

    Difference from `torch.optim.swa_utils.update_bn`, which averages the batches' unbiased variances with equal weights
    and leaves out how far their means lie apart, and which passes over every layer that is not derived from torch's
    batch norm, without a word: `PowerNorm`, `MovingAverageBatchNorm`, `StepBatchNorm` and so `BatchNormRNN`,
    `BatchNormLSTM` and `BatchNormGRU`, and `torch.nn.InstanceNorm*` with running statistics. Those keep what they had
    or, beside a layer that is renewed, move on from it as in training. Use this function for models with one of them.
    Difference from fvcore's `update_bn_stats`, which subtracts squares (a variance can come out negative) and replaces
    the buffers.

    Args:
        model: any module; changed in place and returned.
        batches: what `forward` takes; without it, inputs, or tuples and lists that begin with them. An iterable that
            can be gone through again, such as a list or a `DataLoader`, where more than one pass is needed.
        forward: how to run the model on a batch, `forward(model, batch)`.
        where: called with the path and the layer; only layers for which it is true are measured.
        sequential: see above.

    Raises:
        ValueError: without any batch, where the batches cannot be gone through again, with the path of a layer that is
            of an unknown class, that was reached and has seen no value (all is padding), that has seen one value per
            channel in all, or in a batch in front of others unless `sequential`, that has seen values that are not
            finite, or that runs several times in a forward pass if `sequential`. Nothing is changed then, nor by an
            error in the model.
    """
    layers = [
        (name, layer)
        for name, layer in normalizations(model, batch_statistics=True)
        if layer.num_batches_tracked is not None and (where is None or where(name, layer))
    ]
    names = {layer: name for name, layer in layers}
    populations = {layer: _population(name, layer) for name, layer in layers}
    passes = max((population.passes for population in populations.values()), default=0)
    if (sequential or passes > 1) and iter(batches) is batches:
        raise ValueError("more than one pass over the batches is needed; give a list of them, or a loader")
    if not layers:
        return model
    with _restored_on_error(list(populations)), evaluating(model):
        stages = [[one] for one in _in_order(model, layers, batches, forward)] if sequential else [layers]
        for stage in stages:
            of_stage = {layer: populations[layer] for _, layer in stage}
            measured = _measured(model, names, of_stage, batches, forward, by_batch=not sequential)
            _keep(
                [(path(name, layer), populations[layer], measured[layer]) for name, layer in stage if layer in measured]
            )
    return model


def _population(name: str, layer: nn.Module) -> Population:
    try:
        return population_of(layer)
    except ValueError as error:
        raise ValueError(f"{path(name, layer)}: {error}") from None


def _in_order(
    model: nn.Module, layers: list[tuple[str, nn.Module]], batches: Iterable[Any], forward: Forward | None
) -> list[tuple[str, nn.Module]]:
    """The layers that the first batch reaches, in the order in which it does."""
    with observing({layer: population_of(layer) for _, layer in layers}, by_batch=False) as observed:
        for batch in batches:
            run(model, batch, forward)
            break
    reached = [layer for layer, _ in observed.order]
    names = {layer: name for name, layer in layers}
    for layer in reached:
        if reached.count(layer) > 1:
            again = path(names[layer], layer)
            raise ValueError(f"{again} runs twice in a forward pass: its second input depends on its own statistics")
    return [(names[layer], layer) for layer in reached]


def _measured(
    model: nn.Module,
    names: Mapping[nn.Module, str],
    populations: Mapping[nn.Module, Population],
    batches: Iterable[Any],
    forward: Forward | None,
    *,
    by_batch: bool,
) -> dict[nn.Module, Moments]:
    for last in reversed(range(max(population.passes for population in populations.values()))):
        seen = 0
        with observing(populations, by_batch=by_batch) as observed:
            for batch in batches:
                run(model, batch, forward)
                seen += 1
                if by_batch:
                    _check_none_erased(observed, names)
        if seen == 0:
            raise ValueError("there are no batches to measure")
        if last == 0:
            break
        for layer, measured in observed.found.items():
            populations[layer].centre = measured.mean
    _check_none_without_values(observed, names)
    return observed.found


def _check_none_without_values(observed: Observation, names: Mapping[nn.Module, str]) -> None:
    """Raise ValueError if a layer was reached by nothing but padding, or by batches without examples."""
    for layer, name in names.items():
        if layer in observed.without_values and layer not in observed.found:
            raise ValueError(
                f"{path(name, layer)} has seen no value: no batch that reaches it has a valid position; look at mask "
                "and lengths"
            )


def _check_none_erased(observed: Observation, names: Mapping[nn.Module, str]) -> None:
    """Raise ValueError if the last batch was one value per channel to a layer whose output others were measured by."""
    layer = observed.erased()
    if layer is not None:
        raise ValueError(
            f"{path(names[layer], layer)} was given a batch of one value per channel, which its own statistics would "
            "erase before the layers behind are measured; use larger batches, drop the last partial one, or measure "
            "with sequential=True"
        )


def _keep(measured: list[tuple[str, Population, Moments]]) -> None:
    """In each layer, what it keeps of all values; whether all is finite is asked once, as the device is waited for."""
    kept = []
    for where, population, found in measured:
        if not population.suffices(found):
            raise ValueError(f"{where} has seen one value per channel, which has no variance; give more batches")
        # In the type of the buffers: a variance may be too large for half precision.
        own = population.layer
        kept.append({name: tensor.to(getattr(own, name).dtype) for name, tensor in population.kept(found).items()})
    for (where, *_), is_finite in zip(measured, _are_finite(kept), strict=True):
        if not is_finite:
            raise ValueError(f"{where} has seen values that are not finite, or too large for their variance")
    for (_, population, _), tensors in zip(measured, kept, strict=True):
        install(population.layer, tensors)


def _are_finite(kept: list[dict[str, Tensor]]) -> list[bool]:
    said = [torch.stack([tensor.isfinite().all() for tensor in tensors.values()]).all() for tensors in kept]
    # Layers of one model may be on several devices.
    found: list[bool] = torch.stack([one.to(said[0].device) for one in said]).tolist() if said else []
    return found


@contextmanager
def _restored_on_error(layers: list[nn.Module]) -> Iterator[None]:
    before = [(buffer, buffer.clone()) for layer in layers for buffer in layer.buffers()]
    try:
        yield
    except BaseException:
        for buffer, value in before:
            buffer.copy_(value)
        raise
