"""Batch normalization with statistics of their own for each domain of the data.

Shapes: N examples, C channels (axis 1), any further axes are positions and count as examples.

Invariant: everything that reads or moves `running_mean`, `running_var` and `num_batches_tracked` of the layer sees
those of the chosen domain; only the state holds all of them.
"""

import operator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from bncore.norm._at_once import Held, Kept, Vectors, kept_for
from bncore.norm._torch import dispatch_modes
from bncore.norm.batch_norm import BatchNorm

_AXES_OF_ONE = {"running_mean": 1, "running_var": 1, "num_batches_tracked": 0}
"""The statistics, with the number of axes that one domain's have."""
Row = tuple[Tensor, Tensor, Tensor]
"""Mean (C,), variance (C,) and count () of a domain."""


class _Rows:
    """Views of the statistics of each domain, kept as long as they are views of these: to make them takes as long as
    half of the rest of a small layer's pass. Neither copies of a layer nor files have them."""

    def __init__(self) -> None:
        self._made: tuple[Tensor, Tensor, Tensor, int, int, int, int, list[Row]] | None = None

    def __reduce__(self) -> tuple[type["_Rows"], tuple[()]]:
        return _Rows, ()

    def of(self, mean: Tensor, var: Tensor, count: Tensor) -> list[Row] | None:
        """Those of each domain, of the statistics of all: (D, C), (D, C) and (D,).

        None where they are not such, and where gradients are wanted of them, of which these rows know nothing.
        """
        if mean.requires_grad or var.requires_grad:
            return None
        made = self._made
        if made is not None:
            of_mean, of_var, of_count, at_mean, at_var, at_count, size, rows = made
            # Memory that views keep is no other tensor's, so that a tensor which was given another has moved, or become
            # a part of what it was.
            if (
                (of_mean is mean and of_var is var and of_count is count)
                and (mean.data_ptr() == at_mean and var.data_ptr() == at_var)
                and (count.data_ptr() == at_count and mean.numel() == size == var.numel())
            ):
                return rows
        return self._make(mean, var, count)

    def _make(self, mean: Tensor, var: Tensor, count: Tensor) -> list[Row] | None:
        if mean.dim() != 2 or mean.shape != var.shape or count.shape != mean.shape[:1]:
            return None
        # They hold on to the memory alone: no view of a tensor, which could not be swapped, and autograd asks more of.
        rows = list(zip(*([row.data for row in one.detach().unbind()] for one in (mean, var, count)), strict=True))
        # Two threads at once: each has its own, and the last one's are kept. Not those of a mode: what sees each
        # operation may have made them something else.
        at = mean.data_ptr(), var.data_ptr(), count.data_ptr()
        self._made = (mean, var, count, *at, mean.numel(), rows) if dispatch_modes() == 0 else None
        return rows


