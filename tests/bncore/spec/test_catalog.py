"""The catalog is read off the unions, so that a new variant appears by itself."""

import pytest
from pydantic import TypeAdapter

from bncore.spec import CATALOG, BatchNormSpec, ExperimentSpec, NormSpec, kinds, members


@pytest.mark.parametrize("noun", CATALOG)
def test_every_kind_has_a_description_and_a_schema_that_knows_it(noun: str) -> None:
    for kind in kinds(noun):
        assert kind.description
        assert kind.schema["properties"]["kind"]["const"] == kind.kind


def test_a_kind_is_required_where_there_is_a_choice() -> None:
    for noun in CATALOG:
        found = kinds(noun)
        assert all(("kind" in kind.schema.get("required", [])) == (len(found) > 1) for kind in found), noun


def test_a_schema_has_the_default_of_every_field_that_may_be_left_out() -> None:
    schemas = {kind.kind: kind.schema for kind in kinds("networks")}
    assert schemas["vgg"]["properties"]["norm"]["default"]["kind"] == "batch_norm"
    assert schemas["gru"]["properties"]["norm"]["default"]["kind"] == "step_batch_norm"
    assert schemas["transformer_encoder"]["properties"]["norm"]["default"]["kind"] == "layer_norm"
    for noun in CATALOG:
        for kind in kinds(noun):
            for name, field in kind.schema["properties"].items():
                assert "default" in field or name in kind.schema.get("required", []), (kind.kind, name)


def test_a_kind_says_which_other_parts_of_a_spec_it_needs() -> None:
    said = {kind.kind: kind.description for kind in kinds("normalizers")}
    for kind in ("evo_norm_b0", "evo_norm_s0", "filter_response_norm"):
        assert "activation identity" in said[kind]
    for kind in ("instance_norm", "batch_instance_norm", "switchable_norm", "filter_response_norm"):
        assert "mlp, whose channels have one value each" in said[kind]
    assert "before_activation" in said["cross_iteration_batch_norm"]
    assert all("refuse" in said[kind] for kind in ("frozen_batch_norm", "masked_batch_norm"))


def test_the_normalizers_are_those_a_spec_accepts() -> None:
    adapter = TypeAdapter(NormSpec)
    names = [kind.kind for kind in kinds("normalizers")]
    assert {"none", "batch_norm", "batch_renorm", "layer_norm", "group_norm"} <= set(names)
    for name in names:
        assert adapter.validate_python({"kind": name}).kind == name


def test_a_class_and_a_union_of_classes_both_have_members() -> None:
    assert members(ExperimentSpec) == (ExperimentSpec,)
    assert BatchNormSpec in members(NormSpec)
