"""Batch normalization whose output is noised anew each step: covariate shift made on purpose.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.

Invariant: the noise of a step is a function of the seed and of `num_batches_tracked` as it was before the step.
"""

import torch
from torch import Tensor

from bncore.norm._noised import Noised, check_noise
from bncore.norm.batch_norm import BatchNorm


class NoisyBatchNorm(Noised, BatchNorm):
    """Batch normalization followed, in training, by noise whose distribution changes with every step.

    Training: `y = s * BatchNorm(x) + m`, where BatchNorm includes `weight` and `bias`. In each step every channel j
    draws `mean_j ~ U(-mean_range, mean_range)` and `std_j ~ U(1, std_range)`; then every value i of the channel, which
    is an example at a position, draws `m_ij ~ U(mean_j - mean_jitter, mean_j + mean_jitter)` and
    `s_ij ~ N(std_j, std_jitter)`, the second argument of N being a standard deviation. No gradient flows into the
    noise. The running statistics are those of x, and evaluation is plain batch norm. Input and output: (N, C, ...).

    The noise depends on `seed`, on the step, which is `num_batches_tracked` before it, and on the place in the batch;
    not on torch's generator, device, layout or precision. A run that resumes from a state draws what it would have
    drawn. Layers with equal seed draw equal numbers, and so do processes that share a run: give each its own.

    Difference from `torch.nn.BatchNorm*`: the noise; with `mean_range=0, std_range=1` and both jitters 0 it is the
    same. Keys are the same. The defaults are the values that the paper uses in all of its experiments. It can be
    compiled, and it can be checkpointed, but not both at once.

    arXiv 1805.11604, appendix A.2.1, algorithm 1.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        mean_range: n_mu of the paper.
        std_range: n_sigma, at least 1.
        mean_jitter: r_mu.
        std_jitter: r_sigma.
        seed: from 0 to 2^64 - 1.

    Raises:
        ValueError: for a range below its minimum or a seed outside its bounds; from the forward pass as `BatchNorm`,
            and where running statistics were taken away.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        mean_range: float = 0.5,
        std_range: float = 1.25,
        mean_jitter: float = 0.1,
        std_jitter: float = 0.1,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        check_noise(mean_range, std_range, mean_jitter, std_jitter, seed)
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.mean_range = mean_range
        self.std_range = std_range
        self.mean_jitter = mean_jitter
        self.std_jitter = std_jitter
        self.seed = seed

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        if self.running_mean is None:
            raise ValueError("the noise is drawn by the count of batches, and this layer counts none; use BatchNorm")
        assert self.num_batches_tracked is not None
        scale, shift = self._noise(x, self._step(x, self.num_batches_tracked))
        return (super()._normalize_with_batch(x) * scale + shift).to(x.dtype)
