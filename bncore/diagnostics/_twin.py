"""Copies of single layers, to be run or read in their place."""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn


def twin(layer: nn.Module) -> Any:
    """A copy with buffers of its own; whatever else others hung on the layer is shared, as not all can be copied."""
    own = ("_parameters", "_buffers", "_modules")
    if layer._modules:
        return copy.deepcopy(layer, {id(value): value for name, value in vars(layer).items() if name not in own})
    buffers = {name: None if buffer is None else buffer.clone() for name, buffer in layer._buffers.items()}
    return _bare(layer, dict(layer._parameters), buffers)


def with_tensors(layer: nn.Module, tensors: Mapping[int, Tensor]) -> Any:
    """A copy with other parameters and buffers, by the `id` of those that they stand for."""
    found = twin(layer) if layer._modules else _bare(layer, {}, {})
    for own, of_twin in zip(_tables(layer), _tables(found), strict=True):
        of_twin.update({name: None if one is None else tensors[id(one)] for name, one in own.items()})
    return found


def kept(layer: nn.Module) -> list[Tensor]:
    """Its parameters and buffers; one that has two names is there twice."""
    return [one for table in _tables(layer) for one in table.values() if one is not None]


def _bare(layer: nn.Module, parameters: dict[str, Any], buffers: dict[str, Any]) -> Any:
    # As `copy.copy` makes it, without asking what each attribute is.
    found = type(layer).__new__(type(layer))
    vars(found).update(vars(layer), _parameters=parameters, _buffers=buffers)
    return found


def _tables(layer: nn.Module) -> Iterator[dict[str, Any]]:
    for module in layer.modules() if layer._modules else (layer,):
        yield module._parameters
        yield module._buffers
