"""Plain convolutional networks."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from bncore.spec.blueprint import Chain, Flatten, GlobalPool, Pool, Signal
from bncore.spec.network.layered import LayeredSpec, Layers
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

    def _layers(self, classes: int) -> Layers:
        yield from self.input_norm()
        for number, width in enumerate(self.channels, start=1):
            where = {"stream": number, "width_pointer": f"/channels/{number - 1}"}
            yield from self.layer(f"conv{number}", self.conv(width, self.kernel_size), number, **where)
            if self.pool != "none":
                cure = "use fewer blocks or pool none"
                pointer, place = f"/channels/{number - 1}", f"Block {number}"
                yield f"pool{number}", Pool(how=self.pool, pointer=pointer, place=place, cure=cure)
        yield "global_pool", GlobalPool()
        yield "flatten", Flatten()
        yield from self.output(classes)
