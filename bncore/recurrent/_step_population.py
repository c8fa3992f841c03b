"""How the statistics of single time steps are measured and blended: a row a step, whatever the lengths of sequences.

Cells walk along a sequence by `StepBatchNorm.begin` and call no forward pass of it, so that is where it is looked at.

Shapes: T steps, N sequences, C channels; L rows of statistics, the last for all steps from L - 1 on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm._moments import Moments
from bncore.norm.model.overlay import Temporary, lay_over, take_off
from bncore.norm.model.population import Population, in_double
from bncore.recurrent._masked import masked_moments, pool
from bncore.recurrent._step_pass import Pass, StepPass
from bncore.recurrent.step_batch_norm import StepBatchNorm

See = Callable[[int, int, Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor] | None]
"""From the first step of a pass, the number of steps since, values (K, N, C) and which are valid (K, N) to the mean,
biased variance (K, C) and count (K, 1) that these are to be normalized with; None: as in evaluation."""


@dataclass(frozen=True)
class Rows:
    """Mean and biased variance (L, C) over `count` (L, 1) values a row."""

    mean: Tensor
    var: Tensor
    count: Tensor


class StepBlend(Temporary):
    """Blends the statistics of each step of a batch with the running ones, in evaluation mode."""

    _alpha: float

    def begin(self, like: Tensor, valid: Tensor | None = None, step: int = 0) -> Pass:
        usual: StepPass = super().begin(like, valid, step)  # type: ignore[misc]
        if self.training or self._alpha == 0.0:
            return usual
        if self._alpha == 1.0 and like.shape[1] == 1:
            raise ValueError("Expected more than 1 value per channel, got one sequence; use a larger batch")
        return _SeenPass(usual, self._blended, valid, step)

    def _blended(self, first: int, since: int, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        layer: Any = self
        own_mean, own_var, count = _of_batch(x, valid)
        mean, var = (table.to(x.dtype) for table in layer.population(first + since, len(x)))
        return mean.lerp(own_mean, self._alpha), var.lerp(own_var, self._alpha), count


class StepPopulation(Population):
    """Mean and variance of each row over all sequences that have the step."""

    blend = StepBlend

    @contextmanager
    def watching(
        self, found: dict[nn.Module, Any], order: list[tuple[nn.Module, int]], *, by_batch: bool
    ) -> Iterator[None]:
        def see(first: int, since: int, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor] | None:
            if since > 0 and not by_batch:
                raise ValueError(
                    "the input of a StepBatchNorm in a recurrence depends on its own statistics at the steps before; "
                    "measure with sequential=False"
                )
            one = self._rows(first + since, in_double(x.detach()), valid)
            found[self.layer] = self._merged(found[self.layer], one) if self.layer in found else one
            order.append((self.layer, x.shape[1]))
            return _of_batch(x, valid) if by_batch else None

        with _seeing(self.layer, see):
            yield

    def suffices(self, of: Any) -> bool:
        return bool((of.count > 1).any())

    def kept(self, of: Any) -> dict[str, Tensor]:
        """Rows of which two values were seen; these count as seen in training, or evaluation would pass them over."""
        layer, counted = self.layer, of.count > 1
        unbiased = of.var * (of.count / (of.count - 1).clamp_min(1))
        tracked = layer.num_batches_tracked.to(counted.device)
        return {
            "running_mean": torch.where(counted, of.mean, in_double(layer.running_mean)),
            "running_var": torch.where(counted, unbiased, in_double(layer.running_var)),
            "num_batches_tracked": torch.where(counted.squeeze(1), tracked.clamp_min(1), tracked),
        }

    def shown(self, of: Moments) -> dict[str, Tensor]:
        raise NotImplementedError("statistics of steps are shown as the steps come")

    def _rows(self, step: int, x: Tensor, valid: Tensor | None) -> Rows:
        """Of values (K, N, C) from a step on, in their rows of the whole table."""
        valid = None if valid is None else valid.to(x.device)
        mean, var, count = _of_batch(x, valid)
        length = self.layer.max_length
        own = max(0, min(len(mean), length - 1 - step))
        if own < len(mean):
            last = pool(mean[own:], var[own:], count[own:])
            mean, var, count = (torch.cat((a[:own], b)) for a, b in zip((mean, var, count), last, strict=True))
        first = min(step, length - 1)
        table = [one.new_zeros(length, one.shape[1]) for one in (mean, var, count)]
        for whole, part in zip(table, (mean, var, count), strict=True):
            whole[first : first + len(part)] = part
        return Rows(*table)

    @staticmethod
    def _merged(first: Rows, second: Rows) -> Rows:
        """Chan, Golub, LeVeque 1979, eq. 2.1, row by row, of which some have no values."""
        count = first.count + second.count
        share = second.count / count.clamp_min(1)
        gap = second.mean - first.mean
        spread = first.var * (1.0 - share) + second.var * share
        return Rows(first.mean + gap * share, spread + gap.square() * (share * (1.0 - share)), count)


@contextmanager
def _seeing(layer: StepBatchNorm, see: See) -> Iterator[None]:
    """Within it, the steps of a layer in evaluation mode are shown, and normalized with what is said of them."""
    lay_over(layer, _Seen)
    watched: Any = layer
    watched._see = see
    try:
        yield
    finally:
        take_off(layer, _Seen)
        del watched._see


class _Seen(Temporary):
    _see: See

    def begin(self, like: Tensor, valid: Tensor | None = None, step: int = 0) -> Pass:
        usual: StepPass = super().begin(like, valid, step)  # type: ignore[misc]
        return usual if self.training else _SeenPass(usual, self._see, valid, step)


class _SeenPass:
    """A pass in evaluation mode, whose steps are shown on the way.

    Where a step has one valid sequence, whose own statistics would erase it, it is normalized as in evaluation, which
    is what training does there.
    """

    def __init__(self, usual: StepPass, see: See, valid: Tensor | None, step: int) -> None:
        self._usual, self._see, self._valid, self._step = usual, see, valid, step

    def normalize(self, at: int, x: Tensor, /) -> Tensor:
        if x.shape[1] == 0:
            return x
        valid = None if self._valid is None else self._valid[at : at + len(x)]
        said = self._see(self._step, at, x, valid)
        if said is None:
            return self._usual.normalize(at, x)
        mean, var, count = said
        assert self._usual._population is not None
        running = [table[at : at + len(x)].to(x.dtype) for table in self._usual._population]
        mean, var = (torch.where(count > 1, own, old) for own, old in zip((mean, var), running, strict=True))
        return self._usual._standardize(x, mean, var)

    def finish(self) -> None:
        self._usual.finish()


def _of_batch(x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance (K, C) of steps over their valid sequences, and how many these are, (K, 1)."""
    mean, var = masked_moments(x, valid)
    count = torch.full_like(mean[:, :1], x.shape[1]) if valid is None else valid.sum(1, keepdim=True).to(mean.dtype)
    return mean, var, count
