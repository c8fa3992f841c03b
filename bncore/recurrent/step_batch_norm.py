"""Batch normalization whose running statistics are one set a time step.

Shapes: T steps, N sequences, C channels. Running statistics are one table (L, C) each, whatever the length, and a
forward pass moves them once, after its last step.
"""

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from bncore.norm._batches import check_floating_point
from bncore.norm._dispatch import blend
from bncore.norm._leaf import as_leaf
from bncore.norm._moments import statistics_dtype
from bncore.norm._recompute import recall, recomputing, remember
from bncore.recurrent._masked import check_valid, pool
from bncore.recurrent._step_pass import StepPass


class StepBatchNorm(nn.Module):
    """Standardizes each channel at each time step with the mean and variance of the sequences at that step.

    Training: `y = weight * (x - mean) / sqrt(var + eps) + bias` with mean and biased variance (T, C) over the sequences
    that are valid at the step; row t of the running statistics moves towards them as in `torch.nn.BatchNorm1d` (with
    the unbiased variance). Evaluation: the same with row t. `weight` and `bias` (C,) are shared by all steps. Input and
    output: (T, N, C).

    Steps from `max_length` on share the last row: it takes in the moments of all frames of the batch at those steps
    together. Evaluation of a step that training has not seen uses the last row that it has: the paper's rule for
    sequences longer than those of training.

    A step with one valid sequence has no variance: normalization would erase the input. There, training uses the
    running statistics, as evaluation does, and does not move them; the longest sequence of a batch is often alone at
    its end. A step with no valid sequence moves nothing. A whole batch of one sequence is refused in training.

    Difference from a `torch.nn.BatchNorm1d` for each step: three buffers instead of three a step, and masks.
    `torch.optim.swa_utils.update_bn` passes the layer over; `recalibrate` does not.

    arXiv 1603.09025, section 3.

    Args:
        num_features: C.
        max_length: L, the number of steps with statistics of their own.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches in which the step
            occurred equally.
        gamma: initial value of `weight`; 0.1 is the paper's, small enough to keep tanh out of saturation.
        bias: learn `bias`, which is 0 at first; None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite; with
            `momentum=None`, those of the step, which is not counted then.

    Raises:
        ValueError: for a `max_length` below 1; from the forward pass, for input that is not (T, N, C), for a mask that
            does not fit, and in training for a batch of one sequence.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    bias: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        max_length: int = 100,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        gamma: float = 0.1,
        bias: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        super().__init__()
        self.num_features = num_features
        self.max_length = max_length
        self.eps = eps
        self.momentum = momentum
        self.gamma = gamma
        self.nan_guard = nan_guard
        self.weight = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype))
        shift = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", shift)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, torch.empty(max_length, num_features, device=device, dtype=dtype))
        self.register_buffer("num_batches_tracked", torch.empty(max_length, device=device, dtype=torch.int64))
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches seen."""
        self.running_mean.zero_()
        self.running_var.fill_(1.0)
        self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Scale `gamma`, shift 0, and the running statistics of a new layer."""
        nn.init.constant_(self.weight, self.gamma)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.reset_running_stats()

    def forward(self, x: Tensor, valid: Tensor | None = None, step: int = 0) -> Tensor:
        """Normalize `x` (T, N, C), whose first step is number `step`; `valid` (T, N) is False at padding."""
        if isinstance(x, Proxy):
            return as_leaf(self, x, valid, step)
        if x.dim() != 3:
            raise ValueError(f"expected (T, N, C), got {x.dim()} axes")
        if x.shape[2] != self.num_features:
            raise ValueError(f"expected {self.num_features} channels along the last axis, got {tuple(x.shape)}")
        check_floating_point(x)
        wide = x.to(statistics_dtype(x.dtype))
        steps = self.begin(wide, valid, step)
        y = steps.normalize(0, wide)
        steps.finish()
        return y.to(x.dtype)

    def begin(self, like: Tensor, valid: Tensor | None = None, step: int = 0) -> StepPass:
        """A forward pass over consecutive steps that become known one after the other.

        Args:
            like: input (T, N, ...) of the pass, this layer's own or what its own depends on; its values only identify
                the batch.
            valid: False at padding, (T, N).
            step: number of the first step.
        """
        if step < 0:
            raise ValueError(f"steps are counted from 0, got {step}")
        check_valid(valid, tuple(like.shape[:2]))
        if self.training and like.shape[1] == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {tuple(like.shape)}, "
                "which is one sequence; use a larger batch or drop the last partial one"
            )
        population = None
        if not self.training:
            population = self.population(step, like.shape[0])
        elif valid is not None:
            population = self._population_as_used(step, like)
        return StepPass(self, population, valid, step)

    def population(self, step: int, steps: int) -> tuple[Tensor, Tensor]:
        """Running mean and variance (T, C) of `steps` steps from `step` on, as evaluation uses them."""
        rows = torch.arange(self.max_length, device=self.num_batches_tracked.device)
        last = torch.where(self.num_batches_tracked > 0, rows, 0).amax()
        wanted = torch.arange(step, step + steps, device=rows.device).minimum(last)
        take = _opaque_rows if torch.compiler.is_compiling() and self.training else _rows
        dtype = statistics_dtype(self.running_mean.dtype)
        return take(self.running_mean, wanted).to(dtype), take(self.running_var, wanted).to(dtype)

    def _population_as_used(self, step: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The running statistics from before this batch, also when activation checkpointing runs it again."""
        steps = like.shape[0]
        # One row a step, so that batches of other lengths, whose statistics have other shapes, are not compared.
        batch = like.detach().mean((0, 1)).flatten().expand(steps, -1)
        if recomputing():
            mean, var = recall(self, batch)
            return mean, var
        with torch.no_grad():
            mean, var = self.population(step, steps)
        remember(self, batch, mean, var)
        return mean, var

    def take_in(self, step: int, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Average means and biased variances (T, C) over `count` (T, 1) sequences into the rows from `step` on.

        Rows with fewer than two values stay as they are. Statistics are measurements, not part of the function that is
        differentiated.
        """
        own = max(0, min(mean.shape[0], self.max_length - 1 - step))
        if own < mean.shape[0]:
            shared = pool(mean[own:], var[own:], count[own:])
            mean, var, count = (
                torch.cat(both) for both in zip((mean[:own], var[:own], count[:own]), shared, strict=True)
            )
        first = min(step, self.max_length - 1)
        rows = slice(first, first + mean.shape[0])
        with torch.no_grad():
            unbiased = var * (count / (count - 1).clamp_min(1))
            counted = count > 1
            if self.nan_guard and self.momentum is None:
                # One count weights all channels of a step: what is kept out of one is kept out of all.
                counted = counted & (mean.isfinite() & unbiased.isfinite()).all(1, keepdim=True)
            self.num_batches_tracked[rows].add_(counted.squeeze(1))
            weight = counted.to(self.running_mean.dtype) * self._weight_of_newest(rows)
            for running, newest in ((self.running_mean, mean), (self.running_var, unbiased)):
                row = running[rows]
                kept = counted & newest.isfinite() if self.nan_guard else counted
                blend(row, torch.where(kept, newest, row.to(newest.dtype)), weight)

    def _weight_of_newest(self, rows: slice) -> Tensor | float:
        """The momentum, or one over the number of batches that the step has seen, which stays on the device."""
        if self.momentum is not None:
            return self.momentum
        return self.num_batches_tracked[rows].clamp_min(1).to(self.running_mean.dtype).reciprocal().unsqueeze(1)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, max_length={self.max_length}, eps={self.eps}, momentum={self.momentum}, "
            f"gamma={self.gamma}, bias={self.bias is not None}"
        )


def _rows(table: Tensor, wanted: Tensor) -> Tensor:
    return table.index_select(0, wanted)


# Left to see inside, the compiler's backward pass would read the rows again, from tables that the forward pass has
# updated by then. It saves what comes out of an operator it cannot see into.
_opaque_rows = torch.library.custom_op("bncore::step_batch_norm_rows", _rows, mutates_args=())


@_opaque_rows.register_fake
def _(table: Tensor, wanted: Tensor) -> Tensor:
    return table.new_empty(wanted.shape[0], table.shape[1])
