"""A walk through a blueprint: every layer by its dotted name, with the shapes that meet in it, and what is wrong."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from bncore.spec.blueprint.layers import Activation, Chain, Flatten, Norm, Primitive, Residual, Subsample, Weights
from bncore.spec.blueprint.recurrent import Recurrent
from bncore.spec.blueprint.sequences import SequencePrimitive
from bncore.spec.blueprint.signal import Signal
from bncore.spec.faults import Fault
from bncore.spec.norm import NormModel, Place


@dataclass(frozen=True)
class LayerPlan:
    """One layer: its name in the network, its kind, its output shape without the batch axis, its parameters."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int


@dataclass(frozen=True)
class Laid:
    """A network laid out for one signal. Where a layer does not fit, `layers` ends before it."""

    layers: tuple[LayerPlan, ...]
    norms: tuple[tuple[NormModel, Place], ...]
    """Those that have a layer, in order."""
    faults: tuple[Fault, ...]
    parameters: int
    state: int
    """Numbers that normalizations keep beside the parameters."""
    activations: int
    """Numbers of an example, about, that training keeps for its backward pass."""
    widest: int
    """Numbers of an example, about, that lie beside one another where there are most, without a backward pass."""
    output: Signal
    """What comes out: (classes,) of a vector for an example, (T, classes) of a sequence for each of its steps."""
    is_whole: bool
    """Whether every layer fits; one that does not is the last fault's."""


def in_head(name: str) -> bool:
    """Whether the layer, or something in it, gives the outputs: the last weights, and what normalizes what they give.

    Every network ends in them, under these names.
    """
    return name.partition(".")[0] in ("output", "output_norm")


def lay(blueprint: Chain, signal: Signal, root: str) -> Laid:
    """Lay the network out; pointers of faults begin with `root`, where the network stands in the document."""
    walk = _Walk(blueprint, signal, root)
    is_whole = walk.through(blueprint, "")
    if is_whole:
        walk.object_to_single_weights()
    return Laid(
        layers=tuple(walk.layers),
        norms=tuple(walk.norms),
        faults=tuple(walk.faults),
        parameters=sum(layer.parameters for layer in walk.layers),
        state=sum(norm.state(place) for norm, place in walk.norms),
        activations=walk.activations,
        widest=walk.widest,
        output=walk.signal,
        is_whole=is_whole,
    )


