"""How often values are read from a device, counted where there is none.

Every tensor counts as one of a device until it is brought to the host, by `cpu`; what is computed from such alone is on
the host, too, and so is what is made from Python's numbers. A number of the host is read for nothing; one of the device
is waited for, and so is a size that values decide. What a device would refuse, to compute with tensors of both, raises.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

_IS_CPU = torch.Tensor.is_cpu.__get__  # type: ignore[attr-defined]
_READS = ("tolist", "numpy", "cpu", "__array__")
_BY_SHAPE = ("unflatten_dense_tensors", "view_as", "reshape_as", "expand_as")
_WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::bincount")


class Reads(TorchFunctionMode):
    """Within it, reads are counted, by what reads."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self._sizes = _Sizes(self)
        self.is_on_host = False
        """What the operation that runs computes with."""

    def __enter__(self) -> "Reads":
        self._sizes.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._sizes.__exit__(*raised)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == _IS_CPU:
            # Whoever spares on a CPU what a device needs does not spare it here.
            return _is_on_host(args[0])
        kwargs, given = kwargs or {}, list(_tensors((args, kwargs)))
        name = getattr(func, "__name__", "")
        moves = name in ("to", "type_as") and len(given) > 1
        # A tensor goes where the other is, and takes the shape of whatever lies wherever.
        by_shape = name in _BY_SHAPE
        ends = given[-1:] if moves else given[:1] if by_shape else given
        hosted = [one for one in given if _is_on_host(one)]
        made = not given and kwargs.get("device") is None
        before, self.is_on_host = self.is_on_host, made or (bool(given) and all(map(_is_on_host, ends)))
        if (name in _READS and not self.is_on_host) or (moves and self.is_on_host and len(hosted) < len(given)):
            self.counts[name] += 1
        if hosted and len(hosted) < len(given) and not (moves or by_shape) and any(one.dim() for one in hosted):
            raise AssertionError(f"{resolve_name(func)} of tensors of host and device")
        try:
            found = func(*args, **kwargs)
        finally:
            is_on_host, self.is_on_host = self.is_on_host or name == "cpu", before
        if name == "cpu":
            # What is brought there is another tensor.
            found = found.view_as(found)
        for tensor in _tensors(found):
            if is_on_host != _is_on_host(tensor):
                tensor._is_on_host = is_on_host
        return found


class _Sizes(TorchDispatchMode):
    """Sees what happens inside of operations, too: numbers that they read, and sizes that values decide."""

    def __init__(self, reads: Reads) -> None:
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        indices = args[1] if name == "aten::index" else ()
        by_mask = any(one is not None and one.dtype == torch.bool for one in indices)
        if (by_mask or name in _WAITS) and not self._reads.is_on_host:
            self._reads.counts[name] += 1
        return func(*args, **(kwargs or {}))


def _is_on_host(tensor: Tensor) -> bool:
    return getattr(tensor, "_is_on_host", False)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
