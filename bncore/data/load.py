"""From what a spec says of its data to the data themselves: read or drawn, divided, standardized and checked.

Invariant: the test part decides nothing, and validation only what is chosen by it: both are held out before anything
is measured.
"""

from dataclasses import replace
from pathlib import Path
from typing import assert_never

import numpy as np
import torch

from bncore.data.canonical import load_canonical
from bncore.data.dataset import DataSet, Examples, Part, check
from bncore.data.digits import load_digits
from bncore.data.drawn import draw_santurkar_linear, draw_variable_length
from bncore.data.measuring import measure
from bncore.data.mnist5k import load_mnist5k
from bncore.data.pixels import present
from bncore.data.stored import StoredPart
from bncore.data.stratified import stratified
from bncore.spec.data import (
    DatasetSpec,
    DataSpec,
    DigitsSpec,
    Mnist5kSpec,
    Presentation,
    SanturkarLinearSpec,
    VariableLengthSpec,
)


def load_data(spec: DataSpec, folder: Path | None = None) -> DataSet:
    """The data set of `spec` on the CPU, with examples held out for validation where it asks for that.

    A data set that was brought in lies in `folder`, and stays there until it is placed on a device. Raises
    `InvalidData` for values no network can be trained on, and for data that are not here.
    """
    data = _source(spec, folder)
    if spec.validation is not None:
        train, validation = _hold_out(data.train, spec.held_out(), f"validation {spec.validation.seed} ")
        data = replace(data, train=train, validation=validation)
    check(data)
    return _standardized(data, spec) if isinstance(spec, DatasetSpec) and spec.standardize else data


def _source(spec: DataSpec, folder: Path | None) -> DataSet:
    match spec:
        case DigitsSpec():
            return _presented(load_digits(), spec.as_)
        case Mnist5kSpec():
            return _presented(load_mnist5k(), spec.as_)
        case VariableLengthSpec():
            return draw_variable_length(spec)
        case SanturkarLinearSpec():
            return draw_santurkar_linear(spec)
        case DatasetSpec():
            return _with_test(load_canonical(spec, folder), spec)
        case _:
            assert_never(spec)


def _presented(data: DataSet, presentation: Presentation) -> DataSet:
    parts = {
        name: part._replace(inputs=present(part.inputs, presentation).contiguous())
        for name, part in data.parts.items()
        if isinstance(part, Examples)
    }
    return data.with_parts(parts)


def _with_test(data: DataSet, spec: DatasetSpec) -> DataSet:
    if spec.test is None:
        return data
    train, test = _hold_out(data.train, spec.test_drawn(), f"test {spec.test.seed} ")
    return replace(data, train=train, test=test)


def _hold_out(part: Part, count: int, salt: str) -> tuple[Part, Part]:
    """Without some examples, and these: stratified where an example has one class."""
    targets = part.all_targets()
    has_classes = targets.dim() == 1 and not targets.is_floating_point()
    strata = targets.numpy() if has_classes else np.zeros(part.size, dtype=np.int64)
    held_out, kept = stratified(strata, count, salt)
    return part.select(torch.from_numpy(kept)), part.select(torch.from_numpy(held_out))


def _standardized(data: DataSet, spec: DatasetSpec) -> DataSet:
    """By the training examples, as they are before."""
    is_image = spec.signal is not None and spec.signal.kind == "image"
    parts = {name: part for name, part in data.parts.items() if isinstance(part, StoredPart)}
    pieces = parts["train"].pieces()
    plain = replace(parts["train"], reading=replace(parts["train"].reading, presentation="image"))
    found = measure((plain.slice(*piece) for piece in pieces), 1 if is_image else -1)
    seen = {name: replace(part, reading=replace(part.reading, standardization=found)) for name, part in parts.items()}
    return replace(data.with_parts(seen), standardization=found)
