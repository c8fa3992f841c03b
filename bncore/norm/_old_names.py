"""State that torch's older functions wrote for a parametrized weight, which kept its parts on the layer itself."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class OldNames:
    """A hook that gives the parts of a weight the names that they have today, before a layer loads its state.

    Args:
        name: the weight's.
        parts: from what was appended to `name` to where the part is in the parametrization.
    """

    def __init__(self, name: str, parts: Mapping[str, str]) -> None:
        self.name = name
        self.parts = dict(parts)

    def __call__(self, _module: nn.Module, state: dict[str, Tensor], prefix: str, *_rest: Any) -> None:
        old = {f"{prefix}{self.name}{part}": place for part, place in self.parts.items()}
        if all(key in state for key in old):
            for key, place in old.items():
                state[f"{prefix}parametrizations.{self.name}.{place}"] = state.pop(key)
