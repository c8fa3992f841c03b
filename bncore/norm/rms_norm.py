"""Root mean square normalization: each sample divided by its own root mean square.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import Affine, is_empty, pass_empty, scale_and_shift
from bncore.norm._batches import check_channels
from bncore.norm._dispatch import may_use_native
from bncore.norm._leaf import as_leaf
from bncore.norm._sample_statistics import mean_square
from bncore.norm._torch import is_undisturbed


class RMSNorm(Affine):
    """Divides each sample by its root mean square, in training and evaluation alike; nothing is subtracted.

    `y = weight * x / sqrt(mean(x^2) + eps)` with the mean (N,) over channels and positions, and `weight` (C,). There is
    no shift: `bias` is None. Input and output: (N, C, ...).

    Difference from `torch.nn.RMSNorm`: the scale is per channel whatever the positions, as in `LayerNorm` here, and eps
    is a number by default. On (N, C) it equals `torch.nn.RMSNorm(C)`.
    The paper has no eps; without one a sample of zeros has no output.

    arXiv 1910.07467, eq. 4.

    Args:
        num_features: C.
        eps: added to the mean square, inside the root; None, torch's default: the machine epsilon of the input's type,
            or of float32 if that is narrower.
        affine: learn `weight`.

    Raises:
        ValueError: from the forward pass, for input without batch axis, with another number of channels or not of
            floating point.
    """

    eps: float | None  # type: ignore[assignment]

    def __init__(
        self,
        num_features: int,
        eps: float | None = 1e-6,
        affine: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps or 0.0, affine, device=device, dtype=dtype, bias=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        channels = self.num_features
        if is_undisturbed(x) and len(shape := x.shape) == 2 and shape[1] == channels:
            kept = self._parameters.get("weight")
            # Others are asked for below: without one, or in another place, or of another type.
            if kept is not None and kept.dtype is x.dtype:
                return torch.rms_norm(x, (channels,), kept, self.eps)
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, channels)
        weight, _ = self._scale_and_shift()
        # Torch's kernel takes input and scale of one type only.
        if x.dim() == 2 and (weight is None or weight.dtype is x.dtype) and may_use_native(x):
            return torch.rms_norm(x, (self.num_features,), weight, self.eps)
        if is_empty(x):
            return pass_empty(x, self.parameters())
        square = mean_square(x).mean(1, keepdim=True)
        scale = (square + (torch.finfo(square.dtype).eps if self.eps is None else self.eps)).rsqrt()
        return (x * scale_and_shift(scale, weight, None)).to(x.dtype)
