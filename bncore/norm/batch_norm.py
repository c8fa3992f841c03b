"""Batch normalization for a batch of any rank: `torch.nn.BatchNorm*` number for number, and under its keys.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.fx import Proxy

from bncore.norm._affine import reset_scale_and_shift, scale_and_shift
from bncore.norm._at_once import ONE, Held, Kept, Vectors, kept_for, trains_at_once
from bncore.norm._batches import check_channels, check_more_than_one_value
from bncore.norm._dispatch import blend, guarded, may_use_native
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import along_channels, channel_axes, moments, statistics_dtype
from bncore.norm._native import (
    are_taken_as_they_are,
    batch_norm,
    batch_norm_at_once,
    batch_norm_of_one_type,
    evaluate_batch_norm,
    takes,
    watched,
)
from bncore.norm._recompute import recomputing
from bncore.norm._snapshot import as_of_now
from bncore.norm._torch import AnyBatchNorm, graph_task, is_undisturbed, process_group


class BatchNorm(AnyBatchNorm):
    """Standardizes each channel with the mean and variance of the batch.

    Training: `y = weight * (x - mean) / sqrt(var + eps) + bias`, with mean and biased variance (C,) over all axes but
    the channel axis; `running = (1 - momentum) * running + momentum * batch` with the unbiased variance. Evaluation:
    the same with the running statistics. Input and output: (N, C, ...).

    Difference from `torch.nn.BatchNorm1d/2d/3d`: one class for every rank, which wants the batch axis; `momentum=None`
    (equal-weight average) reads no number back from the device; a forward pass that activation checkpointing repeats is
    not counted again, unless it is a compiled one that runs with `use_reentrant=True`; under `torch.func` transforms,
    forward-mode differentiation and on the meta device it is made of primitive operations, so that derivatives of every
    order are right. On CPUs, torch's kernel for channels_last, and for vectors, adds up one value after the other:
    where the mean is m times the spread, the output is off by up to 1e-5 m for 100,000 values per channel, a hundred
    times what it is for contiguous images, and for a million it may be worth nothing (off by 1 at m = 300); the numbers
    are torch's there too. Input and layer may be of different floating-point types, as for all layers here: statistics
    are taken in the type of the input, or in float32 if that is narrower; the output has the type of the input, the
    running statistics that of the layer. The gradient of an evaluation is that of the statistics with which it ran,
    also where training moves them before the backward pass; a compiled evaluation has to be differentiated before. An
    empty batch is as there: counted, and otherwise without effect; but where the count is a weight, with
    `momentum=None`, it is not counted.

    arXiv 1502.03167, algorithms 1 and 2.

    Args:
        num_features: C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        track_running_stats: keep running statistics; without them, evaluation uses the batch as well.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite: one NaN
            would stay in them for good. With `momentum=None`, all channels, and the batch is not counted: the average
            is that of the other batches.

    Raises:
        ValueError: from the forward pass, for input without batch axis or with another number of channels, and in
            training for one value per channel.
        RuntimeError: from a backward pass in training that would give a third derivative, which torch's kernels give
            wrong; under `torch.func` it is right.
    """

    _is_at_once: ClassVar[bool] = True
    """Whether the methods of this very class give what `_train_at_once` does, wherever that gives something."""
    _trains_at_once: ClassVar[bool] = True
    """Whether those do that an object of this class has, of whatever classes they are."""

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
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        if not bias:
            # By hand: before 2.13, torch's constructor knows no such keyword.
            self.register_parameter("bias", None)
        self.nan_guard = nan_guard

    def reset_parameters(self) -> None:
        """Scale 1, shift 0, and running statistics as in a new layer."""
        self.reset_running_stats()
        reset_scale_and_shift(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if (y := self._train_at_once(x)) is not None:
            return y
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        check_channels(x, self.num_features)
        if not self.training and (self._buffers.get("running_mean") is not None or self.running_mean is not None):
            return self._normalize_with_running(x)
        values = x.numel()
        if values == 0:
            return self._pass_empty(x)
        if values == self.num_features:
            check_more_than_one_value(x)
        return self._normalize_with_batch(x)

    def __init_subclass__(cls, at_once: bool = False, **given: Any) -> None:
        """`at_once`: `_is_at_once`; then its forward pass may begin with `_train_at_once`."""
        super().__init_subclass__(**given)
        cls._is_at_once = at_once
        cls._trains_at_once = trains_at_once(cls, BatchNorm)

    def _train_at_once(self, x: Tensor) -> Tensor | None:
        """What training gives for a plain batch, counted, if there is nothing to it but the kernel; None elsewhere.

        Everything else goes the long way, `_normalize_with_batch`, which gives the same.
        """
        # The compiler is told by the second question, and never gets to the dictionary.
        if not self.training or not is_undisturbed(x) or not self._trains_at_once:
            return None
        held = self.__dict__
        try:
            momentum, eps, guards, kept = held["momentum"], held["eps"], held["nan_guard"], self._kept_for(x, held)
        except KeyError:
            return None
        if kept is None or momentum is None or guards or graph_task() != -1 or process_group() is not None:
            return None
        mean, var, count, weight, bias = kept
        count.add_(ONE)
        return watched(batch_norm_at_once(x, mean, var, weight, bias, True, momentum, eps))

    def _check_input_dim(self, input: Tensor) -> None:
        check_channels(input, self.num_features)

    def _normalize_with_running(self, x: Tensor) -> Tensor:
        """Evaluation, the same for every variant that subclasses this one and keeps statistics."""
        undisturbed = is_undisturbed(x)
        mean, var, weight, bias = self._vectors(undisturbed)
        assert mean is not None
        assert var is not None
        if undisturbed:
            if torch.is_grad_enabled() and (x.requires_grad or _learns(weight) or _learns(bias)):
                mean, var = mean.clone(), var.clone()
            dtype, packed = x.dtype, mean.is_contiguous() and var.is_contiguous()
            fit = packed and mean.dtype is dtype and var.dtype is dtype
            if fit and x.numel() > 0 and are_taken_as_they_are(dtype, weight, bias):
                return batch_norm_at_once(x, mean, var, weight, bias, False, 0.0, self.eps)
        elif not may_use_native(x):
            return standardize(x, mean, var, self.eps, weight, bias)
        elif torch.is_grad_enabled():
            mean, var = as_of_now(mean, var)
        return evaluate_batch_norm(x, mean, var, weight, bias, self.eps)

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        """Training, and evaluation without running statistics; `x` has more than one value per channel."""
        if not may_use_native(x):
            batch = moments(x, channel_axes(x))
            mean, var = batch.mean.flatten(), batch.var.flatten()
            self._take_in(mean, var * (batch.count / (batch.count - 1)))
            return standardize(x, mean, var, self.eps, self.weight, self.bias)
        running_mean, running_var, weight, bias = self._vectors()
        if running_mean is None or not (self.training and self.track_running_stats):
            return batch_norm(x, None, None, weight, bias, 0.0, self.eps)
        assert running_var is not None
        fits = takes(x, running_mean, running_var, weight, bias)
        momentum = None if self.nan_guard or not fits else self.momentum
        if momentum is not None and not recomputing() and self._may_be_moved_by_the_kernel():
            count = self.num_batches_tracked
            assert count is not None
            count.add_(1)
            return batch_norm_of_one_type(x, running_mean, running_var, weight, bias, momentum, self.eps)
        return self._normalize_beside(x)

    def _may_be_moved_by_the_kernel(self) -> bool:
        """Whether nobody writes running statistics between a pass and its backward pass, as joined processes may do.

        The kernel keeps those that it is given for the backward pass, which would then refuse to run.
        """
        return torch.compiler.is_compiling() or process_group() is None

    def _normalize_beside(self, x: Tensor) -> Tensor:
        """By a kernel that leaves the batch's own statistics in buffers to throw away: with momentum 1, it does.

        A forward pass that is run again needs them too: checkpointing wants as many saved tensors as the first time.
        """
        running_mean, running_var, weight, bias = self._vectors()
        assert running_mean is not None
        assert running_var is not None
        fits = takes(x, running_mean, running_var, weight, bias)
        dtype = running_mean.dtype if fits else statistics_dtype(x.dtype)
        mean, var = (torch.zeros_like(running, dtype=dtype) for running in (running_mean, running_var))
        y = batch_norm(x, mean, var, weight, bias, 1.0, self.eps)
        self._take_in(mean, var)
        return y

    def _vectors(self, _undisturbed: bool = False) -> Vectors:
        """Running mean and variance, scale and shift, each (C,), from where a module keeps them.

        Where they are `_undisturbed`, torch and autograd alone see what is done with them: they may be older views.
        An attribute of a module takes ten times as long, and a small layer is made of little else.
        """
        parameters, buffers = self._parameters, self._buffers
        if "weight" in parameters and "bias" in parameters and "running_mean" in buffers and "running_var" in buffers:
            return buffers["running_mean"], buffers["running_var"], parameters["weight"], parameters["bias"]
        # Parametrized, or a plain tensor in the place.
        return self.running_mean, self.running_var, self.weight, self.bias

    def _kept_for(self, x: Tensor, held: Held) -> Kept | None:
        """What the kernel takes as it is beside `x`, if it does and there is nothing to training but the kernel.

        Raises:
            KeyError: as `kept_for`.
        """
        return kept_for(x, held)

    def _pass_empty(self, x: Tensor) -> Tensor:
        if self._updates() and self.momentum is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
        return scale_and_shift(x, self.weight, self.bias).to(x.dtype)

    def _updates(self) -> bool:
        """Whether this forward pass counts in the running statistics."""
        return self.training and self.track_running_stats and self.running_mean is not None and not recomputing()

    def _take_in(self, mean: Tensor, var: Tensor) -> None:
        """Count this batch and average its mean and unbiased variance (C,) into the running statistics, if it counts.

        Statistics are measurements, not part of the function that is differentiated.
        """
        if not self._updates():
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        with torch.no_grad():
            mean, var = mean.detach(), var.detach()
            newest = self._count(mean, var)
            blend(self.running_mean, self._guarded(mean, self.running_mean), newest)
            blend(self.running_var, self._guarded(var, self.running_var), newest)

    def _guarded(self, newest: Tensor, running: Tensor) -> Tensor:
        """`newest`, but `running` in its place where the guard is on and it is not finite."""
        return guarded(newest, running) if self.nan_guard else newest

    def _count(self, *statistics: Tensor, valid: Tensor | None = None) -> Tensor | float:
        """Count a batch with these statistics, and return its weight in the running ones.

        An average of all batches equally can do without a batch only as a whole: one count weights all channels. So
        one that the guard keeps out of a channel, or that is not `valid` (a bool of the device), has no weight and does
        not count. Otherwise it counts: its channels that are not finite, or that it says nothing of, are for the caller
        to keep.
        """
        assert self.num_batches_tracked is not None
        if self.momentum is None and self.nan_guard:
            finite = torch.stack([one.isfinite().all() for one in statistics]).all()
            valid = finite if valid is None else finite & valid
        if valid is None:
            self.num_batches_tracked.add_(1)
            return self._weight_of_newest()
        self.num_batches_tracked.add_(valid.to(self.num_batches_tracked.dtype))
        if self.momentum is not None:
            return self.momentum
        assert self.running_mean is not None
        # Before the first batch that counts, it would be one over zero.
        return self.num_batches_tracked.clamp_min(1).to(self.running_mean.dtype).reciprocal() * valid

    def _weight_of_newest(self) -> Tensor | float:
        """The momentum, or one over the number of batches seen, which stays on the device."""
        if self.momentum is not None:
            return self.momentum
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        return self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()


def _learns(vector: Tensor | None) -> bool:
    return vector is not None and vector.requires_grad


def standardize(x: Tensor, mean: Tensor, var: Tensor, eps: float, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`weight * (x - mean) / sqrt(var + eps) + bias` with vectors (C,), in primitive operations."""
    centred = x.to(torch.promote_types(x.dtype, mean.dtype)) - along_channels(mean, x)
    return scale_and_shift(centred * along_channels((var + eps).rsqrt(), x), weight, bias).to(x.dtype)
