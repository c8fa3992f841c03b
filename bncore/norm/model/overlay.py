"""Layers that behave differently for a while: by their class, so that state, hooks, keys and identity stay as they are.

Such a class is made on the fly and no name leads to it; its objects are copied and pickled by the classes that it is
made of. `isinstance` holds for the layer's own class throughout.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from weakref import WeakValueDictionary

from torch import Tensor, nn
from torch.nn.utils import parametrize

_made: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
"""By origin and overlays: layers that are alike have one class."""


class Overlay(nn.Module):
    """Behaviour to lay over a layer: a subclass overrides methods, and reaches the layer's own by `super()`."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _blank, (_origin(type(self)), _overlays(type(self))), self.__getstate__()


class Temporary(Overlay):
    """An overlay that is to be taken off again, as nothing else may be done to the layer until then."""


def lay_over(layer: nn.Module, overlay: type[Overlay]) -> None:
    """Put `overlay` in front of what the class of `layer` does."""
    cls = type(layer)
    layer.__class__ = _combined(_origin(cls), (overlay, *_overlays(cls)))


def take_off(layer: nn.Module, overlay: type[Overlay]) -> None:
    """Undo `lay_over`, in any order among several overlays.

    Raises:
        RuntimeError: the class was changed by others since, for instance by a parametrization.
    """
    cls = type(layer)
    remaining = tuple(one for one in _overlays(cls) if one is not overlay)
    if len(remaining) == len(_overlays(cls)):
        raise RuntimeError(f"the class of {cls.__name__} was changed since; undo that first (a parametrization?)")
    layer.__class__ = _combined(_origin(cls), remaining)


def own_class(layer: nn.Module) -> type[nn.Module]:
    """The class of a layer but for what is laid over it, and for its parametrizations, which are a class as well."""
    origin = _origin(type(layer))
    return _origin(origin.__bases__[0]) if parametrize.is_parametrized(layer) else origin


@contextmanager
def buffers_replaced(layer: nn.Module, tensors: Mapping[str, Tensor | None]) -> Iterator[None]:
    """Within it, `layer` has these buffers; nothing is written into its own, which a backward pass may need."""
    own = {name: layer._buffers[name] for name in tensors}
    layer._buffers.update(tensors)
    try:
        yield
    finally:
        layer._buffers.update(own)


def _combined(origin: type[nn.Module], overlays: tuple[type[Overlay], ...]) -> Any:
    if not overlays:
        return origin
    if (origin, overlays) in _made:
        return _made[origin, overlays]
    name = "".join(overlay.__name__.lstrip("_") for overlay in overlays) + origin.__name__
    cls: Any = type(name, (*overlays, origin), {"_laid_over": (origin, overlays), "__module__": __name__})
    _made[origin, overlays] = cls
    return cls


def _origin(cls: type[nn.Module]) -> type[nn.Module]:
    # Not by inheritance: a class that others derive from such a class is an origin by itself.
    return cast("type[nn.Module]", cls.__dict__["_laid_over"][0]) if "_laid_over" in cls.__dict__ else cls


def _overlays(cls: type[nn.Module]) -> tuple[type[Overlay], ...]:
    return cast("tuple[type[Overlay], ...]", cls.__dict__["_laid_over"][1]) if "_laid_over" in cls.__dict__ else ()


def _blank(origin: type[nn.Module], overlays: tuple[type[Overlay], ...]) -> Any:
    cls = _combined(origin, overlays)
    return cls.__new__(cls)
