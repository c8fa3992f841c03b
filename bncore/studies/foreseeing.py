"""How much a study has ahead: its stages with their experiments and steps, before they are submitted.

Found by asking the claim itself, with made-up results that are all alike: then the middle of each grid wins, no grid is
widened, and arms that are compared at each other's best settings run once. So it is the least that is to be expected.
"""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from bncore.spec.parse import load_spec
from bncore.studies.asking import Asked, asked_of
from bncore.studies.claim import Batch, experiments
from bncore.studies.comparable import steps_of
from bncore.studies.results import Results, Run

_ANY = 0.5
"""An accuracy, a loss or a time: where all are alike, which one changes nothing."""


@dataclass(frozen=True)
class Ahead:
    """A stage."""

    stage: str
    experiments: int
    steps: int
    """Of all of them together."""


@lru_cache(maxsize=256)
def stages_of(asked: str, extensions: tuple[int, ...]) -> tuple[Ahead, ...]:
    """All stages of a stored study in their order, remembered for those seen last.

    Args:
        asked: the study's document, as JSON text.
        extensions: the seeds that each has added.

    Raises:
        ValueError: this version of BNLab takes it, or its specs, no more.
    """
    return tuple(_stages(asked_of(json.loads(asked), extensions)))


def _stages(asked: Asked) -> Iterator[Ahead]:
    found = Results()
    while isinstance(batch := asked.claim.next_step(asked.design, found), Batch):
        one_seed = dataclasses.replace(batch, seeds=batch.seeds[:1])
        steps = sum(steps_of(load_spec(one.spec)) for one in experiments(asked.design, one_seed))
        yield Ahead(batch.stage, len(batch.places) * len(batch.seeds), steps * len(batch.seeds))
        metrics = {measure.name: _ANY for measure in asked.design.measures}
        runs = (
            Run(place.arm, seed, metrics, place.setting, stage=batch.stage)
            for place in batch.places
            for seed in batch.seeds
        )
        found = Results((*found.runs, *runs), (*found.done, batch.stage))
