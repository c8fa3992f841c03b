"""The primitives of networks, without torch: what comes out of each, what it learns, and what it cannot work with.

`bncore.networks` has a module for each of them. Pointers name fields of the network's spec, from the network on.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal

from bncore.spec.blueprint.layer import Layer
from bncore.spec.blueprint.sequences import SequencePrimitive
from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.norm import NoNorm, NormSpec

ActivationName = Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "identity"]


@dataclass(frozen=True, kw_only=True)
class Weights(Layer):
    """What linear and convolutional layers share; `weight_norm` is applied where it is one of weights."""

    width: int
    bias: bool = True
    init: InitSpec = field(default_factory=DefaultInit)
    weight_norm: NormSpec = field(default_factory=NoNorm)

    @abstractmethod
    def fan_in(self, signal: Signal) -> int:
        """Weights of one unit."""

    def parameters(self, signal: Signal) -> int:
        own = (self.fan_in(signal) + int(self.bias)) * self.width
        return own + self.weight_norm.weight_parameters(self.width)


@dataclass(frozen=True, kw_only=True)
class Linear(Weights):
    """y = W x + b on vectors (C,), and on each step of sequences (T, C)."""

    @property
    def kind(self) -> str:
        return "linear"

    def output(self, signal: Signal) -> Signal:
        if signal.kind == "sequence":
            return replace(signal, shape=(signal.steps, self.width))
        return Signal((self.width,), signal.kind)

    def fan_in(self, signal: Signal) -> int:
        return signal.channels


@dataclass(frozen=True, kw_only=True)
class Conv2d(Weights):
    """A convolution of images (C, H, W) with stride 1 and same padding."""

    kernel_size: int

    @property
    def kind(self) -> str:
        return "conv2d"

    def output(self, signal: Signal) -> Signal:
        return Signal((self.width, *signal.shape[1:]), signal.kind)

    def fan_in(self, signal: Signal) -> int:
        return signal.channels * self.kernel_size**2


@dataclass(frozen=True, kw_only=True)
class Pool(Layer):
    """2x2 pooling with stride 2; `place` and `cure` word what is wrong with an image that is too small."""

    how: Literal["max", "average"]
    pointer: str = ""
    place: str = ""
    cure: str = ""

    @property
    def kind(self) -> str:
        return f"{self.how}_pool"

    def output(self, signal: Signal) -> Signal:
        channels, height, width = signal.shape
        return Signal((channels, height // 2, width // 2), signal.kind)

    def misfit(self, signal: Signal) -> Fault | None:
        _, height, width = signal.shape
        if min(height, width) >= 2:
            return None
        return Fault(self.pointer, f"{self.place} would pool a {height}x{width} image; {self.cure}", "image_too_small")


@dataclass(frozen=True, kw_only=True)
class GlobalPool(Layer):
    """The average over all positions: (C, H, W) to (C, 1, 1)."""

    @property
    def kind(self) -> str:
        return "global_average_pool"

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.channels, 1, 1), signal.kind)


@dataclass(frozen=True, kw_only=True)
class Flatten(Layer):
    """All values of an example as one vector."""

    @property
    def kind(self) -> str:
        return "flatten"

    def output(self, signal: Signal) -> Signal:
        return Signal((math.prod(signal.shape),), "vector")


@dataclass(frozen=True, kw_only=True)
class Activation(Layer):
    """Applied to each value."""

    name: ActivationName

    @property
    def kind(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Dropout(Layer):
    """Zeroes a value with this probability in training."""

    probability: float

    @property
    def kind(self) -> str:
        return "dropout"


@dataclass(frozen=True, kw_only=True)
class Norm(Layer):
    """A normalization, and its neighbours as far as it may object to them.

    One that has no layer (`none`, and those of weights) says what it has against its place, and leaves nothing there.
    `stream` names what it draws from; `common_divisor` divides the channels of every layer with the same spec.
    """

    spec: NormSpec
    stream: int | str
    pointer: str = ""
    width_pointer: str = ""
    activation: ActivationName = "identity"
    placement: str = "before_activation"
    common_divisor: int = 0

    @property
    def kind(self) -> str:
        return self.spec.kind

    def parameters(self, signal: Signal) -> int:
        return self.spec.parameters(signal.channels)


WithoutWeights = Pool | GlobalPool | Flatten | Activation | Dropout
Primitive = Linear | Conv2d | Norm | WithoutWeights | SequencePrimitive


@dataclass(frozen=True)
class Chain:
    """Layers one behind the other, by name."""

    layers: tuple[tuple[str, "Primitive | Chain | Residual"], ...] = ()


@dataclass(frozen=True)
class Residual:
    """`body(x) + shortcut(x)`; a shortcut without layers is x itself. `pointer` names the field that decides shapes."""

    body: Chain
    shortcut: Chain = field(default_factory=Chain)
    pointer: str = ""
