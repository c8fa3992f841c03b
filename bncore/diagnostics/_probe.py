"""A private copy of a network with a batch: what every measurement works on.

Invariant: the network that is measured is read and not touched: its parameters, gradients, buffers, modes, hooks and
what its layers keep aside. Passes through the copy begin with the same buffers and the same random stream each, so that
dropout and layers with noise draw the same at every point where a loss is looked at. The random streams of all devices,
autocast and the modes of autograd are what they were when the measurement ends, also by an error.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bncore.norm.model.feed import Forward, uncompiled

Loss = Callable[[Tensor, Tensor], Tensor]
"""From outputs and labels to a mean over all that counts."""


class How(TypedDict, total=False):
    """What every diagnostic may be told besides the model and a batch.

    `lengths`: integers (N,), of padded sequences (N, T, ...); the model is then called as `model(inputs, lengths)`.
    `loss`: a mean over what counts; without it, `usual_loss`. `forward`: how to run the model instead,
    `forward(model, inputs)`. `seed`: of dropout and the like. `step`: what the recording says of its time.
    """

    lengths: Tensor | None
    loss: Loss | None
    forward: Forward | None
    seed: int
    step: int


class Probe:
    """The copy, in training mode unless parts of it were frozen in evaluation mode, and its batch."""

    def __init__(self, model: nn.Module, inputs: Any, labels: Tensor | None, how: How) -> None:
        self.network = _copy_of(model)
        if not self.network.training:
            self.network.train()
        self.inputs = _own(inputs)
        self.labels = None if labels is None else labels.clone()
        self.lengths = how.get("lengths")
        self._loss = how.get("loss") or usual_loss
        self._forward = how.get("forward")
        self._seed = how.get("seed", 0)
        self._buffers = [
            (module, name, buffer, buffer.clone())
            for module in self.network.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]

    @property
    def learning(self) -> dict[str, nn.Parameter]:
        """The parameters that get gradients, each once. Raises ValueError where there are none."""
        found = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        if not found:
            raise ValueError("no parameter of the model has requires_grad: all is frozen, and there are no gradients")
        return found

    def outputs(self) -> Tensor:
        """Of one pass over the batch that begins as every other, the first tensor that comes out."""
        self.begin()
        return self.run()

    def begin(self) -> None:
        """Back to the buffers of the model, and to the start of the random stream."""
        with torch.no_grad():
            for module, name, buffer, value in self._buffers:
                buffer.copy_(value)
                module._buffers[name] = buffer
        seed_all(self._seed)

    def run(self) -> Tensor:
        """The same of a pass with the network as it is now."""
        found = run_on(self.network, self.inputs, self._forward, self.lengths)
        while isinstance(found, tuple | list):
            found = found[0]
        if not isinstance(found, Tensor):
            raise ValueError(
                f"the model returns a {type(found).__name__}, no tensor; say by `forward` what counts of it"
            )
        return found

    def loss_of(self, outputs: Tensor) -> Tensor:
        """The loss () of outputs. Raises ValueError without labels."""
        if self.labels is None:
            raise ValueError("a loss needs labels, and none were given")
        return self._loss(outputs, self.labels)

    def loss(self) -> Tensor:
        """Of one pass, with its graph."""
        return self.loss_of(self.outputs())

    def gradient(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (), and by name its gradient by all that learns; zeros by what takes no part in it."""
        learning = self.learning
        loss = self.loss()
        return loss.detach().clone(), dict(zip(learning, gradients(loss, list(learning.values())), strict=True))

    @contextmanager
    def moved(self, by: Mapping[str, Tensor], distance: float) -> Iterator[None]:
        """Within it, parameters lie at w + distance * by[name]; after it they are what they were."""
        learning = self.learning
        before = {name: learning[name].detach().clone() for name in by}
        try:
            with torch.no_grad():
                for name, direction in by.items():
                    learning[name].copy_(before[name] + distance * direction.to(before[name].dtype))
            yield
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    learning[name].copy_(value)


def run_on(network: nn.Module, inputs: Any, forward: Forward | None, lengths: Tensor | None) -> Any:
    """What the network makes of the inputs, which it may not overwrite."""
    inputs = _own(inputs)
    if forward is not None:
        return forward(network, inputs)
    return network(inputs) if lengths is None else network(inputs, lengths)


