"""One network on one device."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bncore.data import Batches, DataSet, Examples, Part
from bncore.networks import build_network
from bncore.norm import no_decay_parameters
from bncore.norm.adaptive_clipping import adaptive_clip_grad_
from bncore.spec import ExperimentSpec, Plan, Statistics, data_shape
from bncore.spec.diagnostics import DiagnosticSpec
from bncore.train.checkpoint import HostState, read_others, read_state, read_weights, write_state, write_weights
from bncore.train.ema import Ema
from bncore.train.evaluate import equal_parts, evaluate, nothing_measured, outputs_of, slices, using
from bncore.train.learner import Found, Stepped
from bncore.train.measuring import KEPT, Measuring
from bncore.train.optim import LearningRate, build_optimizer
from bncore.train.scaling import LossScale
from bncore.train.starting import freeze_part, load_start
from bncore.train.task import Kept, build_task, descended


class Solo:
    """A learner of the experiment `spec`, in training mode but while it is measured."""

    def __init__(self, spec: ExperimentSpec, planned: Plan, device: torch.device, data: DataSet) -> None:
        self.task = build_task(planned.task, spec.loss)
        self._spec = spec
        self._device = device
        self._data = data.to(device)
        train = spec.train
        self._network = _built(spec, planned, device)
        # Each size of a batch is compiled by itself: a kernel for all sizes, made when a second one comes, would make
        # the numbers depend on which came before. State and evaluation are those of the network as it is written.
        self._forward: Callable[..., Tensor] = self._network
        if spec.resources.compile:
            self._forward = torch.compile(self._network, dynamic=False)
        self._parameters = list(self._network.parameters())
        # As in arXiv 2102.06171, adaptive clipping leaves the last, linear layer alone.
        self._hidden = [value for name, value in self._network.named_parameters() if not name.startswith("output.")]
        spared = no_decay_parameters(self._network)
        self._optimizer = build_optimizer(spec.optimizer, self._parameters, spared)
        self._rate = LearningRate(self._optimizer, spec.optimizer, spec.schedule, planned.total_steps)
        self._batches = Batches(
            self._data.train,
            train.batch_size,
            train.seed,
            train.drop_last,
            sampler=spec.data.sampler,
            augment=spec.data.augment,
        )
        self._autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if train.precision != "fp32":
            dtype = torch.bfloat16 if train.precision == "bf16" else torch.float16
            self._autocast = torch.autocast(device.type, dtype)
        self._scale = LossScale(device) if train.precision == "fp16" else None
        self._in_batches: Iterable[Examples] = ()
        if "precise" in spec.evaluation.statistics:
            # Normalized together in training, at the least.
            together = min(train.micro_batches(train.batch_size))
            self._in_batches = equal_parts(self._data.train, planned.train_examples // together)
        self._ema = None if train.ema is None else Ema(self._network, train.ema.decay)
        self._measuring = Measuring(spec, planned, self._network, self.task, self._data)

    def take_step(self, step: int) -> Stepped:
        batch = self._batches.batch(step)
        lr = self._rate.set(step)
        # What `zero_grad` does, without the 10 us that it takes for its profiling.
        for parameter in self._parameters:
            parameter.grad = None
        loss, kept = self._descend(batch) if self._spec.train.accumulate == 1 else self._accumulate(batch)
        if self._scale is None:
            self._clip()
            self._optimizer.step()
        else:
            self._scale.unscale(self._optimizer)
            self._clip()
            self._scale.step(self._optimizer)
        if self._ema is not None:
            self._ema.update(step)
        return Stepped(loss, kept, lr)

    def wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def evaluate(self) -> dict[str, float]:
        values = self._measured("")
        if self._ema is not None:
            with self._ema.installed():
                values |= self._measured("@ema")
        return values

    def diagnose(self, asked: DiagnosticSpec, step: int, evaluated: Mapping[str, float], *, at_end: bool) -> Found:
        return self._measuring.found(asked, step, evaluated, at_end=at_end)

    def write_weights(self, path: Path, step: int) -> None:
        write_weights(path, self._network, self._spec, step, self._data.standardization)

    def write_state(self, path: Path, host: HostState) -> None:
        write_state(path, self._network, self._optimizer, host, self._others() | self._measuring.kept())

    def begin_from(self, weights: Path) -> None:
        start = self._spec.start_from
        assert start is not None
        load_start(weights, self._spec, start, self._network)

    def restore(self, weights: Path, state: Path) -> HostState:
        read_weights(weights, self._network)
        others = self._others()
        host = read_state(state, self._network, self._optimizer, others)
        if self._scale is not None:
            self._scale.restore(others)
        self._measuring.restore(read_others(state, KEPT))
        return host

    def _descend(self, batch: Examples, share: float | Tensor | None = None) -> tuple[Tensor, Kept]:
        """Add the gradients of the loss on a batch, or of `share` times it."""
        with self._autocast:
            outputs = outputs_of(self._forward, batch)
        loss = descended(self.task, outputs, batch)
        if share is not None:
            loss = loss * share
        if self._scale is None:
            loss.backward()
        else:
            self._scale.backward(loss)
        return loss.detach(), self.task.kept(outputs, batch)

    def _accumulate(self, batch: Examples) -> tuple[Tensor, Kept]:
        """The same for a batch in parts, one after the other: the mean over all that counts in it."""
        sizes = self._spec.train.micro_batches(len(batch.inputs))
        ends = itertools.accumulate(sizes)
        parts = [batch.slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        whole = self.task.weight(batch)
        losses, kept = zip(*(self._descend(part, self.task.weight(part) / whole) for part in parts), strict=True)
        return torch.stack(losses).sum(), tuple(map(torch.cat, zip(*kept, strict=True)))

    def _measured(self, suffix: str) -> dict[str, float]:
        """Of the network as it is now, every part with every kind of statistics."""
        values: dict[str, float] = {}
        for statistics in self._spec.evaluation.statistics:
            end = suffix if statistics == "running" else f"{suffix}@{statistics}"
            with using(statistics, self._network, self._in_batches) as usable:
                for part, examples in self._data.parts.items():
                    if part != "train":
                        found = self._evaluated(examples, statistics) if usable else nothing_measured(self.task)
                        values |= {f"{part}/{name}{end}": value for name, value in found.items()}
        return values

    def _evaluated(self, examples: Part, statistics: Statistics) -> dict[str, float]:
        size = self._spec.evaluation.batch_size
        parts = -(-examples.size // size)
        batches = slices(examples, size) if statistics == "running" else equal_parts(examples, parts)
        return evaluate(self._network, self.task, batches)

    def _others(self) -> dict[str, Tensor]:
        """What training keeps beside weights and optimizer."""
        others = {} if self._scale is None else self._scale.state()
        if self._ema is not None:
            others |= {f"ema/{name}": tensor for name, tensor in self._ema.averages.items()}
        return others

    def _clip(self) -> None:
        train = self._spec.train
        if train.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, train.clip_grad_norm)
        if train.adaptive_clipping is not None:
            adaptive_clip_grad_(self._hidden, train.adaptive_clipping)


def _built(spec: ExperimentSpec, planned: Plan, device: torch.device) -> nn.Sequential:
    """The network of the spec on its device, as it is before the first step, in training mode."""
    signal = data_shape(spec.data).signal
    network = build_network(spec.network, signal, planned.outputs, spec.train.seed, device).train()
    if spec.resources.channels_last:
        # Of weights that are convolved; what they put out has the same layout, and so on.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if spec.start_from is not None and spec.start_from.freeze is not None:
        freeze_part(network, spec.start_from.freeze)
    return network
