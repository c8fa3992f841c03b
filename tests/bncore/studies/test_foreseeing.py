"""What a study has ahead is what it then asks for, as long as no grid is widened."""

import json

import pytest

from bncore.spec import load_spec
from bncore.spec.study import StudySpec
from bncore.studies.asking import asked_of
from bncore.studies.claim import Batch, experiments
from bncore.studies.claims import CLAIMS
from bncore.studies.comparable import steps_of
from bncore.studies.foreseeing import Ahead, stages_of
from bncore.studies.results import Results

PLAIN = {"network": {"kind": "mlp", "hidden": [8]}, "train": {"epochs": 2, "batch_size": 100}}
HELD = {"data": {"kind": "digits", "validation": {"count": 200}}}


def stages(extensions: tuple[int, ...] = (), **asked: object) -> tuple[Ahead, ...]:
    return stages_of(json.dumps(StudySpec.model_validate(asked).model_dump(mode="json")), extensions)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_first_stage_of_every_claim_is_foreseen_as_it_will_be(claim: str) -> None:
    asked = asked_of(StudySpec(claim=claim, scale="cpu").model_dump(mode="json"))
    batch = asked.claim.next_step(asked.design, Results())
    assert isinstance(batch, Batch)
    every = experiments(asked.design, batch)
    steps = {place: steps_of(load_spec(one.spec)) for one in every for place in [one.place]}
    first, *later = stages(claim=claim, scale="cpu")
    assert first == Ahead(batch.stage, len(every), sum(steps[one.place] for one in every))
    assert [one.stage for one in later] == (["confirm"] if batch.stage == "tune" else [])


def test_a_comparison_is_foreseen_by_hand() -> None:
    """1200 training examples without 200 in batches of 100: 10 steps an epoch, 20 a run."""
    arms = {"baseline": {**PLAIN, **HELD}, "ln": {**PLAIN, **HELD, "optimizer": {"momentum": 0.9}}}
    tune = {"optimizer.lr": [0.01, 0.1, 1.0]}
    found = stages((3,), compare=arms, delta=0.01, seeds=7, tune=tune, tuning_seeds=2)
    # Two arms, three settings, two seeds; then both arms at the middle; then the seeds of the extension.
    assert found == (
        Ahead("tune", 12, 12 * 20),
        Ahead("confirm", 14, 14 * 20),
        Ahead("extend-1", 6, 6 * 20),
    )
