"""What a user changes of a claim's specs reaches every arm, and changes nothing that the claim itself decides."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from bncore.spec import SpecError
from bncore.spec.faults import Fault
from bncore.spec.study import StudySpec
from bncore.studies.asking import checked
from bncore.studies.claim import Batch
from bncore.studies.claims import CLAIMS
from bncore.studies.results import Results, Run


def refused(claim: str, overrides: dict[str, Any]) -> list[Fault]:
    """Why it is; empty where it is not."""
    try:
        checked(StudySpec(claim=claim, scale="tiny", overrides=overrides), lambda document: document)
    except SpecError as error:
        return error.faults
    return []


def leaves(patch: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in patch.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_an_arm_sets_and_what_the_claim_needs_cannot_be_changed(claim: str) -> None:
    design = CLAIMS[claim].design("tiny")
    of_arms = {path for arm in design.arms for path, _ in leaves(arm.patch)}
    for path in of_arms:
        # Neither any arm's value, nor one that a spec could have: that it is not the user's to set comes first.
        (fault,) = refused(claim, nested(path, "mine"))
        assert fault.pointer == "/overrides/" + "/".join(path)
        assert fault.code in ("set_by_arms", "set_by_study", "set_by_claim")
        assert claim in fault.detail
    for path, value in leaves(design.template):
        if value is not None:
            (fault,) = refused(claim, nested(path, None))
            assert (fault.pointer, "leave it out" in fault.detail) == ("/overrides/" + "/".join(path), True)


@pytest.mark.parametrize(
    ("claim", "overrides", "pointer", "said"),
    [
        ("fewer-epochs", {"evaluation": {"every_steps": 7}}, "/evaluation/every_steps", "looks every 10 steps"),
        ("works-in-cnn", {"evaluation": {"every_steps": 1}}, "/evaluation/every_steps", "looks every 5 steps"),
        (
            "fewer-epochs",
            {"train": {"steps": None, "epochs": 2}},
            "/train/steps",
            "fewer-epochs says train.steps (200)",
        ),
        ("fewer-epochs", {"optimizer": None}, "/optimizer", "chosen by fewer-epochs"),
        ("fewer-epochs", {"network": None}, "/network", "null would take it away"),
        ("insensitive-to-initialization", {"network": {"init_scale": 2.0}}, "/network/init_scale", "chosen by"),
        ("smoother-landscape", {"train": {"steps": 4}}, "/train/steps", "those of its own budget"),
        ("gradients-explode-with-depth", {"diagnostics": []}, "/diagnostics", "judged by diagnostics/gradient_norms"),
        ("fewer-epochs", {"data": {"kind": "wine"}}, "/data", "chance among 10"),
        ("fewer-epochs", {"train": {"batch": 3}}, "/train/batch", "batch_size"),
    ],
)
def test_what_contradicts_a_claim_is_refused_by_name(
    claim: str, overrides: dict[str, Any], pointer: str, said: str
) -> None:
    found = refused(claim, overrides)
    assert [fault.pointer for fault in found] == [f"/overrides{pointer}"]
    assert said in found[0].detail


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = {"evaluation": {"every_steps": 7}, "train": {"seed": 3, "steps": None}, "optimizer": {"lr": 0.3}}
    assert {fault.pointer for fault in refused("fewer-epochs", wrong)} == {
        "/overrides/evaluation/every_steps",
        "/overrides/train/seed",
        "/overrides/train/steps",
        "/overrides/optimizer/lr",
    }


@pytest.mark.parametrize(
    ("claim", "overrides"),
    [
        ("fewer-epochs", {"network": {"hidden": [20]}, "train": {"steps": 60, "batch_size": 30}}),
        ("gain-is-the-learning-rate", {"evaluation": {"every_steps": 5}, "data": {"kind": "mnist5k"}}),
        ("larger-learning-rates", {"optimizer": {"momentum": 0.9}, "network": {}}),
        ("moments-steady-with-depth", {"data": {"validation": {"share": 0.1}}}),
    ],
)
def test_what_a_claim_leaves_open_may_be_changed(claim: str, overrides: dict[str, Any]) -> None:
    assert refused(claim, overrides) == []


@pytest.mark.parametrize("name", CLAIMS)
def test_whatever_a_claim_varies_its_design_says(name: str) -> None:
    """Stage by stage, with made-up runs: a path that a place sets is an axis, varied at once, or said to be later."""
    claim = CLAIMS[name]
    design = claim.design("tiny")
    said = {axis.path for axis in design.grid.axes} | set(design.varied_later)
    runs: list[Run] = []
    done: tuple[str, ...] = ()
    first = True
    while isinstance(batch := claim.next_step(design, Results(tuple(runs), done)), Batch):
        varied = {path for place in batch.places for path, _ in place.setting}
        said |= varied if first else set()
        assert varied <= said
        first = False
        numbers = {measure.name: 0.9 for measure in design.measures}
        runs += [
            Run(place.arm, seed, numbers, place.setting, stage=batch.stage)
            for place in batch.places
            for seed in batch.seeds
        ]
        done = (*done, batch.stage)
    assert set(design.varied_later) <= {path for run in runs for path, _ in run.setting}
