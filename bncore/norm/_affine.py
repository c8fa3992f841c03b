"""The scale and shift per channel with which most layers end."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bncore.norm._moments import along_channels
from bncore.norm._torch import is_tracing


class Affine(nn.Module):
    """A layer for C channels with a learned scale and shift (C,) under the names `weight` and `bias`, or without.

    Args:
        num_features: C.
        eps: what the layer adds before it divides.
        affine: learn `weight` and `bias`; both are None otherwise.
        bias: learn `bias` too, where `affine` does; it is None otherwise.

    Raises:
        ValueError: for a negative eps.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(
        self,
        num_features: int,
        eps: float,
        affine: bool,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if not eps >= 0.0:
            raise ValueError(f"eps must be at least 0, got {eps}")
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.affine = affine
        for name, learned in (("weight", affine), ("bias", affine and bias)):
            vector = nn.Parameter(torch.empty(num_features, device=device, dtype=dtype)) if learned else None
            self.register_parameter(name, vector)
        # Here and not through `self`: a subclass may have more to reset, which is not there yet.
        Affine.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Scale 1, shift 0."""
        reset_scale_and_shift(self.weight, self.bias)

    def _scale_and_shift(self) -> tuple[Tensor | None, Tensor | None]:
        """`weight` and `bias` from where a module keeps them: an attribute of one takes ten times as long."""
        parameters = self._parameters
        if "weight" in parameters and "bias" in parameters:
            return parameters["weight"], parameters["bias"]
        # Parametrized, or a plain tensor in the place.
        return self.weight, self.bias

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


def reset_scale_and_shift(weight: Tensor | None, bias: Tensor | None) -> None:
    """Scale 1 and shift 0, where there is one."""
    if weight is not None:
        nn.init.ones_(weight)
    if bias is not None:
        nn.init.zeros_(bias)


def scale_and_shift(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """`weight * y + bias` with vectors (C,) along the channel axis; either may be None."""
    if weight is not None:
        y = y * along_channels(weight, y)
    if bias is not None:
        y = y + along_channels(bias, y)
    return y


def is_empty(x: Tensor) -> bool:
    """Whether there is no value in it; not asked where sizes are not known yet."""
    return not torch.compiler.is_exporting() and not is_tracing() and x.numel() == 0


def pass_empty(x: Tensor, parameters: Iterable[Tensor]) -> Tensor:
    """`x`, which has no values, as a function of these: with zero for their gradients, where a mean of none is NaN."""
    y = x
    for parameter in parameters:
        y = y + parameter.sum().to(x.dtype)
    return y
