"""A delta or seeds that are missing or wrong hide nothing else that is wrong with what is to be compared."""

from typing import Any

import pytest

from bncore.spec import SpecError
from bncore.spec.study import load_study
from bncore.studies.asking import checked
from tests.bncore.studies.test_comparing import asked

LACKING = asked(delta=None, seeds=10)
FEW = asked(seeds=2)


def refused(document: dict[str, Any]) -> dict[str, str]:
    """All that is said of it, by its place."""
    with pytest.raises(SpecError) as error:
        checked(load_study({key: value for key, value in document.items() if value is not None}), lambda spec: spec)
    return {fault.pointer: fault.code for fault in error.value.faults}


@pytest.mark.parametrize(("document", "own"), [(LACKING, {"/delta": "missing"}), (FEW, {"/seeds": "too_few_seeds"})])
def test_what_is_wrong_with_the_specs_is_said_at_once(document: dict[str, Any], own: dict[str, str]) -> None:
    assert refused(document) == own
    assert refused({**document, "estimand": {"metric": "test/loss@batch"}}) == own | {
        "/estimand/metric": "no_such_series"
    }
    found = refused({**document, "tune": {"optimizer.lrr": [0.1, 1.0]}})
    assert found.items() >= own.items()
    assert {pointer for pointer in found if pointer not in own} == {"/tune/optimizer.lrr"}


def test_so_is_what_is_wrong_with_the_question() -> None:
    sound = refused(asked(delta=None, seeds=2, tune={"optimizer.lr": [0.1]}))
    assert sound == {"/delta": "missing", "/seeds": "too_few_seeds", "/tune/optimizer.lr": "one_value"}
