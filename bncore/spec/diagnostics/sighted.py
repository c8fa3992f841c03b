"""What of a run decides which numbers its diagnostics find: the layers that they come by, and how often they look.

Torch-free: a study that compares one of these numbers is refused before anything runs where a run would not leave it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bncore.spec.blueprint import Chain, Norm, Primitive, Residual, has_matrix, passed
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
    is_drawn: bool = True
    """Whether it begins as its spec says, and not with what another run has learned."""

    @property
    def is_at_end(self) -> bool:
        """Whether the end of training is among the moments."""
        return self.total_steps in self.moments

    def depths(self, is_it: Callable[[Primitive | Residual], bool]) -> list[int]:
        """How deep layers of a sort lie, each, those of branches, too; sums are the `Residual`s."""
        return [one.depth for one in passed(self.blueprint) if is_it(one.layer)]

    @property
    def depth(self) -> int:
        """How many layers of weights lie behind one another on the longest way."""
        return max(self.depths(has_matrix), default=0)

    @property
    def begins_with_zeros(self) -> bool:
        """Whether scales of normalizations are 0 before the first step, so that what they scale has no gradient."""
        return self.is_drawn and bool(self.depths(_is_zeroed))


def _is_zeroed(layer: Primitive | Residual) -> bool:
    return isinstance(layer, Norm) and layer.is_zeroed and layer.spec.has_layer
