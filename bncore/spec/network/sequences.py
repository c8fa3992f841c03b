"""What networks of sequences share: input that may be standardized and padded, and what the classes are told from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from bncore.spec.blueprint import Dropout, Linear, Norm, Primitive
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.any_network import INPUT_NORM_EPS, AnyNetwork
from bncore.spec.norm import NoNorm, NormSpec


def _is_of_batches(value: Any) -> Any:
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind in ("sequence_batch_norm", "step_batch_norm"):
        detail = (
            f"{kind} is for what is inside of a recurrence; here batch_norm takes its statistics over all steps of the "
            "batch"
        )
        faults = [("/kind", detail, "not_in_a_recurrence")]
        raise PydanticCustomError("cross_field", "not in a recurrence", {"faults": faults})
    return value


OutsideNorm = Annotated[NormSpec, BeforeValidator(_is_of_batches)]
"""Of a position that is in no recurrence."""


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

    def classifier(self, classes: int, norm: NormSpec, pointer: str) -> Iterator[tuple[str, Primitive]]:
        """The last layer, with the norm of `logits`, which stands at `pointer`.

        It has a bias, unless `auto` finds it cancelled.
        """
        has_bias = not (getattr(self, "bias", True) == "auto" and norm.cancels_bias(classes))
        linear = Linear(width=classes, init=self.init, init_scale=self.init_scale, bias=has_bias)
        yield "output", with_norm_of_weights(linear, norm, pointer)
        # What is written over steps has no weights that a norm could follow.
        if not isinstance(norm, NoNorm):
            yield "output_norm", Norm(spec=norm, pointer=pointer, follows_weights=not self.tags)

    def dropped(self, name: str) -> Iterator[tuple[str, Primitive]]:
        """Where some of the values are to be dropped."""
        if self.dropout > 0.0:
            yield name, Dropout(probability=self.dropout)


def with_norm_of_weights(linear: Linear, norm: NormSpec, pointer: str) -> Linear:
    """The layer with `norm` for its weights, if it is one of weights; `pointer` is where the norm stands."""
    own = f"{pointer}/kind" if pointer.startswith("/norms_at") and norm.acts_on_weights else linear.pointer
    return replace(linear, weight_norm=norm, pointer=own)
