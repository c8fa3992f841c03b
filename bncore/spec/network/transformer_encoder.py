"""Transformer encoders (Vaswani et al., arXiv 1706.03762) for tokens, sequences and patches of images."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

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
from bncore.spec.network.positions import NormsAt, each_once, known, said_twice
from bncore.spec.network.sequences import OutsideNorm, SequenceSpec, with_norm_of_weights
from bncore.spec.norm import LayerNormSpec, NoNorm, NormSpec
from bncore.spec.strict import Count

_Position = Literal["input", "embedding", "attention", "mlp", "final", "logits"]
_ORDER = get_args(_Position)
_WITHOUT_WEIGHTS = ("final",)


class EncoderNormsAt(NormsAt):
    """Normalizations of single positions of a transformer, whatever its `norm` is. null: as `norm` says."""

    embedding: OutsideNorm | None = Field(default=None, description="Of the steps as they come into the first block.")
    attention: OutsideNorm | None = Field(default=None, description="Of the sublayers of attention.")
    mlp: OutsideNorm | None = Field(default=None, description="Of the sublayers of two linear layers.")
    final: OutsideNorm | None = Field(default=None, description="Of what leaves the last block.")
    logits: OutsideNorm | None = Field(default=None, description="Of the output.")


class TransformerEncoderSpec(SequenceSpec):
    """A transformer encoder: blocks of self-attention and a two-layer network at each step, both residual.

    With `post_norm` a block is `x = norm(x + attention(x)); x = norm(x + mlp(x))` as in arXiv 1706.03762, with
    `pre_norm` `x = x + attention(norm(x)); x = x + mlp(norm(x))` and one more normalization behind the last block
    (arXiv 2002.04745). Each step is normalized by itself, along its features, or with those of all steps of the batch.
    Of sequences of different lengths, padding is no key of attention and counts in no statistics.
    """

    width_field: ClassVar[str] = "width"
    takes: ClassVar[tuple[SignalKind, ...]] = ("image", "sequence", "tokens")
    norm_order: ClassVar[tuple[str, ...]] = _ORDER

    kind: Literal["transformer_encoder"] = "transformer_encoder"
    activation: ActivationName = Field(default="relu", description="Of the network at each step.")
    norm: NormSpec = Field(default_factory=LayerNormSpec)
    norm_positions: Annotated[
        tuple[Annotated[_Position, known(_ORDER, {})], ...] | None,
        Field(
            strict=False,
            description="Where norm stands: attention and mlp (the sublayers of a block), final (behind the last "
            "block), embedding (in front of the first), logits (the output), input (means normalize_input, and is "
            "shown as that). null: attention and mlp, with pre_norm final, too; a norm of weights at embedding, too.",
        ),
        each_once(_ORDER),
    ] = None
    norms_at: EncoderNormsAt | None = Field(default=None, description="Normalizations that a position has to itself.")
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

    @model_validator(mode="after")
    def _norms_stand_where_they_can(self) -> "TransformerEncoderSpec":
        faults = [*said_twice(self.norm_positions, self.norms_at)]
        for position in self.norms_at.said() if self.norms_at is not None else ():
            norm, pointer = self.norm_at(position)
            if position in _WITHOUT_WEIGHTS and norm.acts_on_weights:
                detail = f"{norm.name} acts on weights, and {position} has none; use another, or attention, mlp, logits"
                faults.append((f"{pointer}/kind", detail, "no_weights_here"))
        if self.norm.acts_on_weights and not self.norm.has_layer and self.norm_positions == ("final",):
            detail = f"{self.norm.name} acts on weights, and there are none; name attention, mlp, embedding or logits"
            faults.append(("/norm_positions", detail, "no_weights_here"))
        if faults:
            raise PydanticCustomError("cross_field", "a normalization stands wrong", {"faults": faults})
        return self

    def norm_at(self, position: str) -> tuple[NormSpec, str]:
        """What stands at a position, and the field that says so."""
        own: NormSpec | None = getattr(self.norms_at, position, None)
        if own is not None:
            return own, f"/norms_at/{position}"
        return (self.norm if position in self._listed() else NoNorm()), "/norm"

    def _listed(self) -> tuple[str, ...]:
        if self.norm_positions is not None:
            return self.norm_positions
        return ("attention", "mlp", "final") if self.placement == "pre_norm" else ("attention", "mlp")

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
        if not isinstance(self.norm_at("embedding")[0], NoNorm):
            yield "embedding_norm", self._norm("embedding", "embedding_norm")
        yield from self.dropped("dropout")

    def _block(self, name: str) -> Chain:
        attention: tuple[tuple[str, Primitive], ...] = (
            ("qkv", self._linear(3 * self.width, "attention")),
            ("attention", Attention(heads=self.heads, dropout=self.attention_dropout, pointer="/heads")),
            ("out", self._added("attention")),
            *self.dropped("dropout"),
        )
        mlp: tuple[tuple[str, Primitive], ...] = (
            ("linear1", self._linear(self.mlp_width, "mlp")),
            ("activation", Activation(name=self.activation)),
            *self.dropped("dropout1"),
            ("linear2", self._added("mlp")),
            *self.dropped("dropout2"),
        )
        return Chain((*self._residual(name, "attention", 1, attention), *self._residual(name, "mlp", 2, mlp)))

    def _residual(
        self, block: str, name: str, number: int, branch: tuple[tuple[str, Primitive], ...]
    ) -> Iterator[tuple[str, Primitive | Residual]]:
        if self.placement == "pre_norm":
            norm = self._norm(name, f"{block}.{name}.body.norm")
            yield name, Residual(body=Chain((("norm", norm), *branch)), pointer="/width")
        else:
            yield name, Residual(body=Chain(branch), pointer="/width")
            yield f"norm{number}", self._norm(name, f"{block}.norm{number}")

    def _head(self, classes: int) -> Iterator[tuple[str, Primitive]]:
        yield "norm", self._norm("final", "norm")
        if self.output == "mean":
            yield "pool", OverTime(how="mean")
        elif self.output == "first_token":
            yield "pool", OverTime(how="first")
        yield from self.classifier(classes, *self.norm_at("logits"))

    def _embedding(self) -> Linear:
        linear = self._linear(self.width, "embedding")
        if self.norm_positions is None and "embedding" not in (self.norms_at.said() if self.norms_at else ()):
            # As long as nothing is said, a normalization of weights is that of all of them.
            linear = with_norm_of_weights(linear, self.norm, "/norm")
        # With a token in front, one step is without its constant.
        is_added = self.output != "first_token" and (
            self._cancels("embedding") or (self.placement == "pre_norm" and self._is_lost())
        )
        return replace(linear, bias=False) if self.bias == "auto" and is_added else linear

    def _added(self, position: str) -> Linear:
        """What is added to all steps. A constant in it is lost where each reader of the sum normalizes it first."""
        linear = self._linear(self.width, position)
        is_lost = self._is_lost() if self.placement == "pre_norm" else self.dropout == 0.0 and self._cancels(position)
        return replace(linear, bias=False) if self.bias == "auto" and is_lost else linear

    def _is_lost(self) -> bool:
        """Whether a constant in the sum that all blocks add to and read is lost."""
        return self.dropout == 0.0 and all(self._cancels(reader) for reader in ("attention", "mlp", "final"))

    def _cancels(self, position: str) -> bool:
        return self.norm_at(position)[0].cancels_bias(self.width)

    def _linear(self, width: int, position: str) -> Linear:
        linear = Linear(width=width, bias=self.bias is not False, init=self.init, init_scale=self.init_scale)
        return with_norm_of_weights(linear, *self.norm_at(position))

    def _norm(self, position: str, name: str) -> Norm:
        spec, pointer = self.norm_at(position)
        return Norm(spec=spec, stream=name, pointer=pointer, width_pointer="/width", follows_weights=False)
