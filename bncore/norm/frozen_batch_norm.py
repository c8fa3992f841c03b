"""Batch normalization whose statistics, scale and shift never change.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._batches import check_channels
from bncore.norm._dispatch import may_use_native
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels, statistics_dtype
from bncore.norm._native import evaluate_batch_norm, takes
from bncore.norm._torch import is_tracing, is_undisturbed

_VECTORS = ("running_mean", "running_var", "weight", "bias")


class FrozenBatchNorm(nn.Module):
    """The evaluation output of a batch norm, in training and evaluation alike.

    `y = k * x + c` with `k = weight / sqrt(running_var + eps)` and `c = bias - k * running_mean`, all (C,). The fold is
    computed in float32 at least, and `y` has the type of `x`. Input and output: (N, C, ...); an empty batch and one
    value per channel are as good as any.

    Difference from `torch.nn.BatchNorm*`: `weight`, `bias` and the statistics are buffers under the same keys, so that
    no optimizer moves them and state loads strictly in both directions; the backward pass keeps no copy of `x`.
    Difference from the layer of this name elsewhere: a new one is the identity but for eps, with mean 0 and variance 1
    rather than 1 - eps; `num_batches_tracked` is kept, and may be missing from what is loaded.

    arXiv 1502.03167, algorithm 2, lines 8 to 11.

    Args:
        num_features: C.
        eps: added to the variance, inside the root.
        affine: scale by `weight`, shift by `bias`; they are None otherwise, as in a `torch.nn.BatchNorm*` without them.
        bias: shift by `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: from the forward pass, for input without batch axis or with another number of channels.
    """

    _version = 2
    """The version from which torch expects `num_batches_tracked`."""
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        affine: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        has = {"weight": affine, "bias": affine and bias, "running_mean": True, "running_var": True}
        for name, there in has.items():
            self.register_buffer(name, torch.empty(num_features, device=device, dtype=dtype) if there else None)
        self.register_buffer("num_batches_tracked", torch.empty((), device=device, dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Mean 0, variance 1, scale 1, shift 0, no batch seen."""
        for ones in (self.weight, self.running_var):
            if ones is not None:
                nn.init.ones_(ones)
        for zeros in (self.bias, self.running_mean):
            if zeros is not None:
                nn.init.zeros_(zeros)
        self.num_batches_tracked.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        plain = is_undisturbed(x)
        # A graph that is kept for later must not depend on whether anybody wanted gradients while it was made.
        kept = not plain and (torch.compiler.is_exporting() or is_tracing())
        wants_gradient = torch.is_grad_enabled() and x.requires_grad and not kept
        mean, var, weight, bias = self._vectors()
        if not wants_gradient and (plain or may_use_native(x)):
            return evaluate_batch_norm(x, mean, var, weight, bias, self.eps)
        # The kernel would keep x for the gradients of scale and shift, which nobody wants here.
        if plain and x.dtype is mean.dtype is torch.float32 and takes(x, var, weight, bias):
            return _rescale(x, mean, var, weight, bias, self.eps)
        dtype = torch.promote_types(statistics_dtype(x.dtype), statistics_dtype(var.dtype))
        scale, shift = (None if vector is None else vector.to(dtype) for vector in (weight, bias))
        return _rescale(x.to(dtype), mean.to(dtype), var.to(dtype), scale, shift, self.eps).to(x.dtype)

    def _vectors(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """Mean, variance, scale and shift, each (C,), from where a module keeps them."""
        buffers = self._buffers
        try:
            mean, var, weight, bias = (buffers[name] for name in _VECTORS)
        except KeyError:
            # Parametrized, or a plain tensor in the place.
            return self.running_mean, self.running_var, self.weight, self.bias
        assert mean is not None
        assert var is not None
        return mean, var, weight, bias

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, weight={self.weight is not None}, bias={self.bias is not None}"

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        # The number of batches does not enter the output, and old files lack it.
        count = prefix + "num_batches_tracked"
        if count in missing_keys:
            missing_keys.remove(count)
        if count not in state_dict and self.num_batches_tracked.is_meta:
            # Made on the meta device and loaded by assignment, it has to be where the rest is.
            self.num_batches_tracked = torch.zeros((), dtype=torch.long, device=self.running_mean.device)


def _rescale(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """`k * x + c` of tensors of one type."""
    k = (var + eps).rsqrt()
    k = k if weight is None else weight * k
    shift = mean * -k
    c = shift if bias is None else bias + shift
    if x.dim() == 2:
        return torch.addcmul(c, x, k)
    return torch.addcmul(along_channels(c, x), x, along_channels(k, x))
