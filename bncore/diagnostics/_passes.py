"""What is caught of a pass that has its graph: weights as the layers used them, what came into them and out of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.diagnostics._passage import Matrix, Passage
from bncore.diagnostics._probe import Probe, gradients


@dataclass
class Caught:
    """Of a pass: by matrix (its number), the weights that were used; by call of a layer, its input and output."""

    weights: dict[int, Tensor] = field(default_factory=dict)
    calls: dict[nn.Module, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)


@contextmanager
def catching(matrices: tuple[Matrix, ...], layers: tuple[nn.Module, ...] = ()) -> Iterator[Caught]:
    """Within it, one pass is caught. What layers put out goes on as a copy, as their neighbours may work in place.

    Weights that are computed are computed once, so that gradients by them are those of the pass.
    """
    caught = Caught()

    def keep(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        if not output.requires_grad:
            # Behind frozen layers alone: it can be asked for all the same.
            output = output.detach().requires_grad_()
        caught.calls.setdefault(layer, []).append((args[0], output))
        return output.clone()

    with ExitStack() as until:
        until.enter_context(parametrize.cached())
        for layer in layers:
            until.callback(layer.register_forward_hook(keep).remove)
        until.callback(_watch(matrices, caught))
        yield caught


def by_weights(probe: Probe, passed: Passage) -> tuple[list[Tensor | None], list[Tensor]]:
    """The gradient of the loss by each matrix as the layers use it, None where that is frozen, and these matrices.

    Raises ValueError where all is frozen.
    """
    assert probe.learning
    with catching(passed.matrices) as caught:
        loss = probe.loss()
        weights = [caught.weights[number] for number in range(len(passed.matrices))]
        learning = [number for number, weight in enumerate(weights) if weight.requires_grad]
        found: list[Tensor | None] = [None] * len(weights)
        for number, gradient in zip(learning, gradients(loss, [weights[at] for at in learning]), strict=True):
            found[number] = gradient
    return found, [weight.detach() for weight in weights]


def applied(layer: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What a linear layer or a convolution makes of x with these weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    found: Tensor = layer._conv_forward(x, weight, bias)
    return found


def is_plain(layer: nn.Module) -> bool:
    """Whether `applied` knows the layer."""
    return isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _watch(matrices: tuple[Matrix, ...], caught: Caught) -> Callable[[], None]:
    """Take the weights after the pass of the layer that uses them; what to call when that is over."""
    handles = []
    for number, matrix in enumerate(matrices):

        def take(*_: Any, number: int = number, matrix: Matrix = matrix) -> None:
            caught.weights[number] = matrix.value

        handles.append(matrix.holder.register_forward_hook(take))

    def over() -> None:
        for handle in handles:
            handle.remove()

    return over
