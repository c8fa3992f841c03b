"""Filter response normalization: each channel of each sample by its root mean square, with its thresholded activation.

Shapes: N examples, C channels (axis 1), any further axes are positions.
"""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._affine import Affine, is_empty, pass_empty
from bncore.norm._batches import check_channels
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels
from bncore.norm._rescale import rescale
from bncore.norm._sample_statistics import mean_square


class FilterResponseNorm(Affine):
    """Divides each channel of each sample by its root mean square over positions, then cuts off below a threshold.

    `y = max(weight * x / sqrt(nu^2 + eps) + bias, tau)` with `nu^2` (N, C), the mean of x^2 over positions, and
    `weight`, `bias`, `tau` (C,); the maximum is the paper's thresholded linear unit (TLU), an activation function.
    Training and evaluation are alike. Input and output: (N, C, ...).

    There is nothing like it in torch. With one position, as behind a linear layer, `x / sqrt(x^2 + eps)` is little more
    than the sign of x; there the paper wants `learn_eps`.

    arXiv 1911.09737, section 3.

    Args:
        num_features: C.
        eps: added to the mean square.
        learn_eps: add the absolute value of one more learned number, `learned_eps` (1,), which starts at 1e-4.
        bias: learn `bias`; it is None otherwise.
        threshold: end in `max(y, tau)`, where tau starts at 0; without, there is no `tau`.

    Raises:
        ValueError: from the forward pass, for input without batch axis, with another number of channels or not of
            floating point.
    """

    tau: nn.Parameter | None
    learned_eps: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-6,
        learn_eps: bool = False,
        threshold: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, affine=True, device=device, dtype=dtype, bias=bias)
        for name, size, wanted in (("tau", num_features, threshold), ("learned_eps", 1, learn_eps)):
            vector = nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if wanted else None
            self.register_parameter(name, vector)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, threshold 0, learned part of eps 1e-4."""
        super().reset_parameters()
        if self.tau is not None:
            nn.init.zeros_(self.tau)
        if self.learned_eps is not None:
            nn.init.constant_(self.learned_eps, 1e-4)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        if is_empty(x):
            return pass_empty(x, self.parameters())
        square = mean_square(x) + self.eps
        if self.learned_eps is not None:
            square = square + along_channels(self.learned_eps.abs(), x)
        assert self.weight is not None
        scale = along_channels(self.weight, x) * square.rsqrt()
        if self.tau is None:
            return rescale(x, scale, None if self.bias is None else along_channels(self.bias, x)).to(x.dtype)
        # The paper's other form of max(y, tau); its derivative takes a quarter of the time.
        tau = self.tau.to(torch.promote_types(self.tau.dtype, x.dtype))
        shift = -tau if self.bias is None else self.bias.to(tau.dtype) - tau
        above = rescale(x, scale, along_channels(shift, x)).relu()
        return (above + along_channels(self.tau, x)).to(x.dtype)

    def extra_repr(self) -> str:
        options = {"bias": self.bias, "learn_eps": self.learned_eps, "threshold": self.tau}
        kept = ", ".join(f"{name}={vector is not None}" for name, vector in options.items())
        return f"{self.num_features}, eps={self.eps}, {kept}"
