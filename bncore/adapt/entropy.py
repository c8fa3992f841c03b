"""Tent: scale and shift of batch norm layers, learned from the test batches by the entropy of the predictions."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from bncore.adapt.adaptation import Adaptation, Snapshot
from bncore.adapt.batch_blend import layers_to_adapt, prediction_time
from bncore.norm._moments import statistics_dtype
from bncore.norm.model.feed import Forward, run

_MakeOptimizer = Callable[[list[nn.Parameter]], Optimizer]


def tent(
    model: nn.Module,
    optimizer: _MakeOptimizer | None = None,
    *,
    forward: Forward | None = None,
    where: Callable[[str, nn.Module], bool] | None = None,
) -> "Tent":
    """Adapt `model` to each batch that it predicts by one step down the entropy of its predictions.

    `predictions = tent(model)(batch)`: the model normalizes by the statistics of the batch, and the step changes the
    scales and shifts of its batch norm layers, nothing else. All modules are in evaluation mode, so dropout is off;
    elsewhere the whole model is put in training mode, which drops units of the predictions too. Running statistics are
    neither used nor moved.

    arXiv 2006.10726, section 3.

    Args:
        model: any module with batch norm layers, torch's or ours, that returns logits (N, K, ...).
        optimizer: from a list of parameters to an optimizer; None: Adam with learning rate 0.001, the authors' choice.
        forward: how to get logits for a batch, `forward(model, batch)`.
        where: called with the path and the layer; only layers for which it is true are adapted.

    Returns:
        A callable from batches to logits; `reset()` brings the source model back, and the next call starts from it.

    Raises:
        ValueError: where no layer has a scale or shift, and as `prediction_time`.
    """
    return Tent(model, optimizer, forward, where)


class Tent(Adaptation):
    """See `tent`. Until `reset`, the model itself predicts by the statistics of the batch too."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: _MakeOptimizer | None = None,
        forward: Forward | None = None,
        where: Callable[[str, nn.Module], bool] | None = None,
    ) -> None:
        own = {parameter for layer in layers_to_adapt(model, where) for parameter in layer.parameters()}
        self._adapted = [parameter for parameter in model.parameters() if parameter in own]
        if not self._adapted:
            raise ValueError("no batch norm layer of the model has a scale or shift to adapt")
        self._model, self._forward, self._where = model, forward, where
        self.optimizer = Adam(self._adapted, lr=1e-3) if optimizer is None else optimizer(self._adapted)
        """It moves the scales and shifts."""
        self._optimizer_before = copy.deepcopy(self.optimizer.state_dict())
        self._started: tuple[Snapshot, Adaptation] | None = None
        self._start()

    def __call__(self, batch: Any) -> Tensor:
        """Logits for `batch`, as before the step that is then taken.

        Args:
            batch: what `forward` takes; without it, the input, or a tuple or list that begins with it.
        """
        if self._started is None:
            self._start()
        # Inference mode is left for the step as well: the optimizer could not go on with what it keeps from there.
        with torch.inference_mode(False):
            with torch.enable_grad(), _only_these_require_grad(self._model, self._adapted):
                logits: Tensor = run(self._model, batch, self._forward)
                gradients = torch.autograd.grad(_entropy(logits), self._adapted, allow_unused=True)
            self._step(gradients)
            return logits.detach()

    def _step(self, gradients: tuple[Tensor | None, ...]) -> None:
        """By these gradients; those that the parameters have are somebody else's."""
        before = [parameter.grad for parameter in self._adapted]
        try:
            for parameter, gradient in zip(self._adapted, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.step()
        finally:
            for parameter, own in zip(self._adapted, before, strict=True):
                parameter.grad = own

    def reset(self) -> None:
        """Make the model and the optimizer what they were; the next call adapts from there again."""
        if self._started is None:
            return
        snapshot, by_batch = self._started
        by_batch.reset()
        snapshot.restore()
        # A copy, since the optimizer goes on with the tensors that it loads.
        self.optimizer.load_state_dict(copy.deepcopy(self._optimizer_before))
        self._started = None

    def _start(self) -> None:
        snapshot = Snapshot(self._model, [*self._adapted, *self._model.buffers()])
        self._started = snapshot, prediction_time(self._model, where=self._where)
        for module in self._model.modules():
            module.training = False


@contextmanager
def _only_these_require_grad(model: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Nothing is kept for gradients that nobody asks for."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    chosen = set(parameters)
    try:
        for parameter, _ in before:
            parameter.requires_grad_(parameter in chosen)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def _entropy(logits: Tensor) -> Tensor:
    """The mean entropy of the predictions (N, K, ...), over all but the class axis; half precision in single."""
    logarithms = logits.to(statistics_dtype(logits.dtype)).log_softmax(1)
    # A class of probability 0 adds nothing, and neither does its gradient: 0 times minus infinity would be NaN.
    finite = logarithms.clamp_min(torch.finfo(logarithms.dtype).min)
    return -(logarithms.exp() * finite).sum(1).mean()
