"""From stored inputs to what a network sees of them: the same of an example wherever and with whatever it is read.

Shapes: N examples.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from bncore.data.pixels import present
from bncore.data.resampling import along, areas
from bncore.data.shift import Shift
from bncore.data.standardize import Standardization
from bncore.spec.data import Presentation

WHITE = 255
"""Images are stored in bytes; a network sees numbers from 0 to 1."""


@dataclass(frozen=True)
class Reading:
    """Bytes become numbers from 0 to 1, images are resized and shifted, inputs are standardized, and images presented
    as sequences, in this order."""

    resize: int | None = None
    """Pixels of a side."""
    shift: Shift | None = None
    standardization: Standardization | None = None
    presentation: Presentation = "image"

    def then(self, other: "Reading") -> "Reading":
        """This one with what the other one does."""
        said = {field.name: (getattr(other, field.name), field.default) for field in fields(other)}
        return replace(self, **{name: value for name, (value, default) in said.items() if value != default})

    def to(self, device: torch.device) -> "Reading":
        """The same for inputs on `device`."""
        standardization = None if self.standardization is None else self.standardization.to(device)
        return replace(self, standardization=standardization)

    def __call__(self, stored: Tensor, numbers: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What is seen of inputs (N, ...) with these numbers, (N,), in the part of the set that they are stored in."""
        seen = stored / WHITE if stored.dtype == torch.uint8 else stored
        if self.resize is not None:
            for axis in (2, 3):
                seen = along(seen, axis, areas(seen.shape[axis], self.resize).to(seen.device))
        if self.shift is not None:
            seen = self.shift(seen, numbers.to(seen.device))
        if self.standardization is not None:
            seen = self.standardization(seen, lengths)
        return present(seen, self.presentation) if self.presentation != "image" else seen
