"""Batch normalization whose batch is shared by several processes, on any backend.

Shapes: N examples of this process, C channels (axis 1), any further axes are positions and count as examples.
Invariant: every process of the group runs the same collectives in the same order, whatever its share of the batch, and
computes the same statistics from the same numbers, bit for bit.
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import scale_and_shift
from bncore.norm._batches import check_channels
from bncore.norm._dispatch import being_transformed
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels, channel_axes, statistics_dtype
from bncore.norm._override import apply
from bncore.norm._parts import differentiable_gradients, merge_parts
from bncore.norm._sync import Group, add_up, differentiable_gather, gather, group_size
from bncore.norm._torch import batch_norm_backward
from bncore.norm.batch_norm import BatchNorm, standardize


class SyncBatchNorm(BatchNorm, at_once=True):
    """Batch normalization with the statistics of the batches of all processes of a group together.

    `y = weight * (x - mean) / sqrt(var + eps) + bias`, where mean and biased variance (C,) are over the examples of all
    processes, each counted once: processes may hold unequal shares of the batch, or none. The running statistics take
    in the unbiased variance over the global count and are the same everywhere. Evaluation is local. Input and output:
    (N, C, ...). As in `torch.nn.SyncBatchNorm`, the gradient of the input is that of the sum of all processes'
    objectives, and those of `weight` and `bias` are this process's share, which `DistributedDataParallel` averages.

    Difference from `torch.nn.SyncBatchNorm`: it works on the CPU and with gloo; it can be differentiated twice; the
    variance is merged from centred parts; an average over all batches (`momentum=None`) reads no number back from the
    device. One process, or none initialized, is plain `BatchNorm`. The forward pass takes one all-gather of 2 C + 1
    numbers and the backward pass one all-reduce of 2 C; with `create_graph=True`, it takes two all-gathers and an
    all-reduce instead. With several processes, `torch.compile` leaves the layer out of the graph. Input that needs a
    gradient in one process has to need one in all.

    arXiv 1502.03167, algorithms 1 and 2, over all processes; merged by Chan, Golub and LeVeque (1979), eq. 2.1.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        track_running_stats: keep running statistics; without them, evaluation uses the batch of this process alone.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.
        process_group: the `torch.distributed.ProcessGroup` that shares the batch; None: all processes.

    Raises:
        ValueError: from the forward pass as `BatchNorm`; one value per channel is too few only if no other process of
            the group has any, and then it is refused by all.
        RuntimeError: from `torch.export`, in training mode with several processes.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        nan_guard: bool = False,
        process_group: Group = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, nan_guard, device, dtype, bias=bias)
        self.process_group = process_group

    def forward(self, x: Tensor) -> Tensor:
        if (y := self._train_at_once(x)) is not None:
            return y
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        if not self.training or x.is_meta or group_size(self.process_group) == 1:
            return super().forward(x)
        check_channels(x, self.num_features)
        if torch.compiler.is_exporting():
            raise RuntimeError(
                "an exported program does not ask other processes for their part of the batch; export "
                "it in evaluation mode, or in one process"
            )
        from bncore.norm._out_of_graphs import out_of_graphs

        # Compiled, how many values there are could not be asked, and the backward pass might be cut at other places in
        # other processes, which would then wait for each other.
        together: Tensor = out_of_graphs(self._normalize_together, x)
        return together

    def __deepcopy__(self, memo: dict[int, Any]) -> "SyncBatchNorm":
        """A copy belongs to the same group, which cannot be copied."""
        memo[id(self.process_group)] = self.process_group
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def _normalize_together(self, x: Tensor) -> Tensor:
        transformed = being_transformed(x)
        if transformed:
            mean, var, count = _moments_together(x, self.process_group)
        else:
            with torch.no_grad():
                rows = gather(_native_parts(x), self.process_group)
                means, variances, counts = rows.split((x.shape[1], x.shape[1], 1), dim=1)
                mean, var, count = merge_parts(means, variances, counts.squeeze(1))
        # Only a process with at most one value cannot know by itself that there are two: no other has to wait for the
        # device. If there are not, all of them are such processes, and none is left waiting for the others.
        if x.numel() <= x.shape[1]:
            values = int(count)
            if values == 0:
                return self._pass_empty(x)
            if values == 1:
                raise ValueError("Expected more than 1 value per channel when training, got 1 over all processes")
        self._take_in(mean, var * (count / (count - 1)))
        if transformed:
            return standardize(x, mean, var, self.eps, self.weight, self.bias)
        inverse_sigma = (var + self.eps).rsqrt_()
        y: Tensor = apply(
            _NormalizeTogether, x, self.weight, self.bias, mean, inverse_sigma, count, self.eps, self.process_group
        )
        return y


