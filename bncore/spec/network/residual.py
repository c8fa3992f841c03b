"""What residual networks share: bodies of several weights, and blocks that end behind their sum (arXiv 1512.03385)."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Conv2d, Linear, Norm, Residual
from bncore.spec.network.layered import HiddenLayers, Layers, Plain


class ResidualLayers(HiddenLayers):
    """The normalization is behind each layer's weights, behind each activation, or once a block, behind its sum."""

    placement: Literal["before_activation", "after_activation", "after_sum"] = Field(
        default="before_activation", description="Where the normalization sits."
    )

    def stem_layer(self, name: str, weights: Linear | Conv2d, number: int | str = "") -> Plain:
        """A layer outside of the blocks, which has no sum."""
        norm_first = self.placement != "after_activation"
        norm = self.norm_layer(placement="before_activation" if norm_first else self.placement)
        yield f"{name}{number}", self.without_dead_bias(weights, is_normed=norm is not None and norm_first)
        yield from self.activated(norm, number, norm_first=norm_first)

    def body(self, name: str, weights: Sequence[Linear | Conv2d], *, is_zeroed: bool = False) -> Chain:
        """Weights with activations between them and none at the end; `is_zeroed` is about the last normalization."""
        return Chain(tuple(self._body(name, weights, is_zeroed)))

    def residual_block(self, body: Chain, shortcut: Chain | None = None) -> Layers:
        """`activation(body(x) + shortcut(x))`; without a shortcut it is x."""
        yield "residual", Residual(body=body, shortcut=shortcut or Chain(), pointer=f"/{self.width_field}")
        norm = None if self.placement == "before_activation" else self.behind_a_block()
        yield from self.activated(norm, norm_first=self.placement == "after_sum")

    def behind_a_block(self) -> Norm | None:
        """The normalization there."""
        return self.norm_layer(placement=self.placement)

    def is_last_normed(self) -> bool:
        """Whether a normalization follows the last weights of a body, be it behind the sum."""
        return "hidden" in self.norm_positions and self.placement != "after_activation"

    def _body(self, name: str, weights: Sequence[Linear | Conv2d], is_zeroed: bool) -> Plain:
        norm = None if self.placement == "after_sum" else self.norm_layer(placement=self.placement)
        norm_first = self.placement == "before_activation"
        for number, each in enumerate(weights[:-1], start=1):
            yield f"{name}{number}", self.without_dead_bias(each, is_normed=norm is not None and norm_first)
            yield from self.activated(norm, number, norm_first=norm_first)
        yield f"{name}{len(weights)}", self.without_dead_bias(weights[-1], is_normed=self.is_last_normed())
        if norm_first:
            last = self.norm_layer(placement=self.placement, is_zeroed=is_zeroed)
            if last is not None:
                yield f"norm{len(weights)}", last
