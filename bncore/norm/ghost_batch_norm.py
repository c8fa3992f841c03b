"""Batch normalization with the statistics of parts of the batch.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.

Invariant: the G groups are neighbours in the batch, those of `torch.tensor_split`, whatever the memory layout.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.norm._affine import scale_and_shift
from bncore.norm._at_once import Held, Kept, kept_for
from bncore.norm._groups import are_few_and_small, is_spelled_out, normalize_few, standardize_groups
from bncore.norm._moments import number_of_values, statistics_dtype
from bncore.norm._native import takes
from bncore.norm._torch import is_tracing
from bncore.norm.batch_norm import BatchNorm


class GhostBatchNorm(BatchNorm, at_once=True):
    """Standardizes each group of examples with its own mean and variance, as if it were a smaller batch.

    Training: the N examples form `G = ceil(N / virtual_batch_size)` groups of neighbours, as `torch.tensor_split` cuts
    a batch: the first N mod G groups have one example more than the others. Each is normalized as by `BatchNorm`, with
    shared `weight` and `bias` (C,); output and gradients are those of a plain batch norm over micro-batches in order.
    With one value per example and channel, G is at most N // 2, which leaves no group a single value. Then the running
    statistics move towards the average over groups of the groups' means and unbiased variances, each group counting
    once. Evaluation is plain batch normalization of the whole batch. Input and output: (N, C, ...).

    Difference from `torch.nn.BatchNorm*`: the groups; with `virtual_batch_size >= N` it is the same. Keys are the same.
    Large and many groups are normalized by passes of our own on CPUs: there, derivatives of every order are right, and
    a mean far from zero costs no digits that it costs torch. Differences from the paper: there, the running statistics
    take the groups one after the other, the last one weighing most. The average variance leaves out how far the groups'
    means lie apart, as it does there.

    Batches of more than eight groups, or of large ones, are copied on the way in and on the way out where G does not
    divide them; up to eight small groups are put together from their parts.

    arXiv 1705.08741, algorithm 1.

    Args:
        num_features: C.
        virtual_batch_size: the most examples in a group.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        track_running_stats: keep running statistics; without them, evaluation uses the batch as well, in groups.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: for a size below 1; from the forward pass as `BatchNorm`, and for groups with one value per channel:
            a size of 1 and one value per example and channel.
    """

    def __init__(
        self,
        num_features: int,
        virtual_batch_size: int = 32,
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
        if not isinstance(virtual_batch_size, int) or virtual_batch_size < 1:
            raise ValueError(f"virtual_batch_size must be an integer, at least 1 example, got {virtual_batch_size}")
        super().__init__(num_features, eps, momentum, affine, track_running_stats, nan_guard, device, dtype, bias=bias)
        self.virtual_batch_size = virtual_batch_size

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, virtual_batch_size={self.virtual_batch_size}"

    def _kept_for(self, x: Tensor, held: Held) -> Kept | None:
        shape = x.shape
        # More examples are more groups.
        return None if shape and shape[0] > self.virtual_batch_size else kept_for(x, held)

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        groups = self._number_of_groups(x)
        if torch.compiler.is_exporting() or is_tracing():
            return self._normalize_any_number(x, groups)
        if groups == 1:
            return super()._normalize_with_batch(x)
        running_mean, running_var, weight, bias = self._vectors()
        momentum = None if is_spelled_out(x) or not self._moves_as_a_kernel_can(x) else self.momentum
        if momentum is None or running_mean is None or running_var is None:
            y, mean, var = standardize_groups(x, groups, weight, bias, self.eps)
            self._take_in(mean, var)
            return y
        count = self.num_batches_tracked
        assert count is not None
        count.add_(1)
        if are_few_and_small(x, groups) and takes(x, running_mean, running_var, weight, bias):
            return normalize_few(x, groups, running_mean, running_var, weight, bias, momentum, self.eps)
        # What `_take_in` does, less its questions, which take as long as what a small batch is asked for.
        y, mean, var = standardize_groups(x, groups, weight, bias, self.eps)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var, momentum)
        return y

    def _moves_as_a_kernel_can(self, x: Tensor) -> bool:
        """Whether this batch moves the running statistics, by a plain number, and they have the type of its own.

        In a narrower one, they would be rounded after each group.
        """
        momentum = self.momentum
        if self.nan_guard or momentum is None or not 0.0 <= momentum <= 1.0 or not self._updates():
            return False
        wide, running = statistics_dtype(x.dtype), self._vectors()[:2]
        return all(one is not None and one.dtype == wide for one in running) and self._may_be_moved_by_the_kernel()

    def _number_of_groups(self, x: Tensor) -> int:
        examples = x.shape[0]
        groups = -(-examples // self.virtual_batch_size)
        if x.numel() > examples * x.shape[1]:
            return groups
        if self.virtual_batch_size == 1:
            raise ValueError(
                "Expected more than 1 value per channel when training, got one example in each virtual batch, with one "
                f"position, from input size {tuple(x.shape)}; use a virtual_batch_size of at least 2"
            )
        # Not `min`, which would ask for a number that an exported or traced program leaves open.
        smaller: Any = torch.minimum if is_tracing() else torch.sym_min
        most: int = smaller(groups, examples // 2)
        return most

    def _normalize_any_number(self, x: Tensor, groups: int) -> Tensor:
        """The same, without a question that has another answer for another number of examples."""
        examples, positions = x.shape[0], number_of_values(x, range(2, x.dim()))
        wide = x.to(statistics_dtype(x.dtype))
        each, larger = examples // groups, examples % groups
        places = torch.arange(examples, device=x.device)
        group_of = torch.maximum(places // (each + 1), (places - larger) // each)
        # As many rows as there are examples, of which the first are the groups: a table of as many rows as there are
        # groups would ask whether there is only one.
        count = wide.new_zeros(examples, 1).index_add(0, group_of, wide.new_ones(examples, 1)) * positions

        def of_groups(values: Tensor) -> Tensor:
            """The means, (N, C)."""
            sums = values.reshape(examples, self.num_features, -1).sum(2)
            return torch.zeros_like(sums).index_add(0, group_of, sums) / count.clamp(min=1)

        def of_examples(rows: Tensor) -> Tensor:
            """What their groups have, (N, C, 1, ...)."""
            return rows.index_select(0, group_of).view(examples, self.num_features, *(1,) * (x.dim() - 2))

        mean = of_groups(wide)
        centred = wide - of_examples(mean)
        var = of_groups(centred.square())
        self._take_in(mean.sum(0) / groups, (var * (count / (count - 1))).sum(0) / groups)
        y = centred * of_examples((var + self.eps).rsqrt())
        return scale_and_shift(y, self.weight, self.bias).to(x.dtype)