@dataclass
class _Walk:
    blueprint: Chain
    signal: Signal
    root: str
    fan_in: int = 0
    """Of the weights passed last."""
    activations: int = 0
    widest: int = 0
    is_kept: bool = False
    """Whether the signal is among the activations."""
    layers: list[LayerPlan] = field(default_factory=list)
    norms: list[tuple[NormModel, Place]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    single: list[tuple[str, Weights]] = field(default_factory=list)
    """Layers whose units have one weight each."""

    def object_to_single_weights(self) -> None:
        """What normalizations of weights have against weights that none of their own places has spoken of."""
        for name, layer in self.single:
            behind = f"the layer behind {name}"
            place = Place(behind, layer.width, 1, 1, "identity", "before_activation", pointer=f"{self.root}/norm")
            said = {fault.code for fault in self.faults}
            for fault in layer.weight_norm.faults(place):
                if fault.code not in said:
                    # In a list the layer itself is named: the normalization may be its own.
                    pointer = self.root + layer.pointer if layer.pointer else fault.pointer
                    self.faults.append(replace(fault, pointer=pointer))

    def through(self, chain: Chain, prefix: str) -> bool:
        """Whether it came to the end."""
        return all(self._step(layer, f"{prefix}{name}") for name, layer in chain.layers)

    def _step(self, layer: Primitive | Chain | Residual, name: str) -> bool:
        match layer:
            case Chain():
                return self.through(layer, f"{name}.")
            case Residual():
                return self._both_ways(layer, name)
            case _:
                return self._lay(layer, name)

    def _both_ways(self, residual: Residual, name: str) -> bool:
        start = self.signal
        if not self.through(residual.body, f"{name}.body."):
            return False
        end, self.signal, self.is_kept = self.signal, start, True
        if not self.through(residual.shortcut, f"{name}.shortcut."):
            return False
        # Behind a sum there are no weights of which it is the output.
        self.fan_in, self.is_kept = 0, False
        if self.signal == end:
            self.layers.append(LayerPlan(f"{name}.sum", "residual_sum", end.shape, 0))
            return True
        detail = f"{name} would add {end.dimensions} from its body and {self.signal.dimensions} from its shortcut"
        self.faults.append(Fault(self.root + residual.pointer, detail, "shapes_do_not_match"))
        return False

    def _lay(self, layer: Primitive, name: str) -> bool:
        misfit = layer.misfit(self.signal)
        if misfit is not None:
            self.faults.append(replace(misfit, pointer=self.root + misfit.pointer))
            return False
        if isinstance(layer, Norm) and not self._mount(layer, name):
            return True
        if isinstance(layer, Recurrent):
            self._mount_inside(layer, name)
        if isinstance(layer, Weights):
            self.fan_in = layer.fan_in(self.signal)
            if self.fan_in == 1 and layer.weight_norm.acts_on_weights:
                self.single.append((name, layer))
        elif isinstance(layer, SequencePrimitive):
            # What comes out of these is the output of no weights that a normalization could follow.
            self.fan_in = 0
        self._keep(layer)
        parameters = layer.parameters(self.signal)
        self.signal = layer.output(self.signal)
        self.layers.append(LayerPlan(name, layer.kind, self.signal.shape, parameters))
        return True

    def _keep(self, layer: Primitive) -> None:
        """Count what training keeps: what goes into weights and norms, and what layers keep besides, each once."""
        if isinstance(layer, Weights | Norm | Recurrent) and not self.is_kept:
            self.activations += math.prod(self.signal.shape)
        self.activations += layer.kept(self.signal)
        self.widest = max(self.widest, layer.at_once(self.signal))
        self.is_kept = isinstance(layer, Activation | Recurrent) or (self.is_kept and isinstance(layer, Flatten))

    def _mount(self, norm: Norm, name: str) -> bool:
        """Whether it has a layer."""
        place = replace(
            self._place(name, norm.pointer, norm.width_pointer),
            activation=norm.activation,
            placement=norm.placement,
            fan_in=self.fan_in if norm.follows_weights else 0,
            activation_pointer=self.root + norm.activation_pointer,
        )
        if any(norm.spec.faults(place)):
            # What would be right has to be right for the layers behind this one, too.
            place = replace(place, common_divisor=math.gcd(*_widths(self.blueprint, norm.spec)))
        self._object(norm.spec, place)
        if norm.spec.has_layer:
            self.norms.append((norm.spec, place))
        return norm.spec.has_layer

    def _mount_inside(self, layer: Recurrent, name: str) -> None:
        for norm in layer.norms:
            place = self._place(name, norm.pointer, layer.width_pointer)
            inside = replace(place, layer=f"{name}.{norm.place}", channels=layer.channels(norm.place))
            self._object(norm.spec, inside)
            self.norms += [(norm.spec, inside)] * len(layer.directions)

    def _place(self, name: str, pointer: str, width_pointer: str) -> Place:
        """Here, for a normalization by itself."""
        # Each step of a sequence is normalized as an example.
        positions = 1 if self.signal.kind == "sequence" else math.prod(self.signal.shape[1:])
        return Place(
            layer=name,
            channels=self.signal.channels,
            positions=positions,
            fan_in=self.fan_in,
            activation="identity",
            placement="before_activation",
            pointer=self.root + pointer,
            width_pointer=self.root + width_pointer,
            activation_pointer=f"{self.root}/activation",
            placement_pointer=f"{self.root}/placement",
            frames=self.signal.steps,
            padded=self.signal.lengths,
        )

    def _object(self, spec: NormModel, place: Place) -> None:
        """Note what a normalization has against its place."""
        found = list(spec.faults(place))
        said = {fault.pointer for fault in self.faults}
        # What is wrong with every layer alike is said once.
        self.faults += [fault for fault in found if fault.pointer not in said]


def _widths(chain: Chain, spec: NormModel, width: int = 0) -> Iterator[int]:
    """The channels of every layer with that normalization, as far as weights in front of it say them."""
    for _, layer in chain.layers:
        match layer:
            case Chain():
                yield from _widths(layer, spec, width)
            case Residual():
                yield from _widths(layer.body, spec, width)
                yield from _widths(layer.shortcut, spec, width)
            case Norm() if layer.spec == spec:
                yield width
        width = _width_behind(layer, width)


def _width_behind(layer: Primitive | Chain | Residual, width: int) -> int:
    match layer:
        case Chain():
            for _, inner in layer.layers:
                width = _width_behind(inner, width)
            return width
        case Residual():
            return _width_behind(layer.body, width)
        case Weights() | Subsample():
            return layer.width
        case Recurrent():
            return layer.hidden * len(layer.directions)
        case _:
            return width
