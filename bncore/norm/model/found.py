"""Which modules of a model are normalization layers, torch's and ours, and which of them keep running statistics.

Ours are the classes that `build_norm` makes of the members of `NormSpec`: a new variant is found without a line here.
"""

import functools
from collections.abc import Callable, Iterable

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from bncore.norm._torch import AnyBatchNorm, AnyInstanceNorm
from bncore.norm.build import build_norm
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.model.overlay import own_class
from bncore.spec.catalog import members
from bncore.spec.norm import NormSpec

_TORCH: tuple[type[nn.Module], ...] = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm),
)


def is_normalization(module: nn.Module) -> bool:
    """Whether `module` is a layer that normalizes activations, or of a class derived from one."""
    return _is_of_normalizations(type(module))  # type: ignore[arg-type]


def has_batch_statistics(module: nn.Module) -> bool:
    """Whether evaluation of `module` uses averages over batches that its training moves, or would if it kept them.

    Who counts batches keeps averages over them, under torch's key. torch's instance norm looks at single samples,
    unless it keeps averages over their statistics for its evaluation.
    """
    if isinstance(module, FrozenBatchNorm):
        return False
    if isinstance(module, AnyInstanceNorm):
        return averages_instances(module)
    return isinstance(module, AnyBatchNorm) or "num_batches_tracked" in module._buffers


def averages_instances(module: nn.Module) -> bool:
    """Whether `module` is torch's instance norm and evaluates with running statistics: what it keeps, not its type."""
    return isinstance(module, AnyInstanceNorm) and module.track_running_stats and module.running_mean is not None


def normalizations(model: nn.Module, *, batch_statistics: bool = False) -> list[tuple[str, nn.Module]]:
    """Each normalization layer once, with the first path that leads to it, in the order of `named_modules`.

    Layers inside of normalization layers are parts of these. With `batch_statistics`, the layers instead that average
    statistics of batches for their evaluation, those included that only other layers use, as in recurrent cells.
    """
    return outermost(model.named_modules(), has_batch_statistics if batch_statistics else is_normalization)


def outermost(
    modules: Iterable[tuple[str, nn.Module]], wanted: Callable[[nn.Module], bool]
) -> list[tuple[str, nn.Module]]:
    """Those of `named_modules` that are wanted and are no part of another such."""
    found: list[tuple[str, nn.Module]] = []
    inside: str | None = None
    for name, module in modules:
        if inside is not None and name.startswith(inside):
            continue
        if wanted(module):
            inside = f"{name}." if name else ""
            found.append((name, module))
    return found


def path(name: str, module: nn.Module) -> str:
    """How an error calls a layer: by its path, and by its class where the model is the layer."""
    return name or f"the model itself, a {own_class(module).__name__}"


def check_not_lazy(where: str, layer: nn.Module) -> None:
    """Raise ValueError for a layer that will become one of another class when it first runs, and undo what is done."""
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        raise ValueError(f"{where} is lazy and does not know its channels yet; run the model on a batch first")


@functools.lru_cache(maxsize=256)
def _is_of_normalizations(cls: type[nn.Module]) -> bool:
    # Asked of every module of a network, several times a look at it.
    return issubclass(cls, (AnyBatchNorm, AnyInstanceNorm, *layer_classes()))


@functools.cache
def layer_classes() -> tuple[type[nn.Module], ...]:
    """The classes of torch and of ours whose layers normalize activations."""
    return tuple(_attributes())


def attributes_of(layer: nn.Module) -> frozenset[str]:
    """What every layer of the class of torch or of ours keeps in plain attributes that `layer` is of."""
    known = _attributes()
    return frozenset().union(*(known[cls] for cls in own_class(layer).__mro__ if cls in known))


@functools.cache
def _attributes() -> dict[type[nn.Module], frozenset[str]]:
    # 64 channels, which the default groups divide.
    theirs = [cls(1, 64, device="meta") if cls is nn.GroupNorm else cls(64, device="meta") for cls in _TORCH]
    ours = [build_norm(member(), 64, device="meta") for member in members(NormSpec)]  # type: ignore[arg-type]
    return {type(layer): frozenset(vars(layer)) for layer in (*theirs, *ours) if layer is not None}
