"""A series whose part is called as other tools call it is answered with its name here, and with what it needs."""

import pytest

from bncore.comparison.measure import MeasureUnknown, measures
from bncore.spec import load_spec
from bncore.spec.recorded import why_unmeasured

BY_HAND = {"data": {"kind": "digits"}, "network": {"kind": "mlp"}, "train": {"steps": 10}}


def test_why_a_run_has_no_such_series() -> None:
    spec = load_spec(BY_HAND)
    said = why_unmeasured("val/accuracy", spec)
    assert "did you mean validation/accuracy?" in said
    assert "data.validation" in said
    held_out = load_spec({**BY_HAND, "data": {"kind": "digits", "validation": {"share": 0.2}}})
    assert why_unmeasured("val/accuracy", held_out).endswith("did you mean validation/accuracy?")


def test_a_comparison_says_it_too() -> None:
    with pytest.raises(MeasureUnknown, match=r"did you mean validation/loss:min, which needs data.validation[?]"):
        measures(["val/loss:min"], {"train/loss", "test/loss"})
    with pytest.raises(MeasureUnknown, match=r"did you mean validation/loss[?]"):
        measures(["val/loss"], {"train/loss", "validation/loss"})
