"""An exponential moving average of the weights, kept beside them.

Invariant: training never reads it. Running statistics of normalizations are averaged along with the weights, by the
same decay: those of the weights as they are now would belong to other inputs. Everything else that a layer keeps
(counts, directions of a power iteration) is the live one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """average = decay * average + (1 - decay) * weights, behind each step; the first step's weights begin it.

    As `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        averaged = {
            name: buffer
            for name, buffer in network.named_buffers()
            if name.rpartition(".")[2].startswith("running_") and buffer.is_floating_point()
        }
        named: dict[str, Tensor] = {**dict(network.named_parameters()), **averaged}
        self.averages = {name: tensor.detach().clone() for name, tensor in named.items()}
        self._live = list(named.values())
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step `step`."""
        averages = list(self.averages.values())
        if step == 1:
            torch._foreach_copy_(averages, self._live)
        else:
            torch._foreach_lerp_(averages, self._live, 1.0 - self._decay)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Within it, the network has the averages; what it had is untouched."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for live, average in zip(self._live, self.averages.values(), strict=True):
            live.data, average.data = average.data, live.data
