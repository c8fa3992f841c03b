"""Batch normalization over the valid positions of padded sequences and images.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples where they are valid.
Invariant: what stands in the padding, be it NaN or infinite, reaches no output, statistic or gradient. It is replaced,
never multiplied by 0.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._affine import scale_and_shift
from bncore.norm._batches import check_channels, check_more_than_one_value
from bncore.norm._dispatch import being_transformed, blend, can_be_asked
from bncore.norm._leaf import as_leaf
from bncore.norm._masked_kernels import masked_gradients, masked_moments, masked_standardize, words_of
from bncore.norm._masked_rows import lies_in_rows, normalize_rows
from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients
from bncore.norm._recompute import may_run_again, recomputing, told_at_first
from bncore.norm._torch import is_tracing
from bncore.norm._valid import TakesValid, Valid
from bncore.norm.batch_norm import BatchNorm, standardize

_ALL = Valid()


class MaskedBatchNorm(BatchNorm, TakesValid, at_once=True):
    """Batch normalization in which padding does not count.

    `y = weight * (x - mean) / sqrt(var + eps) + bias` at valid positions and 0 at all others. In training, mean and
    biased variance (C,) are those of the n valid values per channel, and the running statistics take in the mean and
    the variance times n / (n - 1); in evaluation the running statistics are used. Input and output: (N, C, ...).

    Difference from `torch.nn.BatchNorm*`: the mask. Without one, or with one that is true everywhere, the layer is
    plain batch norm. With one, the output equals batch norm of the packed rows,
    `pack_padded_sequence(...).data`; the gradient of the padding is 0, and its content does not matter, NaN included.
    The number of valid positions is not read back from the device, so none of these is an error: a batch of padding
    alone is not counted and moves no average; a single valid position has variance 0, so that its output is `bias`,
    and moves the running mean but not the running variance; with `momentum=None`, where both go by one count, it is not
    counted and moves neither.

    Inside a model, whose modules pass on no masks, say it once for all layers:
    `with valid_positions(model, mask=~padding): y = model(x)`.

    arXiv 1502.03167, algorithms 1 and 2, over the valid positions.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        track_running_stats: keep running statistics; without them, evaluation uses the batch as well.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: from the forward pass as `BatchNorm`, and for a mask or lengths that do not fit the input.
        RuntimeError: from `torch.export` within `valid_positions`, and from activation checkpointing whose backward
            pass is not within it.
    """

    _was_told = False
    """Whether `valid_positions` ever said something of the batch."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, nan_guard, device, dtype, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        """Normalize `x`, of which the positions with a true `mask`, or the first `lengths` of each example, are valid.

        Args:
            x: (N, C, ...).
            mask: bool (N, ...), the shape of `x` without its channel axis.
            lengths: int (N,) for `x` (N, C, L), instead of a mask.

        With neither, the positions are valid that `valid_positions` has handed to the layer, or else all of them.
        """
        plain = mask is None and lengths is None and self._handed is None and not self._was_told
        if plain and (y := self._train_at_once(x)) is not None:
            return y
        if isinstance(x, Proxy):
            return as_leaf(self, x, mask, lengths)
        if plain:
            return super().forward(x)
        check_channels(x, self.num_features)
        mask = self.mask_of(x, mask, lengths)
        if mask is None:
            return super().forward(x)
        if not self.training and self.running_mean is not None:
            return _keep(mask, self._normalize_with_running(_keep(mask, x)))
        if x.numel() == 0:
            return _keep(mask, scale_and_shift(x, self.weight, self.bias).to(x.dtype))
        check_more_than_one_value(x)
        return self._normalize_valid(x, mask)

    def mask_of(self, x: Tensor, mask: Tensor | None, lengths: Tensor | None) -> Tensor | None:
        """What these arguments of the forward pass mean: the mask of `x`, or None where all positions are valid."""
        valid = self._valid(x, 1, mask, lengths)
        return None if valid is _ALL else valid.of(x, (x.shape[0], *x.shape[2:]))

    def _valid(self, x: Tensor, axis: int, mask: Tensor | None, lengths: Tensor | None) -> Valid:
        """What is said of `x`, whose channels are on `axis`, here or by `valid_positions`."""
        if mask is not None or lengths is not None:
            return Valid(mask, lengths)
        handed = self._handed
        if handed is not None and torch.compiler.is_exporting():
            raise RuntimeError("an exported program would keep a mask that was handed over; pass it as an argument")
        if not torch.compiler.is_compiling() and (handed is not None or self._was_told):
            self._was_told = True
            check_as_at_first(self, x, axis, handed)
        return handed or _ALL

    def _normalize_valid(self, x: Tensor, mask: Tensor) -> Tensor:
        """Training, and evaluation without running statistics."""
        if torch.compiler.is_compiling() or is_tracing() or being_transformed(x):
            mean, var, count = _moments_of_valid(x, mask)
            self._take_in_valid(mean, var, count)
            return _standardize_valid(x, mask, mean, var, self.eps, self.weight, self.bias)
        y: Tensor
        asked = can_be_asked(x)
        if asked and lies_in_rows(x, self.weight):
            y, mean, unbiased, values = normalize_rows(x, mask, self.weight, self.bias, self.eps)
            self._take_in_counted(mean, unbiased, values)
            return y
        y, mean, var, count = apply(_NormalizeValid, x.resolve_neg(), self.weight, self.bias, mask, self.eps)
        if asked and x.device.type == "cpu":
            # Here reading the count costs nothing, and the rest less.
            values = int(count)
            self._take_in_counted(mean, var * (values / max(values - 1, 1)), values)
        else:
            self._take_in_valid(mean, var, count)
        return y

    def _take_in_counted(self, mean: Tensor, unbiased: Tensor, values: int) -> None:
        """`_take_in` of so many values: with none nothing moves, with one the mean does, if that may be for itself."""
        if values > self._too_few() and self.running_var is not None:
            self._take_in(mean, unbiased if values > 1 else self.running_var)

    def _take_in_valid(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """`_take_in_counted` for a biased variance and a count that only the device knows."""
        if not self._updates():
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            mean, var, count = mean.detach(), var.detach(), count.detach()
            unbiased = var * (count / (count - 1).clamp(min=1))
            valid = count > self._too_few()
            mean = torch.where(valid, mean, self.running_mean.to(mean.dtype))
            unbiased = torch.where(count > 1, unbiased, self.running_var.to(var.dtype))
            newest = self._count(mean, unbiased, valid=valid)
            blend(self.running_mean, self._guarded(mean, self.running_mean), newest)
            blend(self.running_var, self._guarded(unbiased, self.running_var), newest)

    def _too_few(self) -> int:
        """With so many valid values a batch does not count: with one, mean and variance cannot have the same weight."""
        return 1 if self.momentum is None else 0


def check_as_at_first(layer: nn.Module, x: Tensor, axis: int, handed: Valid | None) -> None:
    """Raise RuntimeError where `x` runs again, for a backward pass, and something else was handed over at first.

    `axis` is that of its channels.
    """
    if not (may_run_again() or recomputing()) or is_tracing() or being_transformed(x) or not x.is_floating_point():
        return
    others = [other for other in range(x.dim()) if other != axis % x.dim()]
    # What padding holds is anything: it is as good a mark as valid values, but for being finite.
    mean, valid = x.detach().to(statistics_dtype(x.dtype)).mean(others).nan_to_num_(), handed or _ALL
    if not (told_at_first(layer, mean, valid) or _ALL).says_as(valid):
        raise RuntimeError("`valid_positions` was not the same when this ran first; call `backward` within it")


def _keep(mask: Tensor, x: Tensor) -> Tensor:
    """`x` at valid positions and 0 elsewhere, in value and in gradient."""
    return torch.where(mask.unsqueeze(1), x, torch.zeros((), dtype=x.dtype, device=x.device))


def _moments_of_valid(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number () of valid values, in primitive operations."""
    axes = tuple(channel_axes(x))
    wide = _keep(mask, x).to(statistics_dtype(x.dtype))
    count = mask.sum().to(wide.dtype)
    divisor = count.clamp(min=1)
    mean = wide.sum(axes) / divisor
    var = _keep(mask, wide - along_channels(mean, wide)).square().sum(axes) / divisor
    return mean, var, count


