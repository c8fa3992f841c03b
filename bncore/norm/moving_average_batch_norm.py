"""Moving average batch normalization: averages over several batches in the forward and in the backward pass.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples; M batches in the window.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bncore.norm._dispatch import blend
from bncore.norm._override import apply
from bncore.norm._quadratic import QuadraticNorm, check_momentum, into_input, normalized, sums


class MovingAverageBatchNorm(QuadraticNorm):
    """Normalizes by averages over the last M batches, so that very small batches train like M times larger ones.

    With `square` the mean of x^2 over all axes but the channel axis, per channel (C,), and S the simple average of
    `square` over the last M batches, this one included: `z = x / sqrt(S + eps)`, `y = weight * r * z + bias`,
    `r = clip(sqrt(S + eps) / sqrt(running_square + eps), 1 / r_max, r_max)`, where `running_square` is from before the
    step and then moves by `momentum * (square - running_square)`. No gradient flows through r. With g the gradient into
    z, the gradient into x is `(g - z * P) / sqrt(S + eps)`, where P is the simple average of `mean(g z)` over the last
    M backward passes, this one included. The first `warmup_steps` batches use their own `square` and `mean(g z)`, which
    makes the gradient exact; r is 1 until both `warmup_steps` and `r_warmup_steps` batches were seen. Evaluation:
    `y = weight * x / sqrt(running_square + eps) + bias`. Input and output: (N, C, ...).

    Differences from `torch.nn.BatchNorm*`: no mean is subtracted. In the paper the layer in front keeps its outputs
    centred instead, by `weight_centralization`; networks built from a spec do that, and where you place the layer
    yourself or convert to it, the layer in front is yours to centre. The state is `running_square`, `window_square` and
    `window_product` (M, C), newest first, and two counts. The gradient is not that of the forward pass: it cannot be
    differentiated again, depends on the order of backward passes, and averages in units of the loss, so a scaled loss
    should be scaled alike in all steps. Differences from the authors' code: momentum is torch's (theirs is 1 - m),
    `running_square` averages single batches, not S, and a window that is not full is averaged over what it holds. It
    can be compiled, and it can be checkpointed, but not both at once. `torch.optim.swa_utils.update_bn` passes the
    layer over; `recalibrate` does not.

    arXiv 2001.06838, section 4: S and P are its simple moving averages (SMAS), `running_square` is its exponential one
    (EMAS).

    Args:
        num_features: C.
        window: M; 32 over the batch size in the paper.
        eps: added to the quadratic mean.
        momentum: weight of the newest batch in `running_square`.
        r_max: bound of r, at least 1.
        warmup_steps: batches that are normalized by their own statistics at first.
        r_warmup_steps: batches before r may differ from 1.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave `running_square` of a channel as it is where the batch's statistics are not finite, and keep
            such a batch, or gradient, out of the window as a whole: it is not counted.

    Raises:
        ValueError: for a window or an `r_max` below 1, or a momentum that is not from 0 to 1; from the forward pass,
            for input without batch axis, with another number of channels or not of floating point.
        RuntimeError: from `torch.export`, in training mode.
    """

    window_square: Tensor
    window_product: Tensor
    num_gradients_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        window: int = 16,
        eps: float = 1e-5,
        momentum: float = 0.02,
        r_max: float = 5.0,
        warmup_steps: int = 100,
        r_warmup_steps: int = 1000,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if window < 1 or r_max < 1.0:
            raise ValueError(f"window and r_max must be at least 1, got {window} and {r_max}")
        check_momentum("momentum", momentum)
        super().__init__(num_features, eps, affine, nan_guard, device, dtype, bias=bias)
        self.window = window
        self.momentum = momentum
        self.r_max = r_max
        self.warmup_steps = warmup_steps
        self.r_warmup_steps = r_warmup_steps
        self.register_buffer("window_square", torch.ones(window, num_features, device=device, dtype=dtype))
        self.register_buffer("window_product", torch.zeros(window, num_features, device=device, dtype=dtype))
        self.register_buffer("num_gradients_tracked", torch.zeros((), device=device, dtype=torch.long))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.window_square.fill_(1.0)
        self.window_product.zero_()
        self.num_gradients_tracked.zero_()

    def extra_repr(self) -> str:
        warmup = f"warmup_steps={self.warmup_steps}, r_warmup_steps={self.r_warmup_steps}"
        return f"{super().extra_repr()}, window={self.window}, momentum={self.momentum}, r_max={self.r_max}, {warmup}"

    def _statistics(self, square: Tensor) -> tuple[Tensor, ...]:
        seen = self.num_batches_tracked
        warming = (seen < self.warmup_steps).expand(square.shape)
        window = _pushed(self.window_square, square)
        own_or_average = torch.where(warming, square, _average(window, seen + 1).to(square.dtype))
        inverse = (own_or_average + self.eps).rsqrt()
        r = (self.running_square.to(square.dtype) + self.eps).rsqrt() / inverse
        r = torch.where(seen < max(self.warmup_steps, self.r_warmup_steps), 1.0, r.clamp(1 / self.r_max, self.r_max))
        return inverse, r, warming.to(square.dtype)

    def _take_in(self, square: Tensor) -> None:
        blend(self.running_square, self._guarded(square, self.running_square), self.momentum)
        _push(self.window_square, self.num_batches_tracked, square, self.nan_guard)

    def _apply_to(self, x: Tensor, scale: Tensor, shift: Tensor, used: Tensor) -> Tensor:
        state = self.window_product, self.num_gradients_tracked, self.nan_guard
        y: Tensor = apply(_MovingAverageNormalize, x, scale * used[1], shift, used, *state)
        return y


class _MovingAverageNormalize(torch.autograd.Function):
    """`scale * z + shift`, whose backward pass averages; `used` are inverse, r, and 1 while warming."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, shift: Tensor, used: Tensor, *_state: Any) -> Tensor:
        return normalized(x, scale, shift, used[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        x, scale, _, used, ctx.window, ctx.gradients, ctx.guard = inputs
        ctx.save_for_backward(x, scale, used)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, used = ctx.saved_tensors
        inverse, warming = used[0], used[2]
        into_scale, into_shift, own = sums(x, grad, scale, inverse)
        average = _average(_pushed(ctx.window, own), ctx.gradients + 1).to(own.dtype)
        average = torch.where(warming > 0, own, average)
        _push(ctx.window, ctx.gradients, own, ctx.guard)
        return into_input(x, grad, scale, inverse, average), into_scale, into_shift, None, None, None, None


def _pushed(window: Tensor, newest: Tensor) -> Tensor:
    """The window (M, C) with the newest (C,) in front and without its oldest, in the wider type of both."""
    wide = torch.promote_types(window.dtype, newest.dtype)
    return torch.cat((newest.to(wide).unsqueeze(0), window[:-1].to(wide)))


def _push(window: Tensor, count: Tensor, newest: Tensor, guard: bool) -> None:
    """Put the newest (C,) into the window and count it, in place; the guard takes only what is finite as a whole.

    The count says how many rows are averaged, of all channels: a row that holds nothing for one of them would be taken
    for a statistic.
    """
    pushed = _pushed(window, newest)
    if guard:
        finite = newest.isfinite().all()
        window.copy_(torch.where(finite, pushed, window))
        count.add_(finite.to(count.dtype))
    else:
        window.copy_(pushed)
        count.add_(1)


def _average(window: Tensor, count: Tensor) -> Tensor:
    """The mean (C,) of the newest `count` rows, or of all where there are fewer."""
    filled = torch.arange(len(window), device=window.device) < count
    return torch.where(filled.unsqueeze(1), window, 0.0).sum(0) / count.clamp_max(len(window))
