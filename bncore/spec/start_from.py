"""Where training begins if not with new weights: fine-tuning.

Invariant: what the checkpoint's weights are put into is the network that they are of, but for a head that is made anew;
the service records what the checkpoint is, so that a stored spec says all of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from bncore.spec.blueprint import in_head
from bncore.spec.data import DataShape, DataSpec, data_shape
from bncore.spec.faults import Fault
from bncore.spec.network import NetworkSpec
from bncore.spec.plan import laid_network
from bncore.spec.strict import SpecModel

Freeze = Literal["norms", "all_but_head"]

_WITHOUT_WEIGHTS = ("dropout", "init", "init_scale")
"""Fields of a network that say nothing of what is in a checkpoint."""


class StartSource(SpecModel):
    """What the checkpoint is: filled in by the service."""

    experiment: Annotated[str, Field(pattern=r"^exp_[0-9a-f]{32}$")]
    step: int = Field(ge=0)
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of the file of its weights.")
    data: DataSpec = Field(description="What it was trained on.")
    network: NetworkSpec


class StartFrom(SpecModel):
    """Begin with the weights and the running statistics of a checkpoint: fine-tuning.

    Optimizer, schedule and counting of steps begin anew. The network is the checkpoint's, but for dropout and init; the
    data may be others.
    """

    checkpoint: Annotated[str, Field(pattern=r"^ckp_[0-9a-f]{32}$")] | None = Field(
        default=None,
        description="Its id. null, without the service: checkpoint/weights.safetensors of the run directory.",
    )
    reset_head: bool = Field(
        default=False,
        description="Draw the output layer (and its normalization) anew, as that of a new network with this seed: "
        "needed where the classes are others.",
    )
    freeze: Freeze | None = Field(
        default=None,
        description="norms: normalizations but those of the head keep scale and shift, and normalize with the running "
        "statistics of the checkpoint, which stay. all_but_head: all in front of the output layer stays, and is "
        "computed as in evaluation, without dropout.",
    )
    source: StartSource | None = Field(default=None, description="Filled in by the service; may be left out.")


@dataclass(frozen=True)
class Trained:
    """A network and the data that it is for."""

    network: NetworkSpec
    data: DataSpec

    @property
    def sizes(self) -> DataShape:
        return data_shape(self.data)


def start_faults(start: StartFrom, there: Trained, here: Trained) -> list[Fault]:
    """Why what is `here` cannot begin with the weights of what is `there`."""
    others = list(_other_fields(there.network, here.network))
    return others or list(_other_shapes(start, there, here))


def freeze_faults(start: StartFrom, data: DataSpec, network: NetworkSpec) -> Iterator[Fault]:
    """Whether there is something to freeze."""
    sizes = data_shape(data)
    laid = laid_network(network, sizes.signal, sizes.outputs)
    if start.freeze == "norms" and all(in_head(place.layer) for _, place in laid.norms):
        detail = "The network has no normalization in front of its head; leave it out, or use all_but_head"
        yield Fault("/start_from/freeze", detail, "nothing_to_freeze")


def _other_fields(source: NetworkSpec, network: NetworkSpec) -> Iterator[Fault]:
    if source.kind != network.kind:
        detail = f"The checkpoint is of the network {source.kind}; use the same"
        yield Fault("/network/kind", detail, "another_network")
        return
    for name in type(network).model_fields:
        if name not in _WITHOUT_WEIGHTS and getattr(source, name) != getattr(network, name):
            detail = f"The checkpoint's network has another {name}; use the same"
            yield Fault(f"/network/{name}", detail, "another_network")


def _other_shapes(start: StartFrom, there: Trained, here: Trained) -> Iterator[Fault]:
    if not start.reset_head and there.sizes.outputs != here.sizes.outputs:
        detail = f"The checkpoint has {there.sizes.outputs} outputs, and these data need {here.sizes.outputs}"
        yield Fault("/start_from/reset_head", f"{detail}; set it to true", "outputs_do_not_fit")
    known = dict(_body(there))
    for name, size in _body(here):
        if known.get(name) != size:
            trained, given = there.sizes.signal, here.sizes.signal
            detail = f"Layer {name} of the checkpoint is for {trained}, and an example of these data is {given}"
            yield Fault("/data", detail, "signal_does_not_fit")
            return


def _body(of: Trained) -> Iterator[tuple[str, int]]:
    """How many numbers each layer in front of the head learns, and each of its normalizations keeps."""
    laid = laid_network(of.network, of.sizes.signal, of.sizes.outputs)
    for layer in laid.layers:
        if not in_head(layer.name):
            yield layer.name, layer.parameters
    for norm, place in laid.norms:
        if not in_head(place.layer):
            yield f"{place.layer} ({norm.name})", norm.state(place)
