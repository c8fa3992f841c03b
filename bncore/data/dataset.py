"""What a data set is to the trainer: examples of each part, checked once before training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bncore.data.standardize import Standardization

IGNORED = -1
"""The target of a step that is no part of its sequence."""


HELD_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}
"""A data set in files is read into the memory of its device where it takes no more than this there, as it is stored."""


class InvalidData(ValueError):
    """A data set that no network can be trained on."""


class Part(Protocol):
    """The training, validation or test examples, wherever they lie."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def index_device(self) -> torch.device:
        """Where numbers of examples have to lie that are asked for."""

    @property
    def stored_bytes(self) -> int:
        """What they would take beyond what is held in memory already."""

    def gather(self, index: Tensor) -> "Examples":
        """Those of these numbers (M,), as a network sees them."""

    def slice(self, first: int, end: int) -> "Examples":
        """Those from `first` up to `end`, as a network sees them."""

    def select(self, index: Tensor) -> "Part":
        """The part of it that these examples are."""

    def all_targets(self) -> Tensor:
        """The targets of all of them."""

    def as_stored(self) -> Iterator["Examples"]:
        """All of them in their order and in pieces, as they are stored."""

    def placed(self, device: torch.device, *, held: bool) -> "Part":
        """The same for `device`; what lies in files is read into its memory if it is to be `held` there."""


class Mixed(NamedTuple):
    """The targets of the examples that were mixed in, and the share of the others: it is at least half."""

    targets: Tensor
    share: float


class Examples(NamedTuple):
    """Inputs (N, ...), float32; targets; and of padded sequences the number of steps each has (N,), int64.

    Targets are classes (N,), int64; a class for each step (N, T), int64, `IGNORED` behind the end; or the numbers of a
    regression (N, outputs), float32.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    mixed: Mixed | None = None
    """Only of a batch that was mixed up for training."""

    @property
    def size(self) -> int:
        """N."""
        return len(self.inputs)

    @property
    def index_device(self) -> torch.device:
        return self.inputs.device

    @property
    def stored_bytes(self) -> int:
        return 0

    def to(self, device: torch.device) -> "Examples":
        """The same examples on `device`."""
        lengths = self.lengths
        return Examples(
            self.inputs.to(device), self.targets.to(device), None if lengths is None else lengths.to(device)
        )

    def select(self, index: Tensor) -> "Examples":
        """Those of these numbers, which lie on the device of the examples."""
        lengths = self.lengths
        return Examples(
            self.inputs.index_select(0, index),
            self.targets.index_select(0, index),
            None if lengths is None else lengths.index_select(0, index),
        )

    def gather(self, index: Tensor) -> "Examples":
        return self.select(index)

    def all_targets(self) -> Tensor:
        return self.targets

    def as_stored(self) -> Iterator["Examples"]:
        yield self

    def placed(self, device: torch.device, *, held: bool) -> "Examples":  # noqa: ARG002
        return self.to(device)

    def slice(self, first: int, end: int) -> "Examples":
        """Those from `first` up to `end`, as views."""
        lengths, mixed = self.lengths, self.mixed
        return Examples(
            self.inputs[first:end],
            self.targets[first:end],
            None if lengths is None else lengths[first:end],
            None if mixed is None else mixed._replace(targets=mixed.targets[first:end]),
        )


@dataclass(frozen=True)
class DataSet:
    """The parts of a data set; `outputs` is the number of classes, or of what a regression predicts."""

    train: Part
    test: Part
    outputs: int
    validation: Part | None = None
    standardization: Standardization | None = None
    """By which the inputs were standardized, of all parts."""
    class_names: tuple[str, ...] | None = None
    """By number, where whoever brought the data gave some."""

    @property
    def parts(self) -> dict[str, Part]:
        """Those that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    def to(self, device: torch.device) -> "DataSet":
        """The same data for `device`; what lies in files is read into its memory where all of it has room."""
        held = sum(part.stored_bytes for part in self.parts.values()) <= HELD_BYTES[device.type]
        return self.with_parts({name: part.placed(device, held=held) for name, part in self.parts.items()})

    def with_parts(self, parts: Mapping[str, Part]) -> "DataSet":
        """The same with these in the place of its parts."""
        return replace(self, train=parts["train"], validation=parts.get("validation"), test=parts["test"])


def check(data: DataSet) -> None:
    """Raise `InvalidData` for non-finite numbers, classes out of range, or parts that do not match."""
    for name, part in data.parts.items():
        for piece in part.as_stored():
            _check_piece(name, piece, data.outputs)


def _check_piece(name: str, piece: Examples, outputs: int) -> None:
    if len(piece.inputs) != len(piece.targets) or len(piece.inputs) == 0:
        raise InvalidData(f"{name} part: {len(piece.inputs)} inputs and {len(piece.targets)} targets")
    if piece.inputs.is_floating_point() and not torch.isfinite(piece.inputs).all():
        raise InvalidData(f"{name} part: an input is not finite")
    if piece.targets.is_floating_point():
        if not torch.isfinite(piece.targets).all():
            raise InvalidData(f"{name} part: a target is not finite")
    else:
        _check_classes(name, piece, outputs)
    if piece.lengths is not None:
        _check_lengths(name, piece, piece.lengths)


def _check_classes(name: str, part: Examples, classes: int) -> None:
    counted = part.targets if part.lengths is None else part.targets[part.targets != IGNORED]
    if counted.numel() == 0 or counted.min() < 0 or counted.max() >= classes:
        raise InvalidData(f"{name} part: a class is outside 0 to {classes - 1}")


def _check_lengths(name: str, part: Examples, lengths: Tensor) -> None:
    steps = part.inputs.shape[1]
    if lengths.shape != part.inputs.shape[:1] or lengths.min() < 1 or lengths.max() > steps:
        raise InvalidData(f"{name} part: a length for each sequence is wanted, from 1 to {steps}")
