"""The catalog is read off the unions, so that a new variant appears by itself."""

import pytest
from pydantic import TypeAdapter

from bncore.spec import CATALOG, BatchNormSpec, ExperimentSpec, NormSpec, kinds, members


@pytest.mark.parametrize("noun", CATALOG)
def test_every_kind_has_a_description_and_a_schema_that_knows_it(noun: str) -> None:
    for kind in kinds(noun):
        assert kind.description
        assert kind.schema["properties"]["kind"]["const"] == kind.kind


def test_the_normalizers_are_those_a_spec_accepts() -> None:
    adapter = TypeAdapter(NormSpec)
    names = [kind.kind for kind in kinds("normalizers")]
    assert {"none", "batch_norm", "batch_renorm", "layer_norm", "group_norm"} <= set(names)
    for name in names:
        assert adapter.validate_python({"kind": name}).kind == name


def test_a_class_and_a_union_of_classes_both_have_members() -> None:
    assert members(ExperimentSpec) == (ExperimentSpec,)
    assert BatchNormSpec in members(NormSpec)
