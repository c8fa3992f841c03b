"""Layer normalization over all channels and positions of a sample.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import Affine
from bncore.norm._batches import check_channels
from bncore.norm._dispatch import may_use_native
from bncore.norm._leaf import as_leaf
from bncore.norm._native import right_to_second_order, scale_beside, watched
from bncore.norm._torch import is_undisturbed
from bncore.norm.group_norm import check_more_than_one_value_per_group, of_one_type, standardize_groups


class LayerNorm(Affine):
    """Standardizes each sample by its own mean and variance, in training and evaluation alike.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (N,) over all axes but the first,
    and `weight`, `bias` (C,). Input and output: (N, C, ...).

    Difference from `torch.nn.LayerNorm`: scale and shift are per channel whatever the positions, so that an image and a
    vector carry the same parameters. On (N, C) it equals `torch.nn.LayerNorm(C)`, on images `torch.nn.GroupNorm(1, C)`.
    Half-precision input goes with single-precision parameters on every device, the memory format is kept, and
    derivatives of every order are right under `torch.func` transforms and forward-mode differentiation. A sample that
    is a single value, which would be erased, is refused. Of channels_last images, large means are taken off as in
    `GroupNorm`.

    arXiv 1607.06450, eq. 3.

    Args:
        num_features: C.
        eps: added to the variance.
        affine: learn `weight` and `bias`.
        bias: learn `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: from the forward pass, for input without batch axis, with another number of channels or not of
            floating point, and for one value per sample.
        RuntimeError: for vectors as `BatchNorm`, from a backward pass that would give a third derivative.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, affine, device=device, dtype=dtype, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.num_features
        if is_undisturbed(x) and x.dim() == 2 and x.shape[1] == channels > 1:
            parameters, dtype = self._parameters, x.dtype
            scale, shift = parameters.get("weight"), parameters.get("bias")
            # Others are asked for below: without any, or in other places, or of other types.
            if scale is not None and scale.dtype is dtype and shift is not None and shift.dtype is dtype:
                return watched(torch.layer_norm(x, (channels,), scale, shift, self.eps))
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, channels)
        if channels == 1:
            check_more_than_one_value_per_group(x, 1)
        weight, bias = self._scale_and_shift()
        if x.dim() == 2 and may_use_native(x):
            shape, dtype = (channels,), x.dtype
            wide, weight, bias = of_one_type(x, scale_beside(bias, weight), bias)
            return right_to_second_order(torch.layer_norm(wide, shape, weight, bias, self.eps)).to(dtype)
        return standardize_groups(x, 1, weight, bias, self.eps)
