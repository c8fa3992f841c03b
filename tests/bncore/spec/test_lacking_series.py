"""What is said where a run has no such series of an evaluation: one sentence, wherever it is asked for."""

from typing import Any

import pytest

from bncore.spec import load_spec
from bncore.spec.recorded import recorded_of, why_unmeasured

REGRESSION = {"data": {"kind": "santurkar_linear"}, "network": {"kind": "mlp", "hidden": [4]}}


@pytest.mark.parametrize(
    ("spec", "series", "cure"),
    [
        ({}, "validation/loss", 'as data.validation: {"share": 0.2}'),
        ({}, "test/accuracy@precise", "evaluation.statistics for batch and precise"),
        ({}, "test/acuracy", "did you mean test/accuracy?"),
        ({}, "nothing", "there are train/loss, train/accuracy, lr, test/loss, test/accuracy"),
        (REGRESSION, "test/accuracy", "a regression has no accuracy: name test/loss"),
        (REGRESSION, "test/accuracy@batch", "a regression has no accuracy: name test/loss"),
    ],
)
def test_a_lack_is_said_in_one_sentence(spec: dict[str, Any], series: str, cure: str) -> None:
    parsed = load_spec(spec)
    said = recorded_of(parsed).cure(series)
    assert cure in said
    assert why_unmeasured(series, parsed) == f"Is no series of these runs; {said}"
