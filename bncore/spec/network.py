"""Which network, where its normalization sits, and how it is initialized."""

from typing import Annotated, Literal

from pydantic import Field

from bncore.spec.norm import BatchNormSpec, NormSpec
from bncore.spec.strict import Count, Integer, SpecModel

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "identity"]
Placement = Literal["before_activation", "after_activation"]
Std = Annotated[float, Field(gt=0.0, le=100.0)]

INPUT_NORM_EPS = 1e-2
"""A floor of 0.1 under the standard deviation of an input feature: a pixel that is constant in the training data but
not in the test data would otherwise be magnified some hundred times."""


class DefaultInit(SpecModel):
    """PyTorch's own: weights and biases uniform in +-1/sqrt(fan_in)."""

    kind: Literal["default"] = "default"


class NormalInit(SpecModel):
    """Weights normal around 0, biases 0."""

    kind: Literal["normal"] = "normal"
    std: Std = Field(default=0.1, description="Above 100 the first forward pass overflows half precision.")


class UniformInit(SpecModel):
    """Weights uniform in [-bound, bound], biases 0."""

    kind: Literal["uniform"] = "uniform"
    bound: Std = 0.1


class XavierInit(SpecModel):
    """Glorot and Bengio 2010: variance gain^2 * 2 / (fan_in + fan_out), biases 0."""

    kind: Literal["xavier"] = "xavier"
    distribution: Literal["normal", "uniform"] = "uniform"
    gain: Std = 1.0


class KaimingInit(SpecModel):
    """He et al. (arXiv 1502.01852): variance gain^2 / fan_in, biases 0; the default gain, sqrt(2), is for ReLU."""

    kind: Literal["kaiming"] = "kaiming"
    distribution: Literal["normal", "uniform"] = "normal"
    gain: Std = 2**0.5


class OrthogonalInit(SpecModel):
    """Saxe et al. (arXiv 1312.6120): a random (semi-)orthogonal matrix times gain, biases 0."""

    kind: Literal["orthogonal"] = "orthogonal"
    gain: Std = 1.0


InitSpec = Annotated[
    DefaultInit | NormalInit | UniformInit | XavierInit | KaimingInit | OrthogonalInit,
    Field(discriminator="kind"),
]


class _Layered(SpecModel):
    """What the feed-forward networks share: each hidden layer is weights, normalization and activation, dropout."""

    activation: Activation = "relu"
    norm: NormSpec = Field(default_factory=BatchNormSpec)
    placement: Placement = Field(default="before_activation", description="Where the normalization sits.")
    normalize_input: bool = Field(
        default=False,
        description="Standardize the input with batch statistics (no scale or shift, equal-weight running averages, "
        f"eps {INPUT_NORM_EPS}).",
    )
    bias: bool = Field(
        default=True,
        description="Give hidden layers a bias. A mean-subtracting normalization right behind them cancels it; it is "
        "kept by default so that arms of a comparison share every weight.",
    )
    init: InitSpec = Field(default_factory=DefaultInit)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Probability of zeroing an activation.")


class MlpSpec(_Layered):
    """A fully connected network on the flattened input."""

    kind: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=100)] = Field(
        default=(100, 100, 100), description="Width of each hidden layer."
    )


class CnnSpec(_Layered):
    """Blocks of convolution (stride 1, same padding) and 2x2 pooling, global average pooling, one linear layer."""

    kind: Literal["cnn"] = "cnn"
    channels: Annotated[tuple[Count, ...], Field(strict=False, min_length=1, max_length=100)] = Field(
        default=(32, 64), description="Output channels of each block."
    )
    kernel_size: Annotated[Literal[1, 3, 5, 7], Integer] = Field(
        default=3, description="Odd, so that same padding is symmetric."
    )
    pool: Literal["max", "average", "none"] = Field(
        default="max", description="2x2 pooling with stride 2 at the end of each block; it halves height and width."
    )


NetworkSpec = Annotated[MlpSpec | CnnSpec, Field(discriminator="kind")]
