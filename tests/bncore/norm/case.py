"""What the contract suite has to be told of a layer: how to make it, and what its paper says it computes.

A case is one layer in one configuration for 4 channels. Files in `cases/` hold them in a list `CASES`; the suite finds
the files by itself, and fails for a layer of `bncore.norm` that has no case.
"""

import copy
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

CHANNELS = 4
SHAPES: tuple[tuple[int, ...], ...] = ((12, 4), (6, 4, 3), (5, 4, 3, 2), (4, 4, 2, 3, 2))
Oracle = Callable[[nn.Module, Tensor], Tensor]
"""From a layer as it is before its forward pass, and a float64 batch, to what it has to return."""


@dataclass(frozen=True)
class Case:
    """Attributes that are left out mean the strictest promise that a layer can make."""

    name: str
    make: Callable[[], nn.Module]
    """The layer for 4 channels, as a user makes it; the suite then moves its parameters and statistics."""
    training: Oracle
    evaluation: Oracle | None = None
    """None: what `training` says; a layer without state computes the same in both modes."""
    statistics: Callable[[nn.Module, Tensor], dict[str, Tensor]] | None = None
    """The buffers after one training step, by name; None where there are no buffers."""
    arrange: Callable[[nn.Module], None] | None = None
    """Further state to set, after the suite has moved all parameters and statistics."""
    shapes: tuple[tuple[int, ...], ...] = SHAPES
    """Shapes with 4 channels that the definition admits."""
    loads_into_torch: bool = False
    """Whether its state_dict loads strictly into `torch.nn.BatchNorm*` and back."""
    orders: int = 2
    """Orders of derivative by reverse mode: 1 where the paper defines the backward pass itself."""
    third_order: bool = True
    """Whether derivatives of every order are right under `torch.func`."""
    trains_exported: bool = True
    """Whether an exported program has its gradient: where that is the derivative of the forward pass."""
    averages_gradients: bool = False
    """Whether a backward pass uses averages that earlier backward passes left: their order then matters."""
    permutes: bool = True
    """Whether permuting the samples permutes the outputs."""
    ignores_scale: bool = False
    """Whether layer(a x + b) = sign(a) layer(x) in training but for eps, scale and shift; batch statistics."""
    ignores_offset: bool = True
    """Whether adding a constant to all of x changes nothing in training."""
    large_mean: bool = True
    """Whether it has to keep the digits of x minus its mean when the mean is large: where it subtracts a mean."""
    rival: Callable[[], nn.Module] | None = None
    """torch's own layer for 4 channels, whose digits at a large mean it has to keep; None: batch norm."""
    one_value: str = "refused"
    """One value per channel: `refused` in training, `always refused`, or `allowed`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The largest shape below rank 5 that it admits: images where it can."""
        return max((shape for shape in self.shapes if len(shape) < 5), key=len)

    def prepared(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The layer in training mode, no parameter or statistic at a value that hides a mistake; the same each time."""
        layer = self.make().double()
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
            for name, buffer in layer.named_buffers():
                draw = torch.randn(buffer.shape, generator=generator, dtype=torch.float64)
                if name.endswith("running_mean"):
                    buffer.add_(0.5 * draw)
                elif name.endswith("running_var"):
                    buffer.mul_((0.3 * draw).exp())
            if self.arrange is not None:
                self.arrange(layer)
        return layer.to(dtype).train()

    def expected(self, layer: nn.Module, x: Tensor) -> Tensor:
        """What its paper says, in the mode that it is in."""
        if layer.training or self.evaluation is None:
            return self.training(layer, x)
        return self.evaluation(layer, x)


def cases() -> list[Case]:
    """The cases of every file in `cases/`."""
    names = sorted(path.stem for path in (Path(__file__).parent / "cases").glob("*.py"))
    found = [importlib.import_module(f"tests.bncore.norm.cases.{name}").CASES for name in names if name != "__init__"]
    return [case for one in found for case in one]


def sample(shape: tuple[int, ...], seed: int = 11) -> Tensor:
    """A float64 batch whose mean and spread are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * 1.7 + 0.6


def twin(layer: nn.Module) -> nn.Module:
    """A copy that shares nothing."""
    return copy.deepcopy(layer)


def per_channel(vector: Tensor, like: Tensor) -> Tensor:
    """A vector (C,) shaped to broadcast against a batch."""
    return vector.reshape(1, -1, *(1,) * (like.dim() - 2))


def batch_axes(x: Tensor) -> tuple[int, ...]:
    """All axes but the channel axis."""
    return tuple(axis for axis in range(x.dim()) if axis != 1)


def standardized(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Centred and divided by sqrt(biased variance + eps)."""
    mean = x.mean(axes, keepdim=True)
    var = ((x - mean) ** 2).mean(axes, keepdim=True)
    return (x - mean) / (var + eps) ** 0.5


def affine(layer: nn.Module, x: Tensor) -> Tensor:
    """Times the layer's `weight`, plus its `bias`, where it has them."""
    weight, bias = getattr(layer, "weight", None), getattr(layer, "bias", None)
    if weight is not None:
        x = x * per_channel(weight, x)
    if bias is not None:
        x = x + per_channel(bias, x)
    return x


def batch_norm_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    """Plain batch norm with the running statistics: the evaluation of nearly every layer with batch statistics."""
    return affine(
        layer, (x - per_channel(layer.running_mean, x)) / per_channel(layer.running_var + layer.eps, x) ** 0.5
    )


def batch_norm_statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """torch's rule: exponential averages of the mean and the unbiased variance."""
    seen = layer.num_batches_tracked + 1
    weight = 1.0 / seen.double() if layer.momentum is None else layer.momentum
    axes = batch_axes(x)
    return {
        "running_mean": layer.running_mean + weight * (x.mean(axes) - layer.running_mean),
        "running_var": layer.running_var + weight * (x.var(axes, correction=1) - layer.running_var),
        "num_batches_tracked": seen,
    }
