"""Noise behind a layer, by arXiv 1805.11604, appendix A.2.1, algorithm 1: what its layers share.

Invariant: the noise of a step is a function of the seed, of the steps before it, and of the place in the batch.
"""

import torch
from torch import Tensor, nn

from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._noise import normal, signed_uniform
from bncore.norm._recompute import may_run_again, recall, recomputing, refuse_to_run_again, remember


class Noised(nn.Module):
    """A layer that draws a scale and a shift for each value in training. Subclasses give it what follows."""

    mean_range: float
    std_range: float
    mean_jitter: float
    std_jitter: float
    seed: int

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, mean_range={self.mean_range}, std_range={self.std_range}, "
            f"mean_jitter={self.mean_jitter}, std_jitter={self.std_jitter}, seed={self.seed}"
        )

    def _step(self, x: Tensor, count: Tensor) -> Tensor:
        """`count`, the steps before this one; or those before the one whose forward pass this repeats."""
        if torch.compiler.is_compiling():
            step: Tensor = _opaque_copy(count)
            return step
        if recomputing():
            return recall(self, _mean(x))[0]
        step = count.clone()
        if may_run_again():
            remember(self, _mean(x), step)
        return step

    def _noise(self, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift, per value or, without jitter, per channel."""
        dtype = statistics_dtype(x.dtype)
        channels = (x.shape[1],)
        mean = self.mean_range * signed_uniform(self.seed, step, 0, channels, dtype)
        std = 1.0 + (self.std_range - 1.0) * (0.5 * signed_uniform(self.seed, step, 1, channels, dtype) + 0.5)
        scale, shift = along_channels(std, x), along_channels(mean, x)
        if self.mean_jitter:
            uniform = signed_uniform(self.seed, step, 2, x.shape, dtype)
            shift = torch.add(shift, uniform, alpha=self.mean_jitter)
        if self.std_jitter:
            scale = torch.add(scale, normal(self.seed, step, 3, x.shape, dtype), alpha=self.std_jitter)
        return scale, shift


def check_noise(mean_range: float, std_range: float, mean_jitter: float, std_jitter: float, seed: int) -> None:
    """Raise ValueError for a range below its minimum or a seed outside its bounds."""
    if min(mean_range, mean_jitter, std_jitter) < 0 or std_range < 1:
        raise ValueError("mean_range and the jitters must be at least 0, std_range at least 1")
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed must be from 0 to 2^64 - 1, got {seed}")


def _mean(x: Tensor) -> Tensor:
    return x.detach().mean(channel_axes(x), dtype=statistics_dtype(x.dtype))


def _copy(count: Tensor) -> Tensor:
    refuse_to_run_again()
    return count.clone()


# The compiler's backward pass may draw the noise again instead of keeping it. It has to start from the count before the
# step, and left to see inside it would take the one after.
_opaque_copy = torch.library.custom_op("bncore::noisy_batch_norm_step", _copy, mutates_args=())


@_opaque_copy.register_fake
def _(count: Tensor) -> Tensor:
    return torch.empty_like(count)
