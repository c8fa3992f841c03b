"""How deep each layer of a blueprint lies: what a pass through the built network would find, without one."""

from collections.abc import Iterator

from bncore.spec.blueprint.layers import Chain, Primitive, Residual, Weights
from bncore.spec.blueprint.recurrent import Recurrent
from bncore.spec.blueprint.sequences import Embedding


def depths(blueprint: Chain) -> dict[str, int]:
    """By the name of each layer, in the order of the pass, how many layers with matrices lie before it or are it.

    On the longest way, as `bncore.diagnostics` counts them: what only adds its matrix, such as positions, is none.
    """
    return dict(_through(blueprint, "", [0]))


def _through(chain: Chain, prefix: str, at: list[int]) -> Iterator[tuple[str, int]]:
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
            case _:
                at[0] += _matrices(layer)
                yield f"{prefix}{name}", at[0]


def _matrices(layer: Primitive) -> int:
    return int(isinstance(layer, Weights | Recurrent | Embedding))
