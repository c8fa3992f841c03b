"""Plain convolutional networks."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Conv2d, Flatten, GlobalPool, Linear, Pool, Primitive, Signal
from bncore.spec.network.layered import LayeredSpec
from bncore.spec.strict import Count, Integer


class CnnSpec(LayeredSpec):
    """Blocks of convolution (stride 1, same padding) and 2x2 pooling, global average pooling, one linear layer."""

    width_field: ClassVar[str] = "channels"

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

    def blueprint(self, signal: Signal, classes: int) -> Chain:
        return Chain(tuple(self._layers(classes)))

    def _layers(self, classes: int) -> Iterator[tuple[str, Primitive]]:
        yield from self.input_norm()
        for number, width in enumerate(self.channels, start=1):
            yield (
                f"conv{number}",
                Conv2d(
                    width=width, kernel_size=self.kernel_size, bias=self.bias, init=self.init, weight_norm=self.norm
                ),
            )
            yield from self.norm_and_activation(number)
            if self.pool != "none":
                cure = "use fewer blocks or pool none"
                where = {"pointer": f"/channels/{number - 1}", "place": f"Block {number}", "cure": cure}
                yield f"pool{number}", Pool(how=self.pool, **where)
        yield "global_pool", GlobalPool()
        yield "flatten", Flatten()
        yield "output", Linear(width=classes, init=self.init)
