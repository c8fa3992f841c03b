"""Batch renormalization: batch normalization corrected towards the running statistics, within bounds.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from bncore.norm._affine import scale_and_shift
from bncore.norm._dispatch import being_transformed, blend
from bncore.norm._moments import along_channels, channel_axes, moments, statistics_dtype
from bncore.norm._native import takes
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._recompute import recall, recomputing, refuse_to_run_again, remember
from bncore.norm._torch import batch_norm_backward
from bncore.norm.batch_norm import BatchNorm


@dataclass(frozen=True)
class Ramp:
    """A bound that moves linearly from `start` to `end` between two counts of batches and is constant outside them."""

    start: float
    end: float
    start_step: int
    end_step: int

    def at(self, batches: Tensor) -> Tensor:
        """Its value after `batches` batches, on their device: reading the number back would stall a GPU every step."""
        slope = (self.end - self.start) / (self.end_step - self.start_step)
        low, high = sorted((self.start, self.end))
        return torch.clamp(batches * slope + (self.start - slope * self.start_step), low, high)


class BatchRenorm(BatchNorm):
    """Batch normalization whose training output agrees with its evaluation output while r and d are within bounds.

    Training: `y = weight * ((x - mean) / sigma_batch * r + d) + bias` with, per channel (C,),
    `sigma_batch = sqrt(var + eps)`, `r = clip(sigma_batch / sigma, 1 / r_max, r_max)`,
    `d = clip((mean - running_mean) / sigma, -d_max, d_max)`; no gradient flows through r and d, and both use the
    running statistics from before the step. Then `running_mean += momentum * (mean - running_mean)` and
    `sigma += momentum * (sigma_batch - sigma)`. Evaluation is plain batch normalization. Input and output:
    (N, C, ...).

    Difference from `torch.nn.BatchNorm*`: the correction, and the running quantity: the standard deviation is averaged,
    as in the paper, and kept under torch's key as `running_var = sigma^2 - eps`, without the unbiasing factor. Keys are
    those of `torch.nn.BatchNorm*`, so a trained layer loads into one. `convert_sync_batchnorm` would take this class
    for a plain batch norm. It can be compiled, and it can be checkpointed, but not both at once.

    arXiv 1702.03275, algorithm 1; the bounds' schedule is section 4 of it.

    Args:
        num_features: C.
        eps: added to the variance of the batch; part of both standard deviations.
        momentum: weight of the newest batch; 0.01 is the paper's value. None averages all batches equally.
        r_max: bound of r, at least 1; a number, or a `Ramp` over the count of batches seen.
        d_max: bound of d, at least 0; likewise.
        warmup_steps: a bound given as a number rises linearly from plain batch norm (1 or 0) over so many batches; at 0
            it holds from the start. A `Ramp` ignores it.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: for bounds that bound nothing; from the forward pass as `BatchNorm`, and in training where running
            statistics were taken away.
        RuntimeError: from the backward pass, compiled and under activation checkpointing.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.01,
        r_max: float | Ramp = 3.0,
        d_max: float | Ramp = 5.0,
        warmup_steps: int = 1000,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.r_max = _bound("r_max", r_max, 1.0, warmup_steps)
        self.d_max = _bound("d_max", d_max, 0.0, warmup_steps)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        if self.running_mean is None:
            raise ValueError("batch renorm corrects towards running statistics, and this layer has none; use BatchNorm")
        # Not `may_use_native`: compiled, an autograd.Function would give wrong gradients (see `_opaque_correction`).
        native = takes(x, self.running_mean, self.running_var, self.weight, self.bias)
        if not native or torch.compiler.is_compiling() or being_transformed(x):
            return self._renormalize_primitive(x)
        return self._renormalize_native(x)

    def _renormalize_native(self, x: Tensor) -> Tensor:
        """Reads x twice and writes y once, like plain batch norm: r and d fold into scale and shift."""
        assert self.running_mean is not None
        with torch.no_grad():
            # The kernel also averages variances, which is not what is kept here: it gets buffers to throw away.
            # The statistics are measured in its type, which may be wider than that of the layer.
            scratch = torch.empty_like(self.running_mean, dtype=statistics_dtype(x.dtype))
            mean, var = torch.batch_norm_update_stats(x, scratch, scratch, 0.0)
            sigma_batch = (var + self.eps).sqrt_()
            r, d = self._correct_and_average(mean, sigma_batch)
        remember(self, mean, r, d)
        y: Tensor = apply(_Renormalize, x, self.weight, self.bias, r, d, mean, var, sigma_batch.reciprocal_(), self.eps)
        return y

    def _renormalize_primitive(self, x: Tensor) -> Tensor:
        mean, sigma_batch = _statistics(x, self.eps)
        with torch.no_grad():
            r, d = self._correct_and_average(mean.detach(), sigma_batch.detach())
        remember(self, mean, r, d)
        return _correct(x, mean, sigma_batch, r, d, self.weight, self.bias)

    def _correct_and_average(self, mean: Tensor, sigma_batch: Tensor) -> tuple[Tensor, Tensor]:
        """r and d from the running statistics as they were, which then take in this batch. Without gradients."""
        if recomputing():
            r, d = recall(self, mean)
            return r, d
        running_mean, running_var = self.running_mean, self.running_var
        assert running_mean is not None
        assert running_var is not None
        sigma = (running_var.to(sigma_batch.dtype) + self.eps).sqrt_()
        correct = _opaque_correction if torch.compiler.is_compiling() else _correction
        r, d = correct(mean, sigma_batch, running_mean, sigma, *self._bounds(mean))
        if self._updates():
            newest = self._count(mean, sigma_batch)
            blend(running_mean, self._guarded(mean, running_mean), newest)
            blend(sigma, self._guarded(sigma_batch, sigma), newest)
            # Not `square_`: vmap has no rule for it.
            running_var.copy_((sigma.square() - self.eps).clamp_min(0.0))
        return r, d

    def _bounds(self, like: Tensor) -> tuple[Any, Any]:
        """r_max and d_max as of now: numbers where they are constant, which spares small operations."""
        r_max, d_max = self.r_max, self.d_max
        if torch.compiler.is_compiling() or isinstance(r_max, Ramp) or isinstance(d_max, Ramp):
            assert self.num_batches_tracked is not None
            # Single precision could not tell late steps of a long run apart.
            batches = self.num_batches_tracked.to(torch.float64)
            return _value(r_max, batches).to(like.dtype), _value(d_max, batches).to(like.dtype)
        return r_max, d_max