def _standardize_valid(
    x: Tensor, mask: Tensor, mean: Tensor, var: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    return _keep(mask, standardize(_keep(mask, x), mean, var, eps, weight, bias))


class _NormalizeValid(torch.autograd.Function):
    """`_standardize_valid` with `_moments_of_valid`, and those; what is saved is the input, the mask and vectors."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mask: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        words, y = words_of(mask, x), torch.empty_like(x)
        mean, var, count = masked_moments(x, words, y)
        inverse_sigma = (var + eps).rsqrt_()
        masked_standardize(x, words, mean, inverse_sigma, weight, bias, y)
        ctx.save_for_backward(x, weight, bias, mask, words, mean, inverse_sigma, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var, count)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mask, words, mean, inverse_sigma, count = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        inputs: list[Tensor | None]
        if torch.is_grad_enabled():

            def compute(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                mean, var, _ = _moments_of_valid(x, mask)
                return _standardize_valid(x, mask, mean, var, ctx.eps, weight, bias)

            inputs = differentiable_gradients(compute, (x, weight, bias), wanted, grads[0])
        else:
            found = masked_gradients(grads[0].resolve_neg(), x, words, mean, inverse_sigma, count, weight)
            inputs = [grad if want else None for grad, want in zip(found, wanted, strict=True)]
        return (*inputs, None, None)
