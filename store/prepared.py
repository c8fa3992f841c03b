"""What a kind of job adds to the claim of one: what is asked, and what has to be there before it begins."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from store.tables import Checkpoint


@dataclass(frozen=True)
class Data:
    """A data set that was brought in, and the digest that stands for its content."""

    dataset_id: str
    sha256: str

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> "Data | None":
        """The one that a stored spec names under `data`, if it does."""
        data = spec.get("data") or {}
        return cls(data["id"], data["sha256"]) if data.get("kind") == "dataset" else None


@dataclass(frozen=True)
class Prepared:
    """See `store.work.Claim`."""

    spec: dict[str, Any]
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    data: Data | None = None
    restore: Checkpoint | None = None
    not_bit_exact: str | None = None
    rest_at: int | None = None
