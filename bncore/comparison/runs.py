"""One run as a comparison sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bncore.comparison.measure import Ends

PRUNED = "pruned"
"""The state of a run that its sweep ended behind others."""


@dataclass(frozen=True)
class Run:
    """What was asked, and what came of it."""

    id: str
    """Ids sort by the time they were made."""
    spec: Mapping[str, Any]
    """Complete, as `ExperimentSpec` dumps it."""
    state: str
    stop_reason: str | None = None
    total_steps: int | None = None
    summary: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Ends] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return int(self.spec["train"]["seed"])

    @property
    def ended(self) -> bool:
        """Whether it has a result: one that failed, was cancelled or still runs has part of one."""
        return self.state == "succeeded"

    @property
    def diverged(self) -> bool:
        return self.stop_reason == "diverged"

    @property
    def has_target(self) -> bool:
        return self.spec["train"].get("target") is not None
