"""One network on one device."""

import contextlib
from pathlib import Path

import torch
from torch import nn

from bncore.data import Batches, DataSet
from bncore.networks import build_network
from bncore.norm import no_decay_parameters
from bncore.norm.adaptive_clipping import adaptive_clip_grad_
from bncore.spec import ExperimentSpec, Plan
from bncore.train.checkpoint import HostState, read_state, read_weights, write_state, write_weights
from bncore.train.evaluate import evaluate
from bncore.train.learner import Stepped
from bncore.train.optim import LearningRate, build_optimizer
from bncore.train.task import Classification


class Solo:
    """A learner of the experiment `spec`, in training mode but while it is measured."""

    def __init__(self, spec: ExperimentSpec, planned: Plan, device: torch.device, data: DataSet) -> None:
        self.task = Classification(spec.loss)
        self._spec = spec
        self._device = device
        self._data = data.to(device)
        train = spec.train
        self._network = build_network(spec.network, planned.input_shape, planned.classes, train.seed, device).train()
        self._parameters = list(self._network.parameters())
        # As in arXiv 2102.06171, adaptive clipping leaves the last, linear layer alone.
        self._hidden = [value for name, value in self._network.named_parameters() if not name.startswith("output.")]
        spared = no_decay_parameters(self._network)
        self._optimizer = build_optimizer(spec.optimizer, self._parameters, spared)
        self._rate = LearningRate(self._optimizer, spec.optimizer, spec.schedule, planned.total_steps)
        self._batches = Batches(self._data.train, train.batch_size, train.seed, train.drop_last)
        self._autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if train.precision == "bf16":
            self._autocast = torch.autocast(device.type, torch.bfloat16)

    def take_step(self, step: int) -> Stepped:
        batch = self._batches.batch(step)
        lr = self._rate.set(step)
        # What `zero_grad` does, without the 10 us that it takes for its profiling.
        for parameter in self._parameters:
            parameter.grad = None
        with self._autocast:
            outputs = self._network(batch.inputs)
        loss = self.task.loss(outputs, batch)
        loss.backward()
        self._clip()
        self._optimizer.step()
        return Stepped(loss.detach(), self.task.kept(outputs, batch), lr)

    def wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def evaluate(self) -> dict[str, float]:
        values = evaluate(self._network, self.task, self._data.test, self._spec.evaluation.batch_size)
        return {f"test/{name}": value for name, value in values.items()}

    def write_weights(self, path: Path, step: int) -> None:
        write_weights(path, self._network, self._spec, step)

    def write_state(self, path: Path, host: HostState) -> None:
        write_state(path, self._network, self._optimizer, host)

    def restore(self, weights: Path, state: Path) -> HostState:
        read_weights(weights, self._network)
        return read_state(state, self._network, self._optimizer)

    def _clip(self) -> None:
        train = self._spec.train
        if train.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, train.clip_grad_norm)
        if train.adaptive_clipping is not None:
            adaptive_clip_grad_(self._hidden, train.adaptive_clipping)
