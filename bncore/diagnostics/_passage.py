"""In which order a network passes its layers, how deep each lies, and where its channels are.

Found by one pass over a batch: how far a tensor has come is carried along from operation to operation, so that skips,
branches and layers that are called twice have their places. Depth counts matrices of weights on the longest way.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from bncore.diagnostics._axes import axis_after, axis_of_weights, channel_axis
from bncore.diagnostics._own_weights import is_norm, layer_of, layers_of, matrices_of
from bncore.diagnostics._probe import Probe
from bncore.recording import Site


class Way(NamedTuple):
    """How many matrices a tensor has passed, and along which axis its channels lie."""

    depth: int = 0
    axis: int = -1


@dataclass(frozen=True)
class Call:
    """One call of a module; `again` counts those of the same module before it, `order` all that were begun before."""

    name: str
    module: nn.Module
    again: int
    order: int
    before: Way
    after: Way = field(default_factory=Way)

    def depth_inside(self, name: str) -> int:
        """Of a part of the module that is not called by itself; of several layers in it, of its own."""
        return self.before.depth + 1 + layer_of(self.module, name[len(self.name) :])

    @property
    def label(self) -> str:
        """What its site is called: the module's name, and which call it is where there are several."""
        return f"{self.name}#{self.again + 1}" if self.again else self.name


@dataclass(frozen=True)
class Matrix:
    """Weights of two axes or more, as `getattr(owner, attribute)` gives them; `order` says when they are passed."""

    name: str
    owner: nn.Module
    attribute: str
    holder: nn.Module
    """By whose call they are passed: the owner's, or that of the layer whose part the owner is."""
    order: tuple[int, int]
    depth: int

    @property
    def site(self) -> Site:
        return Site(self.name, self.depth, "weights")

    @property
    def value(self) -> Tensor:
        """As the layer uses them: of a parametrized layer, what comes out of the parametrization."""
        found: Tensor = getattr(self.owner, self.attribute)
        return found


@dataclass(frozen=True)
class Passage:
    """The calls in the order in which they were begun, and the matrices in the order in which they are passed."""

    calls: tuple[Call, ...]
    matrices: tuple[Matrix, ...]
    end: Way
    """Of the output."""
    parameter_order: dict[str, tuple[int, int]]
    """Of every parameter, when it is passed; one that is not is last."""
    holders: frozenset[nn.Module]
    """By whose calls matrices are passed, those included that use another layer's."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Of the matrices."""
        return tuple(matrix.site for matrix in self.matrices)

    @property
    def layers(self) -> frozenset[nn.Module]:
        """The modules that pass matrices, and are not merely around others that do."""
        names = {call.module: call.name for call in self.calls if call.module in self.holders}
        insides = {one: f"{name}." if name else "" for one, name in names.items()}

        def is_around(one: nn.Module) -> bool:
            return any(name.startswith(insides[one]) for other, name in names.items() if other is not one)

        return frozenset(one for one in names if not is_around(one))


def passage(probe: Probe) -> Passage:
    """How the probe's network passes its batch."""
    walk = _Walk(probe.network)
    with ExitStack() as until:
        for name, module in probe.network.named_modules():
            until.callback(module.register_forward_pre_hook(walk.enter(name), with_kwargs=True).remove)
            until.callback(module.register_forward_hook(walk.leave).remove)
        until.enter_context(torch.no_grad())
        until.enter_context(_Carry())
        for tensor in _tensors(probe.inputs):
            _mark(tensor, Way(axis=1 if tensor.dim() > 3 else -1))
        output = probe.outputs()
    return walk.passage(_way_of([*_tensors(output)]))


def inside_a_norm(calls: Iterable[Call]) -> Iterator[str]:
    """Prefixes of what is part of a normalization."""
    return (f"{call.name}." for call in calls if is_norm(call.module) and call.name)


def is_within(name: str, other: str) -> bool:
    """Whether it is the name of a part of the other module."""
    return name.startswith(f"{other}." if other else "")


_MARK = "_way_through_a_network"


