"""Power normalization: division by a running quadratic mean, in training too.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bncore.norm._dispatch import blend, guarded
from bncore.norm._override import apply
from bncore.norm._quadratic import QuadraticNorm, check_momentum, into_input, normalized, sums


class PowerNorm(QuadraticNorm):
    """Normalizes by a running quadratic mean without centring; made for batches of token vectors.

    With `square` the mean of x^2 over all axes but the channel axis, per channel (C,): the first `warmup_steps` batches
    get `z = x / sqrt(square + eps)` and its exact gradient (PN-V). Later ones get `z = x / sqrt(running_square + eps)`
    with the average from before the step, and with g the gradient into z, the gradient into x is
    `(g - running_product * z) / sqrt(running_square + eps)`. Always `y = weight * z + bias`,
    `running_square += forward_momentum * (square - running_square)` in the forward pass, and in the backward pass
    `running_product += backward_momentum * (mean(g z) - running_product * mean(z^2))`. Evaluation:
    `y = weight * x / sqrt(running_square + eps) + bias`. Input and output: (N, C, ...).

    Differences from `torch.nn.BatchNorm*`: no mean is subtracted; the state is `running_square`, `running_product` and
    `num_batches_tracked`. The gradient is the paper's, not that of the forward pass: it cannot be differentiated again,
    depends on the order of backward passes, and `running_product` is in units of the loss, so a scaled loss should be
    scaled alike in all steps. Differences from the authors' code: momentum is torch's (theirs is 1 - m), the backward
    pass divides by what the forward pass divided by, the warm-up has its exact gradient, and no scaling over the
    channels of a token comes first. It can be compiled, and it can be checkpointed, but not both at once.
    `torch.optim.swa_utils.update_bn` passes the layer over; `recalibrate` does not.

    arXiv 2003.07845, section 4: PN-V, and algorithm 2 (PN).

    Args:
        num_features: C.
        eps: added to the quadratic mean.
        forward_momentum: weight of the newest batch in `running_square`, 1 - alpha there.
        backward_momentum: weight of the newest gradient in `running_product`.
        warmup_steps: batches that are normalized by their own quadratic mean at first; 10,000 in the authors' code. A
            run that is no longer is the warm-up alone.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the averages of a channel as they are where the batch's statistics are not finite.

    Raises:
        ValueError: for a momentum that is not from 0 to 1; from the forward pass, for input without batch axis, with
            another number of channels or not of floating point.
        RuntimeError: from `torch.export`, in training mode.
    """

    running_product: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        forward_momentum: float = 0.1,
        backward_momentum: float = 0.1,
        warmup_steps: int = 10_000,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        check_momentum("forward_momentum", forward_momentum)
        check_momentum("backward_momentum", backward_momentum)
        super().__init__(num_features, eps, affine, nan_guard, device, dtype, bias=bias)
        self.forward_momentum = forward_momentum
        self.backward_momentum = backward_momentum
        self.warmup_steps = warmup_steps
        self.register_buffer("running_product", torch.zeros(num_features, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.running_product.zero_()

    def extra_repr(self) -> str:
        momenta = f"forward_momentum={self.forward_momentum}, backward_momentum={self.backward_momentum}"
        return f"{super().extra_repr()}, {momenta}, warmup_steps={self.warmup_steps}"

    def _statistics(self, square: Tensor) -> tuple[Tensor, ...]:
        warming = (self.num_batches_tracked < self.warmup_steps).expand(square.shape)
        inverse = (torch.where(warming, square, self.running_square.to(square.dtype)) + self.eps).rsqrt()
        return inverse, square * inverse.square(), warming.to(square.dtype)

    def _take_in(self, square: Tensor) -> None:
        self.num_batches_tracked.add_(1)
        blend(self.running_square, self._guarded(square, self.running_square), self.forward_momentum)

    def _apply_to(self, x: Tensor, scale: Tensor, shift: Tensor, used: Tensor) -> Tensor:
        y: Tensor = apply(
            _PowerNormalize, x, scale, shift, used, self.running_product, self.backward_momentum, self.nan_guard
        )
        return y


class _PowerNormalize(torch.autograd.Function):
    """`scale * z + shift`, whose backward pass is the paper's; `used` are inverse, mean(z^2), and 1 while warming."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scale: Tensor, shift: Tensor, used: Tensor, *_state: Any) -> Tensor:
        return normalized(x, scale, shift, used[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _output: Tensor) -> None:
        x, scale, _, used, ctx.product, ctx.momentum, ctx.guard = inputs
        ctx.save_for_backward(x, scale, used)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, used = ctx.saved_tensors
        inverse, power, warming = used[0], used[1], used[2]
        into_scale, into_shift, own = sums(x, grad, scale, inverse)
        product = ctx.product.to(own.dtype)
        average = torch.where(warming > 0, own, product)
        newest = product + ctx.momentum * (own - product * power)
        ctx.product.copy_(guarded(newest, product) if ctx.guard else newest)
        return into_input(x, grad, scale, inverse, average), into_scale, into_shift, None, None, None, None
