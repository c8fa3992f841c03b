"""What networks of sequences share: input that may be standardized and padded, and what the classes are told from."""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from bncore.spec.blueprint import Dropout, Linear, Primitive
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.any_network import INPUT_NORM_EPS, AnyNetwork


class SequenceSpec(AnyNetwork):
    """Sequences may have different lengths: what stands behind the end of one changes nothing."""

    takes: ClassVar[tuple[SignalKind, ...]] = ("sequence",)
    takes_lengths: ClassVar[bool] = True

    output: str
    normalize_input: bool = Field(
        default=False,
        description="Standardize each feature of the input over all steps of the batch (no scale or shift, "
        f"equal-weight running averages, eps {INPUT_NORM_EPS}).",
    )
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @property
    def tags(self) -> bool:
        return self.output == "each_step"

    def classifier(self, classes: int) -> Linear:
        """The last layer."""
        return Linear(width=classes, init=self.init, init_scale=self.init_scale)

    def dropped(self, name: str) -> Iterator[tuple[str, Primitive]]:
        """Where some of the values are to be dropped."""
        if self.dropout > 0.0:
            yield name, Dropout(probability=self.dropout)
