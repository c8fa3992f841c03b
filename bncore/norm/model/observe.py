"""What reaches batch norm layers while a model runs, measured on the way."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm._moments import Moments
from bncore.norm.model.overlay import buffers_replaced
from bncore.norm.model.population import Population, in_double, seen_values


class Observation:
    """What came by so far, of each layer that was reached, and the layers of the batch that is running, in order."""

    def __init__(self) -> None:
        self.found: dict[nn.Module, Moments] = {}
        self.order: list[tuple[nn.Module, int]] = []
        """With how many values per channel a layer normalizes together; 1 is too few."""
        self.without_values: set[nn.Module] = set()
        """Reached by a batch that had nothing to measure, such as one of padding alone."""

    def erased(self) -> nn.Module | None:
        """The first layer that had one value per channel while others were still to come; starts the next batch."""
        order, self.order = self.order, []
        return next((layer for layer, values in order[:-1] if values == 1), None)


@contextmanager
def observing(populations: Mapping[nn.Module, Population], *, by_batch: bool) -> Iterator[Observation]:
    """Within it, layers are measured in float64 as they run, and all their inputs merged.

    With `by_batch`, a layer in evaluation mode normalizes each input with statistics of that input, which are left in
    its buffers. One value per channel would be erased by its own: there the layer keeps those that it has, and what
    is measured behind it is neither of training nor of evaluation.
    """
    seen = Observation()

    def observe(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        values = seen_values(layer, args, kwargs).detach()
        if values.numel() == 0:
            seen.without_values.add(layer)
            return
        population, found = populations[layer], seen.found
        wide = in_double(values)
        one = population.measure(wide)
        found[layer] = population.merge(found[layer], one) if layer in found else one
        seen.order.append((layer, population.together(wide)))
        if by_batch and one.count > 1 and not population.by_itself:
            alone = one if population.centre is None else population.measure_alone(wide)
            install(layer, population.shown(alone))

    with ExitStack() as until:
        for layer, population in populations.items():
            watching = population.watching(seen.found, seen.order, by_batch=by_batch)
            if watching is not None:
                until.enter_context(watching)
                continue
            until.callback(layer.register_forward_pre_hook(observe, with_kwargs=True).remove)
            if by_batch and population.by_itself:
                until.enter_context(_without_averages(layer))
        yield seen


@contextmanager
def _without_averages(layer: Any) -> Iterator[None]:
    """Within it, a layer that averages what single examples have normalizes each example by itself, as in training."""
    tracks = layer.track_running_stats
    with buffers_replaced(layer, {"running_mean": None, "running_var": None}):
        layer.track_running_stats = False
        try:
            yield
        finally:
            layer.track_running_stats = tracks


def install(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Write `tensors` into the buffers of a layer, in place."""
    with torch.no_grad():
        for name, tensor in tensors.items():
            # As an attribute: of a layer for several domains, that is the part of the buffer that counts.
            getattr(layer, name).copy_(tensor)
