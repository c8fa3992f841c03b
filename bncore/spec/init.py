"""How the weights of a network are drawn."""

from typing import Annotated, Literal

from pydantic import Field

from bncore.spec.strict import SpecModel
from bncore.spec.usual import usual

Std = Annotated[float, Field(gt=0.0, le=100.0)]


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


_Inits = DefaultInit | NormalInit | UniformInit | XavierInit | KaimingInit | OrthogonalInit
InitSpec = Annotated[_Inits, Field(discriminator="kind"), usual(_Inits, DefaultInit)]
