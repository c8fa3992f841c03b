"""Transformer encoders (Vaswani et al., arXiv 1706.03762) for tokens, sequences and patches of images."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import (
    Activation,
    ActivationName,
    Attention,
    Chain,
    Embedding,
    FirstToken,
    Linear,
    Norm,
    OverTime,
    Patches,
    Positions,
    Primitive,
    Residual,
    Signal,
)
from bncore.spec.blueprint.signal import SignalKind
from bncore.spec.network.layered import Bias
from bncore.spec.network.sequences import SequenceSpec
from bncore.spec.norm import LayerNormSpec, NormSpec
from bncore.spec.strict import Count


class TransformerEncoderSpec(SequenceSpec):
    """A transformer encoder: blocks of self-attention and a two-layer network at each step, both residual.

    With `post_norm` a block is `x = norm(x + attention(x)); x = norm(x + mlp(x))` as in arXiv 1706.03762, with
    `pre_norm` `x = x + attention(norm(x)); x = x + mlp(norm(x))` and one more normalization behind the last block
    (arXiv 2002.04745). Each step is normalized by itself, along its features, or with those of all steps of the batch.
    Of sequences of different lengths, padding is no key of attention and counts in no statistics.
    """

    width_field: ClassVar[str] = "width"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "sequence", "tokens")

    kind: Literal["transformer_encoder"] = "transformer_encoder"
    activation: ActivationName = Field(default="relu", description="Of the network at each step.")
    norm: NormSpec = Field(default_factory=LayerNormSpec)
    placement: Literal["pre_norm", "post_norm"] = Field(default="pre_norm", description="Where normalizations sit.")
    width: Count = Field(default=64, description="Features of each step.")
    heads: int = Field(default=4, ge=1, le=1024, description="Of attention; they divide the width.")
    blocks: int = Field(default=2, ge=1, le=100)
    mlp_width: Count = Field(default=256, description="Hidden units of the network at each step.")
    patch: int | None = Field(
        default=None, ge=1, le=1024, description="Side of the square patches of an image that are its steps."
    )
    positions: Literal["learned", "sinusoidal", "none"] = Field(
        default="learned",
        description="What is added to the steps so that their order counts; learned ones start with a spread of 0.02.",
    )
    output: Literal["mean", "first_token", "each_step"] = Field(
        default="mean",
        description="What the classes are told from: the mean of all steps, a learned token in front of them, or each "
        "step by itself, which labels each step (tagging).",
    )
    bias: Bias = Field(
        default=True,
        description="Give linear layers a bias; auto leaves out those that a normalization cancels: of what is added "
        "to the steps, where that is normalized by statistics of the batch and dropout is 0.",
    )
    attention_dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Probability of zeroing a weight of attention."
    )
    dropout: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Probability of zeroing a value of the embedded input, of a hidden unit, or of what is added in a "
        "residual sum.",
    )

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        blocks = tuple((f"block{number}", self._block(f"block{number}")) for number in range(1, self.blocks + 1))
        return Chain((*self._embedded(signal), *blocks, *self._head(classes)))

    def _embedded(self, signal: Signal) -> Iterator[tuple[str, Primitive]]:
        yield from self.input_norm()
        if signal.kind == "image" or self.patch is not None:
            yield "patches", Patches(size=self.patch, pointer="/patch")
        yield "embedding", Embedding(width=self.width) if signal.kind == "tokens" else self._embedding()
        if self.output == "first_token":
            yield "first_token", FirstToken()
        if self.positions != "none":
            yield "positions", Positions(how=self.positions)
        yield from self.dropped("dropout")

    def _block(self, name: str) -> Chain:
        attention: tuple[tuple[str, Primitive], ...] = (
            ("qkv", self._linear(3 * self.width)),
            ("attention", Attention(heads=self.heads, dropout=self.attention_dropout, pointer="/heads")),
            ("out", self._added(self.width)),
            *self.dropped("dropout"),
        )
        mlp: tuple[tuple[str, Primitive], ...] = (
            ("linear1", self._linear(self.mlp_width)),
            ("activation", Activation(name=self.activation)),
            *self.dropped("dropout1"),
            ("linear2", self._added(self.width)),
            *self.dropped("dropout2"),
        )
        return Chain((*self._residual(name, 1, attention), *self._residual(name, 2, mlp)))

    def _residual(
        self, block: str, number: int, branch: tuple[tuple[str, Primitive], ...]
    ) -> Iterator[tuple[str, Primitive | Residual]]:
        name = ("attention", "mlp")[number - 1]
        if self.placement == "pre_norm":
            norm = self._norm(f"{block}.{name}.body.norm")
            yield name, Residual(body=Chain((("norm", norm), *branch)), pointer="/width")
        else:
            yield name, Residual(body=Chain(branch), pointer="/width")
            yield f"norm{number}", self._norm(f"{block}.norm{number}")

    def _head(self, classes: int) -> Iterator[tuple[str, Primitive]]:
        if self.placement == "pre_norm":
            yield "norm", self._norm("norm")
        if self.output == "mean":
            yield "pool", OverTime(how="mean")
        elif self.output == "first_token":
            yield "pool", OverTime(how="first")
        yield "output", self.classifier(classes)

    def _embedding(self) -> Linear:
        # With a token in front, one step is without its constant.
        is_added = self.placement == "pre_norm" and self.output != "first_token"
        return self._added(self.width) if is_added else self._linear(self.width)

    def _added(self, width: int) -> Linear:
        """What is added to all steps. A constant in it is lost where each reader of the sum normalizes it first."""
        linear = self._linear(width)
        is_lost = self.dropout == 0.0 and self.norm.cancels_bias(self.width)
        return replace(linear, bias=False) if self.bias == "auto" and is_lost else linear

    def _linear(self, width: int) -> Linear:
        return Linear(
            width=width,
            bias=self.bias is not False,
            init=self.init,
            init_scale=self.init_scale,
            weight_norm=self.norm,
        )

    def _norm(self, name: str) -> Norm:
        return Norm(spec=self.norm, stream=name, pointer="/norm", width_pointer="/width")
