"""Saved networks, and where their bytes are."""

from datetime import datetime
from typing import Any

from pydantic import Field

from api.shown import Shown, utc
from api.shown.experiments import links_of
from store import tables


class StoredFile(Shown):
    size: int
    sha256: str
    content: str = Field(description="Where its bytes are.")


class Checkpoint(Shown):
    """A saved network; of kind `last`, with the state to resume its training."""

    id: str
    kind: str = Field(description="best (by the series that `summary.best` of the results names), last or periodic.")
    step: int
    epoch: int
    attempt: int
    size: int
    sha256: str
    metrics: dict[str, Any]
    created_at: datetime
    content: str = Field(description="Where the weights are: one safetensors file.")
    training_state: StoredFile | None
    weights_file: str = Field(description="The id of the weights under /v1/files.")
    state_file: str | None = Field(description="The same of the training state.")

    @classmethod
    def of(cls, row: tables.Checkpoint) -> "Checkpoint":
        content = f"{links_of(row.experiment_id).checkpoints}/{row.id}/content"
        state = None
        if row.state is not None:
            address = f"{content}?file=training_state"
            state = StoredFile(size=row.state.size, sha256=row.state.sha256, content=address)
        return cls(
            id=row.id,
            kind=row.kind,
            step=row.step,
            epoch=row.epoch,
            attempt=row.attempt,
            size=row.weights.size,
            sha256=row.weights.sha256,
            metrics=row.metrics,
            created_at=utc(row.created_at),
            content=content,
            training_state=state,
            weights_file=row.weights.id,
            state_file=row.state_id,
        )
