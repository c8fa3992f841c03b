"""What of a run decides which numbers its diagnostics find: the layers that they come by, and how often they look.

Torch-free: a study that compares one of these numbers is refused before anything runs where a run would not leave it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bncore.spec.blueprint import Chain, Primitive, Residual
from bncore.spec.diagnostics.affordable import Measured
from bncore.spec.norm.place import NormModel


@dataclass(frozen=True)
class Sighted:
    """A network as diagnostics pass it, and when this one does."""

    blueprint: Chain
    norms: tuple[NormModel, ...]
    """Those that have a layer, inside of recurrent layers, too."""
    moments: tuple[int, ...]
    """After which steps is measured."""
    total_steps: int
    has_accuracy: bool
    """Whether the data have classes."""
    evaluates_each: bool
    """Whether evaluations are with statistics of every kind."""
    affordable: Measured | None
    """On what the steps allow accuracies by statistics."""

    @property
    def is_at_end(self) -> bool:
        """Whether the end of training is among the moments."""
        return self.total_steps in self.moments

    @property
    def primitives(self) -> Iterator[Primitive]:
        """The layers, those of branches, too."""
        return _primitives(self.blueprint)

    @property
    def adds_branches(self) -> bool:
        """Whether two branches meet anywhere."""
        return any(isinstance(layer, Residual) for layer in _layers(self.blueprint))


def _layers(chain: Chain) -> Iterator[Primitive | Residual]:
    for _, layer in chain.layers:
        match layer:
            case Chain():
                yield from _layers(layer)
            case Residual():
                yield layer
                yield from _layers(layer.body)
                yield from _layers(layer.shortcut)
            case _:
                yield layer


def _primitives(chain: Chain) -> Iterator[Primitive]:
    return (layer for layer in _layers(chain) if not isinstance(layer, Residual))