class DomainBatchNorm(BatchNorm, at_once=True):
    """Batch normalization that keeps running statistics for each of D domains; scale and shift are shared.

    Training: as `BatchNorm`, and only the statistics of the chosen domain move. Evaluation: as `BatchNorm` with those
    of the chosen domain. `layer.domain = 1` chooses one for a layer, `select_domain(model, 1)` for a model; a batch is
    of one domain. Input and output: (N, C, ...).

    Difference from `torch.nn.BatchNorm*`: with one domain none, and state loads strictly both ways. With more, the keys
    are the same and the statistics have a leading axis: `running_mean` (D, C), `running_var` (D, C),
    `num_batches_tracked` (D,). State of a torch layer loads strictly: each domain starts from its statistics.
    `statistics_of` gives the state of a torch layer for one domain. As attributes, the statistics are those of the
    chosen domain, without that axis. Compiled, each domain is a graph of its own.

    arXiv 1603.04779, algorithm 1, for statistics that training finds as well.

    Args:
        num_features: C.
        num_domains: D.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a channel as they are where the batch's are not finite.

    Raises:
        ValueError: for less than one domain; from the forward pass as `BatchNorm`.
    """

    def __init__(
        self,
        num_features: int,
        num_domains: int = 1,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if not isinstance(num_domains, int) or num_domains < 1:
            raise ValueError(f"num_domains must be an integer, at least one domain, got {num_domains}")
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.num_domains = num_domains
        self._domain = 0
        self._rows = _Rows()
        if num_domains > 1:
            for name in _AXES_OF_ONE:
                of_one: Tensor = getattr(self, name)
                self.register_buffer(name, of_one.new_empty(num_domains, *of_one.shape))
            self.reset_running_stats()

    @property
    def domain(self) -> int:
        """The index of the chosen domain."""
        return self._domain

    @domain.setter
    def domain(self, index: int) -> None:
        index = operator.index(index)
        if not 0 <= index < self.num_domains:
            raise ValueError(f"domain {index} of {self.num_domains}; they count from 0")
        self._domain = index

    def statistics_of(self, domain: int) -> dict[str, Tensor]:
        """Copies of the scale and shift and of one domain's statistics: the state of a `torch.nn.BatchNorm*`."""
        with _Selection([self], domain):
            tensors = {name: getattr(self, name) for name in ("weight", "bias", *_AXES_OF_ONE)}
        return {name: tensor.detach().clone() for name, tensor in tensors.items() if tensor is not None}

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1 and no batch seen, for every domain."""
        for name, value in (("running_mean", 0), ("running_var", 1), ("num_batches_tracked", 0)):
            buffer = self._buffers[name]
            if buffer is not None:
                buffer.fill_(value)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_domains={self.num_domains}"

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        axes = _AXES_OF_ONE.get(name)
        # While the superclass makes the layer, its statistics are those of one domain.
        if axes is None or not isinstance(value, Tensor) or value.dim() == axes:
            return value
        return value[self._domain]

    def __setattr__(self, name: str, value: Any) -> None:
        axes = _AXES_OF_ONE.get(name)
        whole = None if axes is None else self.__dict__.get("_buffers", {}).get(name)
        if whole is not None and isinstance(value, Tensor) and value.dim() == axes < whole.dim():
            # One domain's, as it is read: in the place of all of them, they would be one from now on.
            whole = whole.clone()
            whole[self._domain] = value
            value = whole
        super().__setattr__(name, value)

    def _vectors(self, undisturbed: bool = False) -> Vectors:
        mean, var, weight, bias = super()._vectors(undisturbed)
        if mean is None or var is None or mean.dim() == 1:
            return mean, var, weight, bias
        domain, count = self._domain, self._buffers.get("num_batches_tracked")
        if undisturbed and count is not None and (rows := self._rows.of(mean, var, count)) is not None:
            return *rows[domain][:2], weight, bias
        return mean[domain], var[domain], weight, bias

    def _kept_for(self, x: Tensor, held: Held) -> Kept | None:
        kept = kept_for(x, held)
        if kept is None or self.num_domains == 1:
            return kept
        mean, var, count, weight, bias = kept
        rows = self._rows.of(mean, var, count)
        return None if rows is None else (*rows[self._domain], weight, bias)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("_rows", _Rows())

    def _may_be_moved_by_the_kernel(self) -> bool:
        # Under vmap, what torch's kernel writes to a row of a buffer is lost, and the compiler cannot ask for vmap.
        return super()._may_be_moved_by_the_kernel() and not (self.num_domains > 1 and torch.compiler.is_compiling())

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        if self.num_domains > 1:
            for name, axes in _AXES_OF_ONE.items():
                value = state_dict.get(prefix + name)
                if value is None and name == "num_batches_tracked":
                    value = torch.zeros((), dtype=torch.long)
                if value is not None and value.dim() == axes:
                    # Repeated and not expanded: assigned as it is, each domain must have memory of its own.
                    state_dict[prefix + name] = value.repeat(self.num_domains, *(1,) * axes)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def select_domain(model: nn.Module, index: int) -> AbstractContextManager[None]:
    """Have all `DomainBatchNorm` layers of the model use this domain, from now on; in a `with` block, until its end.

    `select_domain(model, 1)` selects at once. `with select_domain(model, 1):` brings back what each layer used before
    the call. A forward pass in evaluation mode that activation checkpointing repeats has to repeat with the same
    domain: call `backward` before another one is selected.

    Raises:
        ValueError: where the model has no such layer, or one with too few domains. Nothing is selected then.
    """
    layers = [module for module in model.modules() if isinstance(module, DomainBatchNorm)]
    if not layers:
        raise ValueError("the model has no DomainBatchNorm")
    return _Selection(layers, index)


class _Selection(AbstractContextManager[None]):
    """A domain that is selected from when this object is made."""

    def __init__(self, layers: list[DomainBatchNorm], index: int) -> None:
        self._before = [(layer, layer.domain) for layer in layers]
        try:
            for layer in layers:
                layer.domain = index
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        for layer, domain in self._before:
            layer.domain = domain
