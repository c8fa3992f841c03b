"""The primitives of networks, without torch: what comes out of each, what it learns, and what it cannot work with.

`bncore.networks` has a module for each of them. Pointers name fields of the network's spec, from the network on.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from bncore.spec.blueprint.layer import Layer
from bncore.spec.blueprint.sequences import SequencePrimitive
from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault
from bncore.spec.init import DefaultInit, InitSpec
from bncore.spec.norm import NoNorm, NormSpec

ActivationName = Literal["sigmoid", "tanh", "relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "identity"]


@dataclass(frozen=True, kw_only=True)
class Weights(Layer):
    """What linear and convolutional layers share; `weight_norm` is applied where it is one of weights.

    `init_scale` multiplies whatever `init` draws.
    """

    width: int
    bias: bool = True
    init: InitSpec = field(default_factory=DefaultInit)
    init_scale: float = 1.0
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

    def misfit(self, signal: Signal) -> Fault | None:
        if signal.kind != "image":
            return None
        detail = f"A linear layer takes a vector, and meets {signal}; flatten first"
        return Fault(self.pointer, detail, "not_a_vector")


@dataclass(frozen=True, kw_only=True)
class Window(Layer):
    """What slides over an image (C, H, W) with stride; `place` and `cure` word that it is too small.

    With stride 2 an image of one pixel a side is too small: nothing would be left out.
    """

    kernel_size: int
    stride: int = 1
    place: str = ""
    cure: str = ""
    act: ClassVar[str]
    """What it would do to the image, in a word."""

    @property
    @abstractmethod
    def padding(self) -> int:
        """Zeros (for a maximum: minus infinities) on each side."""

    def slid(self, signal: Signal) -> tuple[int, int]:
        """Height and width of what comes out."""
        _, height, width = signal.shape
        reach = 2 * self.padding - self.kernel_size
        return (height + reach) // self.stride + 1, (width + reach) // self.stride + 1

    def misfit(self, signal: Signal) -> Fault | None:
        if signal.kind != "image":
            detail = f"It takes an image, and meets {signal}"
            return Fault(self.pointer or "/kind", detail, "not_an_image")
        _, height, width = signal.shape
        if min(height, width) >= max(self.stride, self.kernel_size - 2 * self.padding):
            return None
        detail = f"{self.place} would {self.act} a {height}x{width} image; {self.cure}"
        return Fault(self.pointer, detail, "image_too_small")


@dataclass(frozen=True, kw_only=True)
class Conv2d(Weights, Window):
    """A convolution with same padding: (C, H, W) to (width, ceil(H / stride), ceil(W / stride)) for an odd kernel."""

    groups: int = 1
    act: ClassVar[str] = "subsample"

    @property
    def kind(self) -> str:
        return "conv2d"

    @property
    def padding(self) -> int:
        return self.kernel_size // 2

    def output(self, signal: Signal) -> Signal:
        return Signal((self.width, *self.slid(signal)), signal.kind)

    def fan_in(self, signal: Signal) -> int:
        return signal.channels // self.groups * self.kernel_size**2

    def misfit(self, signal: Signal) -> Fault | None:
        if signal.kind == "image" and (signal.channels % self.groups or self.width % self.groups):
            both = f"{signal.channels} channels and {self.width}"
            cure = f"use a divisor of {math.gcd(signal.channels, self.width)}"
            detail = f"{self.groups} groups do not divide both {both}; {cure}"
            return Fault(f"{self.pointer}/groups", detail, "groups_do_not_divide")
        return super().misfit(signal)


@dataclass(frozen=True, kw_only=True)
class Pool(Window):
    """The maximum or the average of each window, 2x2 with stride 2 unless told otherwise."""

    how: Literal["max", "average"]
    kernel_size: int = 2
    stride: int = 2
    act: ClassVar[str] = "pool"

    @property
    def kind(self) -> str:
        return f"{self.how}_pool"

    @property
    def padding(self) -> int:
        return (self.kernel_size - 1) // 2

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.channels, *self.slid(signal)), signal.kind)


@dataclass(frozen=True, kw_only=True)
class Subsample(Layer):
    """Every `stride`-th pixel of a row and column, and channels of zeros behind the others up to `width`.

    The shortcut without parameters of arXiv 1512.03385 (option A).
    """

    width: int
    stride: int

    @property
    def kind(self) -> str:
        return "subsample"

    def misfit(self, signal: Signal) -> Fault | None:
        if signal.kind == "image" and signal.channels <= self.width:
            return None
        detail = f"It adds channels to an image up to {self.width}, and meets {signal}"
        return Fault(self.pointer, detail, "not_an_image" if signal.kind != "image" else "too_many_channels")

    def output(self, signal: Signal) -> Signal:
        _, height, width = signal.shape
        return Signal((self.width, -(-height // self.stride), -(-width // self.stride)), signal.kind)


@dataclass(frozen=True, kw_only=True)
class GlobalPool(Layer):
    """The average over all positions: (C, H, W) to (C, 1, 1)."""

    @property
    def kind(self) -> str:
        return "global_average_pool"

    def output(self, signal: Signal) -> Signal:
        return Signal((signal.channels, 1, 1), signal.kind)

    def misfit(self, signal: Signal) -> Fault | None:
        if signal.kind == "image":
            return None
        detail = f"It takes an image, and meets {signal}"
        return Fault(self.pointer or "/kind", detail, "not_an_image")


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

    def kept(self, signal: Signal) -> int:
        return math.prod(signal.shape)


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
    `stream` names what it draws from, its own name where there is none; `is_zeroed` starts its scale at 0;
    `follows_weights` is False where other layers are between it and the weights in front.
    """

    spec: NormSpec
    stream: int | str | None = None
    width_pointer: str = ""
    activation: ActivationName = "identity"
    placement: str = "before_activation"
    is_zeroed: bool = False
    follows_weights: bool = True
    activation_pointer: str = "/activation"

    @property
    def kind(self) -> str:
        return self.spec.kind

    def parameters(self, signal: Signal) -> int:
        return self.spec.parameters(signal.channels)


WithoutWeights = Pool | Subsample | GlobalPool | Flatten | Activation | Dropout
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