class _Carry(TorchFunctionMode):
    """What an operation makes has come as far as what it is made of."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if next(_tensors(result), None) is None:
            # Most of what is asked of a tensor, such as its shape.
            return result
        given = list(_tensors((args, kwargs)))
        if any(hasattr(tensor, _MARK) for tensor in given):
            way = _way_of(given)
            if isinstance(result, Tensor) and getattr(given[0], _MARK, None) == way:
                way = Way(way.depth, axis_after(given[0], way.axis, result))
            _mark(result, way)
        return result


class _Walk:
    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._names = {module: name for name, module in network.named_modules()}
        self._owned = {module: attributes for module in self._names if (attributes := matrices_of(module))}
        self._calls: list[Call] = []
        self._open: list[int] = []
        self._times: dict[nn.Module, int] = {}
        self._furthest = Way()
        self._holders: dict[nn.Module, nn.Module] = {}

    def enter(self, name: str) -> Any:
        def see(module: nn.Module, args: Any, kwargs: Any) -> None:
            again = self._times.get(module, 0)
            self._times[module] = again + 1
            given = [tensor for tensor in _tensors((args, kwargs)) if hasattr(tensor, _MARK)]
            before = _way_of(given) if given else self._furthest
            if is_norm(module):
                before = self._inside_a_layer(name, before)
            self._open.append(len(self._calls))
            self._calls.append(Call(name, module, again, len(self._calls), before))

        return see

    def leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        at = self._open.pop()
        call = self._calls[at]
        after = self._way_after(call, output)
        self._furthest = max(self._furthest, after, key=lambda way: way.depth)
        _mark(output, after)
        self._calls[at] = Call(call.name, module, call.again, call.order, call.before, after)

    def passage(self, end: Way) -> Passage:
        first = {call.module: call for call in reversed(self._calls)}
        order = {
            name: self._order_of(first, name.rpartition(".")[0], name) for name, _ in self._network.named_parameters()
        }
        return Passage(tuple(self._calls), tuple(self._matrices(first)), end, order, frozenset(self._holders.values()))

    def _way_after(self, call: Call, output: Any) -> Way:
        module, come = call.module, _way_of([*_tensors(output)], call.before)
        held = [owner for owner in self._owned if self._passed_by(owner, module)]
        if is_norm(module):
            return Way(call.before.depth, channel_axis(module, next(_tensors(output), None)))
        if not held or any(self._is_inside(owner, module) and owner not in held for owner in self._owned):
            return come
        return Way(call.before.depth + layers_of(module), axis_of_weights(module, next(_tensors(output), None)))

    def _inside_a_layer(self, name: str, before: Way) -> Way:
        """Of a normalization that is a part of a cell, which is not called itself: as deep as the cell's layer."""
        cell = next((one for one in self._uncalled() if name.startswith(f"{one}.")), None)
        around = [call for call in map(self._calls.__getitem__, self._open) if cell and is_within(cell, call.name)]
        return Way(around[-1].depth_inside(name), before.axis) if around else before

    def _passed_by(self, owner: nn.Module, module: nn.Module) -> bool:
        if owner not in self._holders:
            if owner is not module and (owner in self._times or not self._is_inside(owner, module)):
                return False
            self._holders[owner] = module
        return self._holders[owner] is module

    def _uncalled(self) -> list[str]:
        """Names of what has matrices and was not called so far."""
        return [self._names[owner] for owner in self._owned if owner not in self._times and self._names[owner]]

    def _is_inside(self, owner: nn.Module, module: nn.Module) -> bool:
        return owner is not module and is_within(self._names[owner], self._names[module])

    def _matrices(self, first: dict[nn.Module, Call]) -> list[Matrix]:
        found, known = [], set()
        for owner, attributes in self._owned.items():
            name = self._names[owner]
            for attribute in attributes:
                tensor = owner._parameters.get(attribute)
                if owner not in self._holders or (tensor is not None and id(tensor) in known):
                    continue
                known.add(id(tensor))
                full = f"{name}.{attribute}" if name else attribute
                order = self._order_of(first, name, full)
                depth = first[self._holders[owner]].before.depth + min(1, layers_of(owner)) + order[1]
                shown = name if len(attributes) == 1 and name else full
                found.append(Matrix(shown, owner, attribute, self._holders[owner], order, depth))
        return sorted(found, key=lambda matrix: matrix.order)

    def _order_of(self, first: dict[nn.Module, Call], owner: str, name: str) -> tuple[int, int]:
        """By the call in which it is passed, and within it by the number of a layer of several."""
        while True:
            module = self._network.get_submodule(owner)
            if module in first:
                break
            if not owner:
                return len(self._calls), 0
            owner = owner.rpartition(".")[0]
        return first[module].order, layer_of(module, name[len(owner) :])


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, PackedSequence):
        yield values.data
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))


def _way_of(tensors: list[Tensor], otherwise: Way | None = None) -> Way:
    """That of the one that has come furthest."""
    ways = [way for tensor in tensors if (way := getattr(tensor, _MARK, None)) is not None]
    return max(ways, key=lambda way: way.depth, default=otherwise or Way())


def _mark(values: Any, way: Way) -> None:
    for tensor in _tensors(values):
        # Most are plain, and what a parameter is takes torch longer to say.
        if type(tensor) is Tensor or not isinstance(tensor, nn.Parameter):
            setattr(tensor, _MARK, way)
