"""Data sets held whole in memory, and batches gathered from them by index."""

from typing import assert_never

import numpy as np
import torch

from bncore.data.batching import Batches
from bncore.data.dataset import IGNORED, DataSet, Examples, InvalidData, check
from bncore.data.digits import load_digits
from bncore.data.drawn import draw_santurkar_linear, draw_variable_length
from bncore.data.mnist5k import load_mnist5k
from bncore.data.pixels import present
from bncore.data.stratified import stratified
from bncore.spec.data import (
    DataSpec,
    DigitsSpec,
    Mnist5kSpec,
    Presentation,
    SanturkarLinearSpec,
    ValidationSpec,
    VariableLengthSpec,
)

__all__ = ["IGNORED", "Batches", "DataSet", "Examples", "InvalidData", "load_data"]


def load_data(spec: DataSpec) -> DataSet:
    """The data set of `spec` on the CPU, with examples held out for validation where it asks for that.

    Raises `InvalidData` for values no network can be trained on, and for data that are not installed here.
    """
    data = _source(spec)
    if spec.validation is not None:
        data = _hold_out(data, spec.validation, spec.held_out())
    check(data)
    return data


def _source(spec: DataSpec) -> DataSet:
    match spec:
        case DigitsSpec():
            return _presented(load_digits(), spec.as_)
        case Mnist5kSpec():
            return _presented(load_mnist5k(), spec.as_)
        case VariableLengthSpec():
            return draw_variable_length(spec)
        case SanturkarLinearSpec():
            return draw_santurkar_linear(spec)
        case _:
            assert_never(spec)


def _presented(data: DataSet, presentation: Presentation) -> DataSet:
    parts = {
        name: part._replace(inputs=present(part.inputs, presentation).contiguous()) for name, part in data.parts.items()
    }
    return DataSet(outputs=data.outputs, **parts)


def _hold_out(data: DataSet, validation: ValidationSpec, count: int) -> DataSet:
    """Some training examples for validation instead, stratified where an example has one class."""
    targets = data.train.targets
    has_classes = targets.dim() == 1 and not targets.is_floating_point()
    strata = targets.numpy() if has_classes else np.zeros(len(targets), dtype=np.int64)
    held_out, kept = stratified(strata, count, f"validation {validation.seed} ")
    return DataSet(
        train=data.train.select(torch.tensor(kept)),
        validation=data.train.select(torch.tensor(held_out)),
        test=data.test,
        outputs=data.outputs,
    )
