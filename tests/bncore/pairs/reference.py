"""What a program has to observe, by plain eager code: no `.grad`, no optimizer, no wrapper, no function of the library
but `convert` on its own; layers are frozen and measured by hand, and processes are copies that take turns.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bncore.norm import FrozenBatchNorm, convert, recalibrate
from tests.bncore.norm.case import sample
from tests.bncore.pairs.network import Network
from tests.bncore.pairs.subjects import Subject

Observed = dict[str, Tensor]
STEPS = 2
EVENT = 1
"""The step before which what happens to a model happens."""
RATE = 0.05


def dtype_of(features: Sequence[str]) -> torch.dtype:
    """autocast leaves double precision alone."""
    return torch.float32 if {"amp", "single"} & {*features} else torch.float64


def batch(subject: Subject, step: int, dtype: torch.dtype) -> Tensor:
    """The whole batch of a step; the one after the last is for evaluation."""
    return sample(subject.shape, seed=20 + step).to(dtype)


def parts(whole: Tensor, world: int, count: int) -> list[list[Tensor]]:
    """Micro-batches by process."""
    return [list(share.chunk(count)) for share in whole.chunk(world)]


def objective(y: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Its mean over micro-batches and processes is that of the whole batch."""
    return y.to(dtype).sin().mean() / count


def target(model: nn.Module) -> dict[str, str]:
    """What the layer of a network is converted to: something that it is not."""
    return {"kind": "batch_renorm" if type(model.norm).__name__ == "BatchNorm" else "batch_norm"}


def calibration(subject: Subject, dtype: torch.dtype) -> list[Tensor]:
    """The batches that statistics are measured on."""
    return [batch(subject, 10 + number, dtype) for number in range(2)]


def reference(subject: Subject, features: Sequence[str], world: int = 1) -> Observed:
    """By the features that change what is computed, in the order in which they happen; of process 0."""
    return _Reference(subject, features, world).run()


class _Reference:
    """One network for each process, or one for all of them where they normalize as one."""

    def __init__(self, subject: Subject, features: Sequence[str], world: int) -> None:
        self.subject, self.features, self.world = subject, features, world
        self.dtype = dtype_of(features)
        self.count = 2 if "accumulation" in features else 1
        self.together = subject.synchronized
        self.frozen: list[str] = []
        self.first = subject.network(self.dtype)
        self.first.autocast = "amp" in features
        self.others: list[Network] = []

    def run(self) -> Observed:
        found: Observed = {}
        for step in range(STEPS + 1):
            if step == EVENT:
                self._events()
            self._start(training=step < STEPS)
            gradients, seen = _passes([self.first, *self.others], self._shares(step), self.dtype)
            found |= {f"{step}.{name}": self._of_first(name, value) for name, value in seen.items()}
            found |= {f"{step}.grad.{name}": value for name, value in gradients.items()}
            if step < STEPS:
                with torch.no_grad():
                    for name, gradient in gradients.items():
                        self.first.get_parameter(name).sub_(gradient, alpha=RATE)
            found |= {f"{step}.state.{name}": value.clone() for name, value in self.first.state_dict().items()}
        return found

    def _events(self) -> None:
        for feature in self.features:
            if feature in EVENTS:
                EVENTS[feature](self.first, self.frozen, self.subject, self.dtype)
        self.together = self.together and "convert" not in self.features

    def _start(self, *, training: bool) -> None:
        """Processes begin a step with the same parameters and statistics, those of the first."""
        self.first.train(training)
        for name in self.frozen:
            self.first.get_submodule(name).eval()
        self.others = [copy.deepcopy(self.first) for _ in range(1, 1 if self.together else self.world)]

    def _shares(self, step: int) -> list[list[Tensor]]:
        shares = parts(batch(self.subject, step, self.dtype), self.world, self.count)
        return [[torch.cat(micro) for micro in zip(*shares, strict=True)]] if self.together else shares

    def _of_first(self, name: str, value: Tensor) -> Tensor:
        """Of what was computed together, the part of the first process, whose objective is a mean over its own part."""
        if not self.together:
            return value
        return value.chunk(self.world)[0] * (self.world if name.endswith(".x") else 1)


def _passes(
    replicas: list[Network], shares: list[list[Tensor]], dtype: torch.dtype
) -> tuple[dict[str, Tensor], Observed]:
    """Gradients averaged over processes and summed over micro-batches; outputs and inputs' gradients of the first."""
    total: dict[str, Tensor] = {}
    seen: Observed = {}
    for number, (network, share) in enumerate(zip(replicas, shares, strict=True)):
        learned = {name: one for name, one in network.named_parameters() if one.requires_grad}
        for micro, values in enumerate(share):
            x = values.clone().requires_grad_()
            y = network(x)
            into_x, *into = torch.autograd.grad(objective(y, len(share), dtype), [x, *learned.values()])
            for name, value in zip(learned, into, strict=True):
                total[name] = total.get(name, 0) + value / len(replicas)
            if number == 0:
                seen |= {f"{micro}.y": y.detach(), f"{micro}.x": into_x}
    return total, seen


def _freeze(network: Network, frozen: list[str], subject: Subject, dtype: torch.dtype) -> None:
    for name, module in network.named_modules():
        averages = any(buffer.startswith("running_") for buffer in module._buffers)
        if averages and not isinstance(module, FrozenBatchNorm):
            frozen.append(name)
            for parameter in module.parameters():
                parameter.requires_grad_(False)


def _recalibrate(network: Network, frozen: list[str], subject: Subject, dtype: torch.dtype) -> None:
    """One layer, so its inputs in training do not depend on any statistics."""
    seen: list[Tensor] = []
    other = copy.deepcopy(network).eval()
    other.norm.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    for one in calibration(subject, dtype):
        other(one)
    alone = copy.deepcopy(network.norm).train()
    recalibrate(alone, seen)
    network.norm.load_state_dict(alone.state_dict())


def _convert(network: Network, frozen: list[str], subject: Subject, dtype: torch.dtype) -> None:
    convert(network, target(network))


EVENTS: dict[str, Callable[[Network, list[str], Subject, torch.dtype], None]] = {
    "freeze": _freeze,
    "recalibrate": _recalibrate,
    "convert": _convert,
}
