"""What normalizations share that look at the batch and at each instance: one reading of the data serves both."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from bncore.norm._affine import is_empty, pass_empty
from bncore.norm._moments import along_channels
from bncore.norm._other_formula import OtherFormula
from bncore.norm._sample_statistics import Spread, instances, pooled
from bncore.norm._snapshot import as_of_now
from bncore.norm.batch_norm import BatchNorm


class InstanceAndBatch(OtherFormula, BatchNorm, ABC):
    """Hands a subclass the statistics of each instance, and those of the batch: the running ones in evaluation.

    The running statistics are torch's, with the unbiased variance; the variances handed on in training are biased.
    """

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        instance = instances(x)
        batch = pooled(instance, 0)
        count = x.numel() // x.shape[1]
        self._take_in(batch.mean.flatten(), batch.var.flatten() * (count / (count - 1)))
        return self._combine(x, instance, batch).to(x.dtype)

    def _normalize_with_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        if is_empty(x):
            return pass_empty(x, self.parameters())
        instance = instances(x)
        running = as_of_now(self.running_mean, self.running_var)
        mean, var = (along_channels(one.to(instance.var.dtype), x) for one in running)
        return self._combine(x, instance, Spread(mean, torch.zeros_like(mean), var)).to(x.dtype)

    @abstractmethod
    def _combine(self, x: Tensor, instance: Spread, batch: Spread) -> Tensor:
        """The output, from the batch, its instances (N, C, 1, ...) and all of them together (1, C, 1, ...)."""
