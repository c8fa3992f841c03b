"""Instance normalization: each channel of each sample by its own mean and variance over positions.

Shapes: N examples, C channels (axis 1), further axes are positions, of which there is more than one.
"""

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import Affine, is_empty, pass_empty
from bncore.norm._batches import check_channels, check_rank
from bncore.norm._dispatch import may_use_native
from bncore.norm._leaf import as_leaf
from bncore.norm._native import are_taken_as_they_are, batch_norm, scale_beside, watched_behind_view
from bncore.norm._rescale import standardize_instances
from bncore.norm._sample_statistics import instances, positions_of
from bncore.norm._torch import cudnn_flag, is_undisturbed


class InstanceNorm(Affine):
    """Standardizes each channel of each sample over its positions, in training and evaluation alike.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (N, C) over all positions, and
    `weight`, `bias` (C,). Input and output: (N, C, ...) with more than one position.

    Difference from `torch.nn.InstanceNorm1d/2d/3d`: one class for every rank, which wants the batch axis; scale and
    shift are learned unless told otherwise; there are no running statistics; the memory format is kept; derivatives of
    every order are right under `torch.func` transforms and forward-mode differentiation. The numbers are the same. A
    single position is refused in training and evaluation alike, as there: normalized by itself, a value is erased.

    arXiv 1607.08022, section 2.

    Args:
        num_features: C.
        eps: added to the variance.
        affine: learn `weight` and `bias`.
        bias: learn `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: from the forward pass, for input without batch axis, with another number of channels or not of
            floating point, and for a single position.
        RuntimeError: as `BatchNorm`, from a backward pass that would give a third derivative.
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
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        if is_undisturbed(x) and x.is_contiguous() and x.numel() > x.shape[0] * x.shape[1]:
            scale, shift = self._scale_and_shift()
            if are_taken_as_they_are(x.dtype, scale, shift):
                y = torch.instance_norm(x, scale, shift, None, None, True, 0.0, self.eps, cudnn_flag())
                if type(y) is Tensor:
                    return watched_behind_view(y)
        check_more_than_one_position(x)
        # Torch's kernel wants this layout, and would copy there and back.
        if may_use_native(x) and x.is_contiguous() and x.numel() > 0:
            return self._as_one_batch(x)
        if is_empty(x):
            return pass_empty(x, self.parameters())
        instance = instances(x)
        scale = (instance.var + self.eps).rsqrt()
        return standardize_instances(x, instance, scale, torch.zeros_like(scale), self.weight, self.bias).to(x.dtype)

    def _as_one_batch(self, x: Tensor) -> Tensor:
        """Each channel of each example as a channel of a batch of one."""
        examples = x.shape[0]
        scale, shift = self._scale_and_shift()
        vectors = (scale_beside(shift, scale), shift)
        weight, bias = (None if vector is None else vector.repeat(examples) for vector in vectors)
        # Not views, which an exported program would ask of every batch, whatever its layout.
        one = x.reshape(1, -1, *x.shape[2:])
        return batch_norm(one, None, None, weight, bias, 0.0, self.eps).reshape(x.shape)


def check_more_than_one_position(x: Tensor) -> None:
    """Raise ValueError for a batch without batch axis, or with a single position per channel."""
    check_rank(x)
    if positions_of(x) == 1:
        raise ValueError(
            f"Expected more than 1 spatial element, got input size {tuple(x.shape)}: "
            "a channel of a sample that is a single value would be erased"
        )
