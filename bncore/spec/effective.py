"""What of a network's spec its layers are made of: which of its fields change nothing, and where its norms stand.

Found by asking the blueprint: a field is of no use to a network whose layers are the same whatever the field says.
Invariant: a field that could change a layer, its name or what it draws is never called unused.
"""

import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from bncore.spec.annotations import model_of
from bncore.spec.blueprint import Chain, Norm, Recurrent, Residual, Signal
from bncore.spec.network import NetworkSpec
from bncore.spec.norm import NormModel

_ABOUT_FAULTS = frozenset({"place", "cure"})
"""Fields of primitives that word what is wrong with them, as those that end in `pointer` say where."""
_OF_NEIGHBOURS = frozenset({"activation", "placement", "follows_weights"})
"""Of a normalization, by which it objects to its place."""
_SHARES = (0.0, 0.5)
"""Values of a number between 0 and 1, of which one at least is another one than there is."""


def unused_fields(network: NetworkSpec, signal: Signal, outputs: int) -> frozenset[str]:
    """The fields of the network that no layer of it is made with, of those that choose from a few values.

    Args:
        signal: what the network is shown.
        outputs: how many numbers it gives.
    """
    made = _made(network.blueprint(signal, outputs))

    def changes(name: str, value: Any) -> bool:
        other = network.model_copy(update={name: value})
        try:
            return bool(_made(other.blueprint(signal, outputs)) != made)
        except Exception:
            return True

    found = set()
    for name, field in type(network).model_fields.items():
        now = getattr(network, name)
        others = [value for value in _values(field.annotation) if value != now]
        if name != "kind" and others and not any(changes(name, value) for value in others):
            found.add(name)
    return frozenset(found)


def norm_pointers(network: NetworkSpec, signal: Signal, outputs: int) -> tuple[str, ...]:
    """Where in the network's spec the normalizations stand that its layers have, in the order of the signal.

    `none` stands somewhere, too; what standardizes the input does not.
    """
    return tuple(dict.fromkeys(_pointers(network.blueprint(signal, outputs))))


def _pointers(chain: Chain) -> Iterator[str]:
    for _, layer in chain.layers:
        match layer:
            case Chain():
                yield from _pointers(layer)
            case Residual():
                yield from _pointers(layer.body)
                yield from _pointers(layer.shortcut)
            case Recurrent():
                yield from (inside.pointer for inside in layer.norms)
            case Norm() if layer.pointer:
                yield layer.pointer


def _made(part: Any) -> Any:
    """A layer, or many, as what is built: two that are equal are one network."""
    if isinstance(part, Chain):
        return tuple((name, _made(layer)) for name, layer in part.layers if not _is_nothing(layer))
    if isinstance(part, tuple):
        return tuple(map(_made, part))
    if isinstance(part, NormModel):
        return part if part.has_layer or part.acts_on_weights else None
    if not is_dataclass(part) or isinstance(part, type):
        return part
    kept = (each.name for each in fields(part) if not _says_nothing(part, each.name))
    return (type(part), *((name, _made(getattr(part, name))) for name in kept))


def _is_nothing(layer: Any) -> bool:
    """A norm of weights is with the weights, and none is nowhere."""
    return isinstance(layer, Norm) and not layer.spec.has_layer


def _says_nothing(part: Any, name: str) -> bool:
    return name.endswith("pointer") or name in (_OF_NEIGHBOURS if isinstance(part, Norm) else _ABOUT_FAULTS)


def _values(annotation: Any) -> Iterator[Any]:
    """What a field may say: every word, every kind with its defaults, every single position; nothing of a width."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _values(members[0])
    elif origin is Literal:
        yield from members
    elif origin is tuple:
        positions = [value for value in _values(members[0]) if isinstance(value, str)]
        yield from ((), *((position,) for position in positions)) if positions else ()
    elif origin in (Union, types.UnionType):
        yield from (value for member in members for value in _values(member))
    else:
        yield from _plain_values(annotation)


def _plain_values(annotation: Any) -> Iterator[Any]:
    if annotation is bool:
        yield from (False, True)
    elif annotation is float:
        yield from _SHARES
    elif (model := model_of(annotation)) is not None:
        yield from _usual(model)


def _usual(model: type[BaseModel]) -> Iterator[BaseModel]:
    """One of a union's kinds as it is by default; what has no kind says nothing by default."""
    if "kind" not in model.model_fields:
        return
    try:
        yield model()
    except ValidationError:
        return