@contextmanager
def probing(model: nn.Module, inputs: Any, labels: Tensor | None, how: How) -> Iterator[Probe]:
    """Within it, a copy of the model can be run and differentiated, whatever mode the caller is in.

    In the precision of the caller: within `torch.autocast`, in that of autocast. Its cache of weights is off, since the
    copy's weights move.

    Raises:
        ValueError: the model cannot be copied, or is not there yet (lazy, or on the meta device).
    """
    model = inside(model)
    for name, parameter in model.named_parameters():
        if is_lazy(parameter) or parameter.is_meta:
            raise ValueError(f"{name} has no values yet (lazy, or on the meta device); run the model on a batch first")
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with ExitStack() as until:
        until.enter_context(torch.random.fork_rng(devices=devices))
        until.enter_context(torch.inference_mode(False))
        until.enter_context(torch.enable_grad())
        until.enter_context(uncompiled())
        for kind in {"cpu", *(parameter.device.type for parameter in model.parameters())}:
            if torch.is_autocast_enabled(kind):
                dtype = torch.get_autocast_dtype(kind)
                until.enter_context(torch.autocast(kind, dtype=dtype, cache_enabled=False))
        yield Probe(model, inputs, labels, how)


def seed_all(seed: int) -> None:
    """The random streams of all devices."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        # Telling devices that are not there takes torch two milliseconds.
        torch.default_generator.manual_seed(seed)


def gradients(of: Tensor, by: list[Any], *, create_graph: bool = False) -> list[Tensor]:
    """Of a scalar by tensors, dense; zeros by those that it does not depend on."""
    if not by or not of.requires_grad:
        return [torch.zeros_like(one) for one in by]
    found = torch.autograd.grad(of, by, allow_unused=True, create_graph=create_graph)
    dense = [value.to_dense() if value is not None and value.is_sparse else value for value in found]
    return [torch.zeros_like(one) if value is None else value for one, value in zip(by, dense, strict=True)]


def usual_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy where labels are classes, the mean squared error where they are numbers; in float32 at least.

    Outputs (N, C) with classes (N,), (N, T, C) with (N, T), or, as `torch.nn.functional` has them, (N, C, ...) with
    (N, ...); labels below 0 do not count. Numbers have the shape of the outputs. Raises ValueError for others.
    """
    wide = outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs
    if labels.is_floating_point():
        if labels.shape != outputs.shape:
            raise ValueError(f"outputs {tuple(outputs.shape)} and numbers {tuple(labels.shape)} differ in shape")
        return F.mse_loss(wide, labels.to(wide.dtype))
    if outputs.dim() < 2:
        raise ValueError(f"outputs {tuple(outputs.shape)} are no scores of classes (N, C); give a loss")
    if outputs.shape[:-1] == labels.shape:
        wide, labels = wide.flatten(0, -2), labels.flatten()
    elif outputs.shape[:1] + outputs.shape[2:] != labels.shape:
        raise ValueError(f"outputs {tuple(outputs.shape)} do not fit classes {tuple(labels.shape)}; give a loss")
    return F.cross_entropy(wide, labels.clamp_min(-1), ignore_index=-1)


def _copy_of(model: nn.Module) -> nn.Module:
    # Some layers of torch hang what they computed on themselves, with its graph.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    # A module has a dozen dictionaries for hooks; copied one by one, the empty ones take half of the time.
    memo |= {
        id(value): OrderedDict()
        for module in model.modules()
        for value in vars(module).values()
        if type(value) is OrderedDict and not value
    }
    try:
        network = copy.deepcopy(model, dict(memo))
    except Exception:
        network = _copied_but_for_strangers(model, memo)
    for module in network.modules():
        if isinstance(module, nn.RNNBase):
            # One piece of memory, or cuDNN warns.
            module.flatten_parameters()
    return network


def _own(inputs: Any) -> Any:
    """The same values in memory that a model may overwrite."""
    if isinstance(inputs, Tensor):
        return inputs.clone()
    if isinstance(inputs, dict):
        return {name: _own(value) for name, value in inputs.items()}
    return type(inputs)(map(_own, inputs)) if type(inputs) in (tuple, list) else inputs


def inside(model: Any) -> nn.Module:
    """What torch has wrapped: a compiled model, or one that shares its gradients among processes."""
    while "_orig_mod" in model._modules or isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        model = model._orig_mod if "_orig_mod" in model._modules else model.module
    found: nn.Module = model
    return found


def _copied_but_for_strangers(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """What others hung on the layers and cannot be copied is shared with the copy."""
    own = ("_parameters", "_buffers", "_modules")
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in own and not _can_be_copied(value, memo):
                memo[id(value)] = value
    try:
        return copy.deepcopy(model, dict(memo))
    except Exception as error:
        raise ValueError(f"the model cannot be copied, and no other is measured: {error}") from error


def _can_be_copied(value: Any, memo: dict[int, Any]) -> bool:
    try:
        copy.deepcopy(value, dict(memo))
    except Exception:
        return False
    return True
