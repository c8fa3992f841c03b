"""Loss scaling for fp16, whose gradients would vanish below 6e-8 otherwise.

Invariant: the scale is training state. A step whose gradients overflow changes no weight and halves the scale, at the
same steps whenever the run is repeated or resumed.
"""

from typing import Any

import torch
from torch import Tensor

from bncore.train.optimizer import Optimizer


class LossScale:
    """`torch.amp.GradScaler` with its state as tensors."""

    def __init__(self, device: torch.device) -> None:
        self._scaler: Any = torch.amp.GradScaler(device.type)

    def backward(self, loss: Tensor) -> None:
        """Add the scaled gradients of the loss."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: Optimizer) -> None:
        """Make the gradients what they are without scale: before they are clipped."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> None:
        """Let it update unless a gradient is not finite, and choose the next scale; waits for the device."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Tensor]:
        """What is saved, by name."""
        state = self._scaler.state_dict()
        return {
            "scaler/scale": torch.tensor(state["scale"], dtype=torch.float64),
            "scaler/growth_tracker": torch.tensor(state["_growth_tracker"]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state()`."""
        found = {
            "scale": tensors["scaler/scale"].item(),
            "_growth_tracker": int(tensors["scaler/growth_tracker"].item()),
        }
        self._scaler.load_state_dict({**self._scaler.state_dict(), **found})
