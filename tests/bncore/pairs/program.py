"""A training run with features, any number of them, each as its users switch it on; what it observes is named as in
`reference`.
"""

import copy
import gc
import pickle
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.parallel import DistributedDataParallel

from bncore.norm import convert, freeze, recalibrate
from tests.bncore.pairs.network import Tagged
from tests.bncore.pairs.reference import (
    EVENT,
    RATE,
    STEPS,
    Observed,
    batch,
    calibration,
    dtype_of,
    objective,
    parts,
    target,
)
from tests.bncore.pairs.subjects import Subject


class Program:
    """One run; `world` processes, of which this is number `rank`, where `ddp` is on."""

    def __init__(self, subject: Subject, features: Sequence[str], rank: int = 0, world: int = 1) -> None:
        self.subject, self.features, self.rank, self.world = subject, features, rank, world
        self.dtype = dtype_of(features)
        self.count = 2 if "accumulation" in features else 1
        self.model: Any = subject.network(self.dtype)
        self.model.in_place = "in_place" in features
        self.model.autocast = "amp" in features
        reentrant = {"checkpoint_reentrant": True, "checkpoint": False}
        self.model.checkpoints = tuple(reentrant[one] for one in features if one in reentrant)
        if "channels_last" in features and subject.rank == 4:
            self.model.to(memory_format=torch.channels_last)
        self.owner: Any = self.model
        self.called: Any = None

    def run(self) -> Observed:
        found: Observed = {}
        for step in range(STEPS + 1):
            if step == EVENT:
                self._events()
            training = step < STEPS
            self.model.train(training)
            shares = parts(batch(self.subject, step, self.dtype), self.world, self.count)[self.rank]
            self._wrap(self._input(shares[0]))
            self.owner.zero_grad()
            for micro, values in enumerate(shares):
                y, into_x = self._pass(values, last=micro == len(shares) - 1)
                found |= {f"{step}.{micro}.y": y, f"{step}.{micro}.x": into_x}
            self._average_by_hand()
            learned = [(name, one) for name, one in self.owner.named_parameters() if one.requires_grad]
            found |= {f"{step}.grad.{name}": _plain(one.grad).clone() for name, one in learned}
            if training:
                with torch.no_grad():
                    for _, parameter in learned:
                        parameter.sub_(parameter.grad, alpha=RATE)
            self._back_into_model()
            found |= {f"{step}.state.{name}": _plain(one).clone() for name, one in self.model.state_dict().items()}
        return found

    def _events(self) -> None:
        before = self.model
        self.model.zero_grad()
        self.called, self.owner = (self.called, self.owner) if "compile" in self.features else (None, self.model)
        gc.collect() if "ddp" in self.features else None
        for feature in self.features:
            if feature == "freeze":
                freeze(self.model)
            elif feature == "recalibrate":
                recalibrate(self.model, [self._input(one) for one in calibration(self.subject, self.dtype)])
            elif feature == "convert":
                convert(self.model, target(self.model))
            elif feature == "deepcopy":
                self.model = copy.deepcopy(self.model)
            elif feature == "pickle":
                self.model = pickle.loads(pickle.dumps(self.model))
        if self.model is not before or not self._keeps_what_is_called():
            self.called = None

    def _keeps_what_is_called(self) -> bool:
        """A compiled model sees what happens to it; an exported one and one of several processes are made anew."""
        return not {"export", "ddp"} & {*self.features}

    def _wrap(self, x: Tensor) -> None:
        """Around the model as it is now."""
        if "export" in self.features:
            self.owner = torch.export.export(self.model, (x,)).module()
            self.called = None
        else:
            self.owner = self.model
        if self.called is not None:
            self.called.train(self.model.training) if isinstance(self.called, nn.Module) else None
            return
        self.called = self.owner
        if "ddp" in self.features and not self._by_transform():
            self.called = DistributedDataParallel(self.owner)
        if "vmap" in self.features or "functional" in self.features:
            self.called = self._transformed()
        if "compile" in self.features:
            self.called = torch.compile(self.called, backend="aot_eager")

    def _by_transform(self) -> bool:
        """Whether gradients come out of `torch.func`, which nothing else sees."""
        return bool({"functional", "vmap"} & {*self.features})

    def _transformed(self) -> Callable[..., Any]:
        owner = self.owner

        def loss(parameters: Any, x: Tensor, buffers: Any) -> tuple[Tensor, Tensor]:
            y = functional_call(owner, (parameters, buffers), (x,))
            return objective(y, self.count, self.dtype), y.detach()

        if "functional" in self.features:
            run = grad_and_value(loss, argnums=(0, 1), has_aux=True)
            return vmap(run) if "vmap" in self.features else run
        return vmap(lambda parameters, x, buffers: functional_call(owner, (parameters, buffers), (x,)))

    def _pass(self, values: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Output and the input's gradient; parameters' gradients are added to `.grad`."""
        x = self._input(values)
        if self._by_transform():
            return self._pass_by_transform(x)
        x.requires_grad_()
        is_ddp = isinstance(self.called, DistributedDataParallel)
        with self.called.no_sync() if is_ddp and not last else nullcontext():
            y = self.called(x)
            assert type(y) is type(x), f"{type(x).__name__} became {type(y).__name__}"
            objective(y, self.count, self.dtype).backward()
        return _plain(y), _plain(x.grad)

    def _pass_by_transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        every = {name: one.detach() for name, one in self.owner.named_parameters()}
        buffers = {name: one.detach().clone() for name, one in self.owner.named_buffers()}
        learned = {name for name, one in self.owner.named_parameters() if one.requires_grad}
        if "vmap" in self.features:
            every, buffers = ({name: _twice(one) for name, one in many.items()} for many in (every, buffers))
            x = _twice(x)
        if "functional" in self.features:
            (into, into_x), (_, y) = self.called(every, x, buffers)
        else:
            wanted = [x.requires_grad_(), *(every[name].requires_grad_() for name in learned)]
            y = self.called(every, x, buffers)
            objective(y[0], self.count, self.dtype).backward()
            into_x, into = x.grad, {name: one.grad for name, one in every.items()}
            del wanted
        if "vmap" in self.features:
            y, into_x = y[0], into_x[0]
            buffers = {name: one[0] for name, one in buffers.items()}
            into = {name: one[0] for name, one in into.items() if one is not None}
        for name, parameter in self.owner.named_parameters():
            if name in learned:
                parameter.grad = into[name].clone() if parameter.grad is None else parameter.grad + into[name]
        for name, buffer in self.owner.named_buffers():
            buffer.copy_(buffers[name])
        # torch's transforms take subclasses off.
        return _plain(y), _plain(into_x)

    def _average_by_hand(self) -> None:
        """What DistributedDataParallel would do, where it sees no gradients."""
        if "ddp" not in self.features or not self._by_transform():
            return
        for parameter in self.owner.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world
        for buffer in self.owner.buffers():
            dist.broadcast(buffer, 0)

    def _back_into_model(self) -> None:
        if self.owner is self.model:
            return
        state = self.owner.state_dict()
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                value.copy_(state[name])

    def _input(self, values: Tensor) -> Tensor:
        x = values.clone()
        if "channels_last" in self.features and x.dim() > 2:
            x = x.movedim(1, -1).contiguous().movedim(-1, 1)
        return x.as_subclass(Tagged) if "subclass" in self.features else x


def _twice(one: Tensor) -> Tensor:
    """This member of an ensemble, and another one."""
    other = one * 1.25 if one.is_floating_point() else one
    return torch.stack((one, other)).detach()


def _plain(one: Tensor) -> Tensor:
    return one.detach().as_subclass(Tensor)
