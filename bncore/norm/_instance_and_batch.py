"""What normalizations share that look at the batch and at each instance: one reading of the data serves both."""

from torch import Tensor

from bncore.norm._moments import along_channels
from bncore.norm._sample_statistics import Instances, Spread, instances, pooled
from bncore.norm.batch_norm import BatchNorm


class InstanceAndBatch(BatchNorm):
    """Hands a subclass the statistics of each instance, and those of the batch: the running ones in evaluation.

    The running statistics are torch's, with the unbiased variance; the variances handed on in training are biased.
    """

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        instance = instances(x)
        batch = pooled(instance, 0)
        count = x.numel() // x.shape[1]
        self._take_in(batch.mean.flatten(), batch.var.flatten() * (count / (count - 1)))
        return self._combine(instance, batch).to(x.dtype)

    def _normalize_with_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        batch = Spread(along_channels(self.running_mean, x), along_channels(self.running_var, x))
        return self._combine(instances(x), batch).to(x.dtype)

    def _combine(self, instance: Instances, batch: Spread) -> Tensor:
        """The output, from the instances and from mean and variance (1, C, 1, ...) of all of them."""
        raise NotImplementedError
