"""Noise without normalization: what noisy batch normalization adds, on a network that normalizes nothing.

Shapes: N examples, C channels (axis 1), any further axes are positions.

Invariant: the noise of a step is a function of the seed and of `steps_seen` as it was before the step.
"""

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import Affine
from bncore.norm._batches import check_channels
from bncore.norm._leaf import as_leaf
from bncore.norm._noised import Noised, check_noise
from bncore.norm._recompute import recomputing


class Noise(Noised, Affine):
    """Noise whose distribution changes with every step of training, and the identity in evaluation.

    Training: `y = s * x + m`. In each step every channel j draws `mean_j ~ U(-mean_range, mean_range)` and
    `std_j ~ U(1, std_range)`; then every value i of the channel, which is an example at a position, draws
    `m_ij ~ U(mean_j - mean_jitter, mean_j + mean_jitter)` and `s_ij ~ N(std_j, std_jitter)`, the second argument of N
    being a standard deviation. No gradient flows into the noise, and nothing is learned. Input and output: (N, C, ...).

    Where a `NoisyBatchNorm` has the same seed and has seen as many steps, both draw the same numbers. The noise depends
    on `seed`, on the step, which is `steps_seen` before it, and on the place in the batch; not on torch's generator,
    device, layout or precision. A run that resumes from a state draws what it would have drawn. Layers with equal seed
    draw equal numbers, and so do processes that share a run: give each its own. An empty batch is no step.

    There is nothing like it in torch. It can be compiled, and it can be checkpointed, but not both at once.

    arXiv 1805.11604, section 2.1: the control of its experiment with noisy batch norm. The distributions are those of
    appendix A.2.1, algorithm 1, in which shifts are in units of a normalized activation; here they are absolute.

    Args:
        num_features: C.
        mean_range: n_mu of the paper.
        std_range: n_sigma, at least 1.
        mean_jitter: r_mu.
        std_jitter: r_sigma.
        seed: from 0 to 2^64 - 1.

    Raises:
        ValueError: for a range below its minimum or a seed outside its bounds; from the forward pass, for input without
            batch axis, with another number of channels or not of floating point.
    """

    steps_seen: Tensor

    def __init__(
        self,
        num_features: int,
        mean_range: float = 0.5,
        std_range: float = 1.25,
        mean_jitter: float = 0.1,
        std_jitter: float = 0.1,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_noise(mean_range, std_range, mean_jitter, std_jitter, seed)
        super().__init__(num_features, 0.0, affine=False, device=device, dtype=dtype)
        self.mean_range = mean_range
        self.std_range = std_range
        self.mean_jitter = mean_jitter
        self.std_jitter = std_jitter
        self.seed = seed
        self.register_buffer("steps_seen", torch.zeros((), dtype=torch.int64, device=device))

    def reset_parameters(self) -> None:
        """No step seen."""
        self.steps_seen.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        if not self.training or x.numel() == 0:
            return x
        scale, shift = self._noise(x, self._step(x, self.steps_seen))
        if not recomputing():
            self.steps_seen.add_(1)
        return (x * scale + shift).to(x.dtype)
