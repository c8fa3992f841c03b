"""`docs/data.md` names every kind of data, shift, augmentation and sampler, and its examples are valid."""

import json
import re
from pathlib import Path
from typing import get_args

from bncore.data import shift
from bncore.spec import load_spec, members
from bncore.spec.data import DataSpec
from bncore.spec.data.augment import AugmentSpec
from bncore.spec.data.sampler import SamplerSpec
from bncore.spec.data.shift import ShiftKind, ShiftSpec

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text()


def rows(kind: str) -> list[str]:
    """Of all tables."""
    found: list[str] = re.findall(rf"^\| `{kind}`.*\|$", PAGE, re.MULTILINE)
    return found


def test_every_kind_has_a_row_that_names_its_fields() -> None:
    for union in (DataSpec, AugmentSpec, SamplerSpec):
        for member in members(union):
            names = [] if union is DataSpec else [name for name in member.model_fields if name != "kind"]
            assert any(
                all(f"`{name}`" in row for name in names) for row in rows(member.model_fields["kind"].default)
            ), member


def test_every_shift_has_a_row_with_its_severities_and_the_catalog_names_it() -> None:
    for kind in get_args(ShiftKind):
        severities = getattr(shift, kind.upper())
        numbers = [tuple(map(float, re.findall(r"\d+\.?\d*", row.split("|")[3]))) for row in rows(kind)]
        assert severities in [found[:5] for found in numbers], kind
        assert f"`{kind}`" in (ShiftSpec.__doc__ or "")


def test_every_example_is_valid_but_for_what_the_service_completes() -> None:
    examples = [json.loads(example) for example in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
    assert len(examples) == 5
    for example in examples:
        if example["data"]["kind"] != "dataset":
            load_spec(example)