def _native_parts(x: Tensor) -> Tensor:
    """Mean (C,), biased variance (C,) and count of this process's values per channel, in one vector."""
    channels, dtype = x.shape[1], statistics_dtype(x.dtype)
    if x.numel() == 0:
        return torch.zeros(2 * channels + 1, dtype=dtype, device=x.device)
    scratch = torch.empty(channels, dtype=dtype, device=x.device)
    mean, var = torch.batch_norm_update_stats(x, scratch, scratch, 0.0)
    return torch.cat((mean, var, mean.new_full((1,), x.numel() // channels)))


def _moments_together(x: Tensor, group: Group) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and count () over all processes, in operations that can be differentiated."""
    wide, axes = x.to(statistics_dtype(x.dtype)), channel_axes(x)
    own = x.numel() // x.shape[1]
    mean = wide.sum(axes) / max(own, 1)
    var = (wide - along_channels(mean, x)).square().sum(axes) / max(own, 1)
    # By themselves, because under vmap nothing can be asked of what is different for each member.
    counts = differentiable_gather(torch.full((), own, dtype=wide.dtype, device=x.device), group)
    means, variances = differentiable_gather(torch.stack((mean, var)), group).unbind(1)
    return merge_parts(means, variances, counts)


class _NormalizeTogether(torch.autograd.Function):
    """`standardize` with moments over all processes, differentiated as a function of x through them as well."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        inverse_sigma: Tensor,
        count: Tensor,
        eps: float,
        group: Group,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias, mean, inverse_sigma, count)
        ctx.eps, ctx.group = eps, group
        centred = x - along_channels(mean, x)
        y = scale_and_shift(centred.mul_(along_channels(inverse_sigma, x)), weight, bias)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, inverse_sigma, count = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        inputs: list[Tensor | None]
        if torch.is_grad_enabled():

            def compute(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                mean, var, _ = _moments_together(x, ctx.group)
                return standardize(x, mean, var, ctx.eps, weight, bias)

            inputs = differentiable_gradients(compute, (x, weight, bias), wanted, grads[0])
        else:
            into_weight, into_bias = _local_sums(grads[0], x, mean, inverse_sigma)
            dx = None
            if wanted[0]:
                sums = add_up(torch.stack((into_weight, into_bias)), ctx.group) / count
                dx = _gradient_of_input(grads[0], x, weight, mean, inverse_sigma, sums)
            inputs = [dx, into_weight, into_bias]
            inputs = [grad if want else None for grad, want in zip(inputs, wanted, strict=True)]
        return (*inputs, None, None, None, None, None)


def _local_sums(grad: Tensor, x: Tensor, mean: Tensor, inverse_sigma: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight and bias (C,): sums over this process's values."""
    if x.numel() == 0:
        return torch.zeros_like(mean), torch.zeros_like(mean)
    # A vector tells the kernel that vectors are in the precision of the statistics.
    ones, mask = torch.ones_like(mean), [False, True, True]
    _, into_weight, into_bias = batch_norm_backward(grad, x, ones, None, None, mean, inverse_sigma, True, 0.0, mask)
    return into_weight, into_bias


def _gradient_of_input(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, inverse_sigma: Tensor, sums: Tensor
) -> Tensor:
    """`scale * (grad - sums[1] - standardized * sums[0])`, with sums (2, C) divided by the count."""
    scale = inverse_sigma if weight is None else weight.to(mean.dtype) * inverse_sigma
    along, constant = -scale * sums
    dx = (x - along_channels(mean, x)).mul_(along_channels(along * inverse_sigma, x))
    dx.addcmul_(grad, along_channels(scale, x)).add_(along_channels(constant, x))
    return dx.to(x.dtype)
