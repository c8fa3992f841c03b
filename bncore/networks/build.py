"""A module for each primitive of a blueprint, with its weights set."""

from collections import OrderedDict
from typing import assert_never

from torch import nn

from bncore.networks.init import initialize
from bncore.networks.pooling import MaxPool2d
from bncore.networks.recurrent import draw_recurrent, recurrent_module
from bncore.networks.residual import ResidualSum, SubsampleAndPad
from bncore.networks.sequences import draw, sequence_module
from bncore.networks.weights import normalize_weights
from bncore.norm import CrossIterationBatchNorm, build_norm
from bncore.norm.model.last_axis import by_last_axis
from bncore.seeds import derive_seed
from bncore.spec.blueprint import (
    Activation,
    ActivationName,
    Chain,
    Conv2d,
    Dropout,
    Flatten,
    GlobalPool,
    Linear,
    Norm,
    Pool,
    Primitive,
    Recurrent,
    Residual,
    SequencePrimitive,
    Signal,
    Subsample,
    Weights,
    WithoutWeights,
)
from bncore.spec.norm import BatchNormSpec, MaskedBatchNormSpec


class Builder:
    """Builds along the way of a signal through the layers; `draws` is False where there is no memory to set."""

    def __init__(self, signal: Signal, seed: int, *, draws: bool) -> None:
        self._signal = signal
        self._seed = seed
        self._draws = draws
        self._weights: nn.Linear | nn.Conv2d | None = None
        """Passed last."""

    def chain(self, chain: Chain, prefix: str = "") -> nn.Sequential:
        """The layers behind one another, under their own names."""
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for name, layer in chain.layers:
            module = self._step(layer, f"{prefix}{name}")
            if module is not None:
                modules[name] = module
        return nn.Sequential(modules)

    def _step(self, layer: Primitive | Chain | Residual, name: str) -> nn.Module | None:
        match layer:
            case Chain():
                return self.chain(layer, f"{name}.")
            case Residual():
                start = self._signal
                body = self.chain(layer.body, f"{name}.body.")
                self._signal = start
                shortcut = self.chain(layer.shortcut, f"{name}.shortcut.")
                self._weights = None
                return ResidualSum(body, shortcut)
            case _:
                module = self._module(layer, name)
                self._signal = layer.output(self._signal)
                return module

    def _module(self, layer: Primitive, name: str) -> nn.Module | None:
        """None where a normalization has no layer."""
        match layer:
            case Linear():
                return self._set(nn.Linear(self._signal.channels, layer.width, bias=layer.bias), layer, name)
            case Conv2d():
                return self._set(_convolution(layer, self._signal.channels), layer, name)
            case Norm():
                return self._norm(layer, name)
            case _:
                return (
                    self._of_sequences(layer, name) if isinstance(layer, SequencePrimitive) else _without_weights(layer)
                )

    def _set(self, module: nn.Linear | nn.Conv2d, layer: Weights, name: str) -> nn.Module:
        self._weights = module
        if self._draws:
            initialize(module, layer.init, derive_seed(self._seed, "init", name), layer.init_scale)
        normalize_weights(module, layer.weight_norm, derive_seed(self._seed, "norm", name))
        return module

    def _of_sequences(self, layer: SequencePrimitive, name: str) -> nn.Module:
        self._weights = None
        seed = derive_seed(self._seed, "init", name)
        if isinstance(layer, Recurrent):
            module = recurrent_module(layer, self._signal)
            if self._draws:
                draw_recurrent(module, layer, seed)
            return module
        module = sequence_module(layer, self._signal)
        if self._draws:
            draw(module, seed)
        return module

    def _norm(self, layer: Norm, name: str) -> nn.Module | None:
        spec = layer.spec
        if self._signal.lengths and isinstance(spec, BatchNormSpec):
            spec = MaskedBatchNormSpec(**spec.model_dump(exclude={"kind"}))
        stream = name if layer.stream is None else layer.stream
        norm = build_norm(spec, self._signal.channels, seed=derive_seed(self._seed, "norm", stream))
        if norm is not None and layer.is_zeroed and self._draws:
            nn.init.zeros_(norm.get_parameter("weight"))
        if norm is not None and self._signal.kind == "sequence":
            return by_last_axis(norm, padded=self._signal.lengths and spec.counts_padding)
        if isinstance(norm, CrossIterationBatchNorm):
            assert self._weights is not None, "a plan refuses it without weights in front"
            norm.follow(self._weights)
        return norm


def _convolution(layer: Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        layer.width,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        bias=layer.bias,
    )


def _without_weights(layer: WithoutWeights) -> nn.Module:
    match layer:
        case Activation():
            return _activation(layer.name)
        case Dropout():
            return nn.Dropout(layer.probability)
        case Pool():
            pool = MaxPool2d if layer.how == "max" else nn.AvgPool2d
            return pool(layer.kernel_size, layer.stride, layer.padding)
        case Subsample():
            return SubsampleAndPad(layer.width, layer.stride)
        case GlobalPool():
            return nn.AdaptiveAvgPool2d(1)
        case Flatten():
            return nn.Flatten()
        case _:
            assert_never(layer)


def _activation(name: ActivationName) -> nn.Module:
    layer: type[nn.Module]
    match name:
        case "sigmoid":
            layer = nn.Sigmoid
        case "tanh":
            layer = nn.Tanh
        case "relu" | "relu6":
            layer = {"relu": nn.ReLU, "relu6": nn.ReLU6}[name]
        case "leaky_relu":
            layer = nn.LeakyReLU
        case "elu" | "gelu" | "silu":
            layer = {"elu": nn.ELU, "gelu": nn.GELU, "silu": nn.SiLU}[name]
        case "identity":
            layer = nn.Identity
        case _:
            assert_never(name)
    return layer()
