"""How deep each layer of a blueprint lies: what a pass through the built network would find, without one."""

from collections.abc import Iterator
from typing import NamedTuple

from bncore.spec.blueprint.layers import Chain, Primitive, Residual, Weights
from bncore.spec.blueprint.recurrent import Recurrent
from bncore.spec.blueprint.sequences import Embedding


class Passed(NamedTuple):
    """A layer, or the sum of two branches behind both, and how many layers with matrices lie before it or are it."""

    name: str
    layer: Primitive | Residual
    depth: int


def passed(blueprint: Chain) -> Iterator[Passed]:
    """All of them, in the order of the pass; those of branches before their sum.

    On the longest way, as `bncore.diagnostics` counts them: what only adds its matrix, such as positions, is none.
    """
    return _through(blueprint, "", [0])


def depths(blueprint: Chain) -> dict[str, int]:
    """By the name of each layer, in the order of the pass, how deep it lies."""
    return {one.name: one.depth for one in passed(blueprint) if not isinstance(one.layer, Residual)}


def has_matrix(layer: Primitive | Residual) -> bool:
    """Whether it is a layer to pass for those who count depth."""
    return isinstance(layer, Weights | Recurrent | Embedding)


def _through(chain: Chain, prefix: str, at: list[int]) -> Iterator[Passed]:
    """`at` holds how far the signal has come."""
    for name, layer in chain.layers:
        match layer:
            case Chain():
                yield from _through(layer, f"{prefix}{name}.", at)
            case Residual():
                start = at[0]
                yield from _through(layer.body, f"{prefix}{name}.body.", at)
                shortcut = [start]
                yield from _through(layer.shortcut, f"{prefix}{name}.shortcut.", shortcut)
                at[0] = max(at[0], shortcut[0])
                yield Passed(f"{prefix}{name}", layer, at[0])
            case _:
                at[0] += has_matrix(layer)
                yield Passed(f"{prefix}{name}", layer, at[0])
