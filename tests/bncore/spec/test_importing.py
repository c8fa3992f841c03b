"""Options of an import are strict, and a fault's pointer names the field."""

import pytest

from bncore.spec.faults import SpecError
from bncore.spec.importing import load_import


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"format": "csv", "csv": {"delimiter": "\t", "header": False}, "targets": "3", "impute": 0.0},
        {"resize": [32, 24], "grayscale": True},
        {"resize": 8, "impute": "median"},
        {"task": "regression", "targets": ["a", "b"], "columns": {"id": "ignore", "c": "categorical"}},
        {"huggingface": {"name": "ylecun/mnist", "revision": "abc123", "columns": ["image", "label"]}},
    ],
)
def test_options_are_kept_as_they_were_said(options: dict) -> None:
    spec = load_import(options)
    assert spec.model_dump(exclude_unset=True) == options
    assert load_import(spec.model_dump()) == spec


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ([], ""),
        ({"colour": 1}, "/colour"),
        ({"format": "hdf5"}, "/format"),
        ({"resize": 0}, "/resize"),
        ({"resize": [32]}, "/resize"),
        ({"resize": "32"}, "/resize"),
        ({"impute": "mode"}, "/impute"),
        ({"impute": True}, "/impute"),
        ({"impute": float("nan")}, "/impute"),
        ({"csv": {"delimiter": "ab"}}, "/csv/delimiter"),
        ({"csv": {}, "format": "npz"}, "/csv"),
        ({"columns": {"a": "text"}}, "/columns/a"),
        ({"targets": ["a", "b"]}, "/targets"),
        ({"targets": []}, "/targets"),
        ({"kind": "vector", "resize": 8}, "/resize"),
        ({"kind": "image", "task": "tagging"}, "/task"),
        ({"format": "huggingface"}, "/huggingface"),
        ({"huggingface": {"name": "a/b"}, "format": "csv"}, "/huggingface"),
        ({"huggingface": {"name": "../etc"}}, "/huggingface/name"),
        ({"huggingface": {"name": "/etc"}}, "/huggingface/name"),
        ({"huggingface": {"name": "a/.."}}, "/huggingface/name"),
        ({"huggingface": {"name": "a", "columns": ["b"]}}, "/huggingface/columns"),
    ],
)
def test_a_fault_names_its_field(options: object, pointer: str) -> None:
    with pytest.raises(SpecError) as error:
        load_import(options)
    assert [fault.pointer for fault in error.value.faults] == [pointer]


def test_who_misspells_a_statistic_learns_that_a_number_would_do() -> None:
    with pytest.raises(SpecError) as error:
        load_import({"impute": "medain"})
    assert error.value.faults[0].detail == "Should be 'mean', 'median' or a number"