def _correction(
    mean: Tensor, sigma_batch: Tensor, running_mean: Tensor, sigma: Tensor, r_max: Tensor | float, d_max: Tensor | float
) -> tuple[Tensor, Tensor]:
    r = torch.clamp(sigma_batch / sigma, 1.0 / r_max, r_max)  # type: ignore[arg-type]
    d = torch.clamp((mean - running_mean) / sigma, -d_max, d_max)  # type: ignore[arg-type]
    return r, d


# Left to see inside, the compiler's backward pass recomputes r and d from buffers that the forward pass has updated by
# then, and gives wrong gradients without a word. It saves what comes out of an operator it cannot see into.
@torch.library.custom_op("bncore::batch_renorm_correction", mutates_args=())
def _opaque_correction(
    mean: Tensor, sigma_batch: Tensor, running_mean: Tensor, sigma: Tensor, r_max: Tensor, d_max: Tensor
) -> tuple[Tensor, Tensor]:
    refuse_to_run_again()
    return _correction(mean, sigma_batch, running_mean, sigma, r_max, d_max)


@_opaque_correction.register_fake
def _(mean: Tensor, sigma_batch: Tensor, *_rest: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(sigma_batch), torch.empty_like(mean)


def _statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Mean (C,) and sigma_batch (C,), in primitive operations."""
    batch = moments(x, channel_axes(x))
    return batch.mean.flatten(), (batch.var.flatten() + eps).sqrt()


def _correct(
    x: Tensor, mean: Tensor, sigma_batch: Tensor, r: Tensor, d: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """`weight * ((x - mean) / sigma_batch * r + d) + bias`, in primitive operations."""
    standardized = (x.to(mean.dtype) - along_channels(mean, x)) / along_channels(sigma_batch, x)
    y = standardized * along_channels(r, x) + along_channels(d, x)
    return scale_and_shift(y, weight, bias).to(x.dtype)


def _folded(r: Tensor, d: Tensor, weight: Tensor | None, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """What `weight` and `bias` become with r and d in them."""
    if weight is None:
        return r, d if bias is None else bias + d
    return weight * r, weight * d if bias is None else torch.addcmul(bias, weight, d)


class _Renormalize(torch.autograd.Function):
    """`_correct`, differentiated through mean and sigma_batch as functions of x.

    They are handed in because they are known already. The gradient is plain batch norm's with r folded into the scale.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        r: Tensor,
        d: Tensor,
        mean: Tensor,
        var: Tensor,
        inverse_sigma: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, r, d, mean, inverse_sigma)
        ctx.eps = eps
        scale, shift = _folded(r, d, weight, bias)
        return torch.native_batch_norm(x, scale, shift, mean, var, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, r, d, mean, inverse_sigma = ctx.saved_tensors
        nothing = (None,) * 6
        if torch.is_grad_enabled():

            def compute(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                return _correct(x, *_statistics(x, ctx.eps), r, d, weight, bias)

            inputs = differentiable_gradients(compute, (x, weight, bias), ctx.needs_input_grad[:3], grads[0])
            return (*inputs, *nothing)
        scale = r if weight is None else weight * r
        into_x, into_weight, into_bias = ctx.needs_input_grad[:3]
        wanted = [into_x, into_weight, into_weight or into_bias]
        by_x, by_scale, by_shift = batch_norm_backward(
            grads[0], x, scale, None, None, mean, inverse_sigma, True, ctx.eps, wanted
        )
        by_weight = torch.addcmul(by_scale * r, by_shift, d) if into_weight else None
        return (by_x, by_weight, by_shift if into_bias else None, *nothing)


def _bound(name: str, value: float | Ramp, plain: float, warmup_steps: int) -> float | Ramp:
    """`plain` is the bound with which batch renorm is plain batch norm."""
    if not isinstance(value, Ramp):
        if not isinstance(value, Real):
            raise ValueError(f"{name} must be a number or a Ramp, got {value!r}")
        if warmup_steps <= 0:
            _check_bound(name, value, plain)
            return value
        value = Ramp(plain, value, 0, warmup_steps)
    for end in (value.start, value.end):
        _check_bound(name, end, plain)
        if math.isinf(end):
            raise ValueError(f"{name} must be finite to be approached step by step; with warmup_steps=0 it may be inf")
    if value.end_step <= value.start_step:
        raise ValueError(f"the ramp of {name} must end after it starts, got {value}")
    return value


def _check_bound(name: str, bound: float, plain: float) -> None:
    # NaN is not at least anything.
    if not bound >= plain:
        raise ValueError(f"{name} must be at least {plain}, got {bound}")


def _value(bound: float | Ramp, batches: Tensor) -> Tensor:
    return bound.at(batches) if isinstance(bound, Ramp) else torch.full_like(batches, bound)
