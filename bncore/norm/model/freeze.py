"""Batch statistics that stay as they are while the rest of a model trains.

Invariant: a frozen layer evaluates whatever mode it is told, and knows what it was told, and what else it was, for
`unfreeze`. All of that is in the layer: it survives deep copies and pickling.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._snapshot import as_of_now
from bncore.norm._torch import AnyBatchNorm
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.model.found import check_not_lazy, normalizations, path
from bncore.norm.model.overlay import Temporary, buffers_replaced, lay_over, take_off


def freeze(
    model: nn.Module, *, affine: bool = True, where: Callable[[str, nn.Module], bool] | None = None
) -> nn.Module:
    """Make the layers of `model` with running statistics evaluate, in `model.train()` as well.

    They normalize with their running statistics, which move no more; with `affine`, their parameters do not require
    gradients either and have none, so that an optimizer that holds them moves them no more. The layers stay the same
    objects with the same keys, and `isinstance` still holds. `recalibrate` and `bncore.adapt`, whose business running
    statistics are, still set them. In front of `DistributedDataParallel`, freeze first: it counts on the gradients that
    it was made with. Freezing a frozen layer adds what was not frozen yet. torch's batch norms and ours, and its
    instance norms with running statistics; `FrozenBatchNorm` and layers that look at single samples have nothing to
    freeze.

    Args:
        model: any module; it is changed in place and returned.
        affine: freeze the parameters of the layers too.
        where: called with the path and the layer; only layers for which it is true are frozen.

    Raises:
        ValueError: with the path of a layer that keeps no running statistics: its evaluation needs the batch; or that
            is lazy and has not run yet. Nothing is changed then.
    """
    layers: list[tuple[str, Any]] = [
        (name, layer)
        for name, layer in normalizations(model, batch_statistics=True)
        if where is None or where(name, layer)
    ]
    for name, layer in layers:
        check_not_lazy(path(name, layer), layer)
        if layer.num_batches_tracked is None:
            raise ValueError(f"{path(name, layer)} keeps no running statistics, and cannot be frozen")
    for _, layer in layers:
        if not isinstance(layer, _Frozen):
            lay_over(layer, _FrozenOfTorch if _is_of_torch(layer) else _Frozen)
            layer._required_grad = {}
            layer.train(layer.training)
    if affine:
        # All flags are read before any is changed: layers may share a parameter.
        for _, layer in layers:
            flags = {name: parameter.requires_grad for name, parameter in layer.named_parameters()}
            layer._required_grad = flags | layer._required_grad
        for parameter in {parameter for _, layer in layers for parameter in layer.parameters()}:
            # Zeroed and not dropped, a gradient would have an optimizer go on by its momentum and weight decay.
            parameter.requires_grad_(False).grad = None
    return model


def unfreeze(model: nn.Module) -> nn.Module:
    """Undo `freeze`: each layer is in the mode that it was last told, and requires the gradients that it did before.

    Where nothing told it a mode since, that is the mode from before as well. The model is changed in place and
    returned; one with nothing frozen stays as it is.
    """
    layers = [module for module in model.modules() if isinstance(module, _Frozen)]
    required = {
        parameter
        for layer in layers
        for name, parameter in layer.named_parameters()
        if layer._required_grad.get(name, parameter.requires_grad)
    }
    for layer in layers:
        for name, parameter in layer.named_parameters():
            if name in layer._required_grad:
                parameter.requires_grad_(parameter in required)
        told = layer._told
        take_off(layer, _FrozenOfTorch if isinstance(layer, _FrozenOfTorch) else _Frozen)
        del layer._told, layer._required_grad
        layer.train(told)
    return model


class _Frozen(Temporary):
    _told: bool
    _required_grad: dict[str, bool]

    def train(self, mode: bool = True) -> Any:
        self._told = mode
        return super().train(False)


class _FrozenOfTorch(_Frozen):
    """Evaluates with copies of the statistics where there may be a backward pass, as our own layers do."""

    running_mean: Tensor
    running_var: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plain = torch.compiler.is_compiling() or isinstance(next(iter(args), None), Proxy)
        if plain or not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        mean, var = as_of_now(self.running_mean, self.running_var)
        with buffers_replaced(self, {"running_mean": mean, "running_var": var}):
            return super().forward(*args, **kwargs)


def _is_of_torch(layer: nn.Module) -> bool:
    return isinstance(layer, AnyBatchNorm) and not isinstance(layer, BatchNorm)
