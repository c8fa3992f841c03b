"""From stored inputs to what a network sees of them: the same of an example wherever and with whatever it is read.

Shapes: N examples.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bncore.data.pixels import present
from bncore.data.standardize import Standardization
from bncore.spec.data import Presentation

WHITE = 255
"""Images are stored in bytes; a network sees numbers from 0 to 1."""


@dataclass(frozen=True)
class Reading:
    """Bytes become numbers from 0 to 1, inputs are standardized, images are presented as sequences, in this order."""

    standardization: Standardization | None = None
    presentation: Presentation = "image"

    def to(self, device: torch.device) -> "Reading":
        """The same for inputs on `device`."""
        standardization = None if self.standardization is None else self.standardization.to(device)
        return replace(self, standardization=standardization)

    def __call__(self, stored: Tensor, numbers: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """What is seen of inputs (N, ...) with these numbers, (N,), in the part of the set that they are stored in."""
        seen = stored / WHITE if stored.dtype == torch.uint8 else stored
        if self.standardization is not None:
            seen = self.standardization(seen, lengths)
        return present(seen, self.presentation) if self.presentation != "image" else seen
