"""From what a spec says of its data to the data themselves: read or drawn, divided, standardized and checked.

Invariant: the test part decides nothing, and validation only what is chosen by it: both are held out before anything
is left out or measured.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import assert_never

import numpy as np
import torch

from bncore.data.canonical import load_canonical
from bncore.data.dataset import DataSet, Examples, InvalidData, Part, check
from bncore.data.digits import load_digits
from bncore.data.drawn import draw_santurkar_linear, draw_variable_length
from bncore.data.measuring import measure
from bncore.data.mnist5k import load_mnist5k
from bncore.data.reading import Reading
from bncore.data.shift import Shift
from bncore.data.standardize import Standardization, channels_of
from bncore.data.stored import StoredPart
from bncore.data.stratified import of_each, stratified
from bncore.data.tables import load_table
from bncore.spec.data import (
    BreastCancerSpec,
    DatasetSpec,
    DataSpec,
    DigitsSpec,
    Mnist5kSpec,
    SanturkarLinearSpec,
    VariableLengthSpec,
    WineSpec,
)
from bncore.spec.data.pixels import ImageOptions
from bncore.spec.data.standardized import Standardized


def load_data(spec: DataSpec, folder: Path | None = None) -> DataSet:
    """The data set of `spec` on the CPU: what is held out and left out is, and inputs are what a network sees.

    A data set that was brought in lies in `folder`, and stays there until it is placed on a device. Raises
    `InvalidData` for values no network can be trained on, and for data that are not here.
    """
    data = _divided(spec, folder)
    if isinstance(spec, Standardized) and spec.standardize:
        data = _standardized(data, measure(_plain(data.train)))
    return _presented(data, spec)


def load_for(spec: DataSpec, folder: Path | None, standardization: Standardization | None) -> DataSet:
    """The same as a network takes it that was trained on inputs standardized so, or not at all: it is measured on other
    data as it learned to see them. Raises `InvalidData` where these have another number of channels."""
    data = _divided(spec, folder)
    if standardization is not None:
        channels = channels_of(next(_plain(data.test)).inputs)
        if channels != len(standardization.mean):
            raise InvalidData(f"{channels} channels cannot be standardized by those of {len(standardization.mean)}")
        data = _standardized(data, standardization)
    return _presented(data, spec)


def _divided(spec: DataSpec, folder: Path | None) -> DataSet:
    data = _source(spec, folder)
    if spec.validation is not None:
        train, validation = _hold_out(data.train, spec.held_out(), f"validation {spec.validation.seed} ")
        data = replace(data, train=train, validation=validation)
    if spec.imbalance is not None:
        counts, labels = spec.class_counts(), data.train.all_targets().numpy()
        assert counts is not None
        kept = of_each(labels, dict(enumerate(counts)), f"imbalance {spec.imbalance.seed} ")
        data = replace(data, train=data.train.select(torch.from_numpy(np.flatnonzero(kept))))
    check(data)
    if data.train.size != spec.train_examples():
        # The spec may have been completed by hand.
        raise InvalidData("the spec says other class_counts than the data set has")
    return data


def _source(spec: DataSpec, folder: Path | None) -> DataSet:
    match spec:
        case DigitsSpec():
            return _seen(load_digits(), spec)
        case Mnist5kSpec():
            return _seen(load_mnist5k(), spec)
        case VariableLengthSpec():
            return draw_variable_length(spec)
        case SanturkarLinearSpec():
            return draw_santurkar_linear(spec)
        case WineSpec() | BreastCancerSpec():
            return load_table(spec)
        case DatasetSpec():
            return _seen(_with_test(load_canonical(spec, folder), spec), spec)
        case _:
            assert_never(spec)


def _seen(data: DataSet, spec: ImageOptions) -> DataSet:
    """Images of another size, and shifted."""
    if spec.resize is None and spec.shift is None:
        return data
    plain = Reading(resize=spec.resize)
    shifted = plain if spec.shift is None else replace(plain, shift=Shift(spec.shift))
    is_everywhere = spec.shift is not None and spec.shift.parts == "all"
    return _read(data, {name: shifted if is_everywhere or name == "test" else plain for name in data.parts})


def _read(data: DataSet, readings: dict[str, Reading]) -> DataSet:
    """Each part by its reading: in memory at once, else whenever something of it is asked for."""
    parts: dict[str, Part] = {}
    for name, part in data.parts.items():
        if isinstance(part, StoredPart):
            parts[name] = replace(part, reading=part.reading.then(readings[name]))
        else:
            examples = part.slice(0, part.size)
            seen = readings[name](examples.inputs, torch.arange(part.size), examples.lengths)
            parts[name] = examples._replace(inputs=seen.contiguous())
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


def _plain(part: Part) -> Iterator[Examples]:
    """All of it in pieces, as far as it is read."""
    pieces = part.pieces() if isinstance(part, StoredPart) else [(0, part.size)]
    return (part.slice(first, end) for first, end in pieces)


def _standardized(data: DataSet, standardization: Standardization) -> DataSet:
    reading = Reading(standardization=standardization)
    return replace(_read(data, dict.fromkeys(data.parts, reading)), standardization=standardization)


def _presented(data: DataSet, spec: DataSpec) -> DataSet:
    if not isinstance(spec, ImageOptions) or spec.as_ == "image":
        return data
    return _read(data, dict.fromkeys(data.parts, Reading(presentation=spec.as_)))
