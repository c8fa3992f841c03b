"""From a spec to a layer: what neither says is the same number on both sides."""

import inspect

import pytest

from bncore.norm import build_norm
from bncore.spec.catalog import members
from bncore.spec.norm import NormSpec


@pytest.mark.parametrize("member", members(NormSpec), ids=lambda member: member.__name__)
def test_defaults_of_the_spec_are_those_of_its_layer(member: type) -> None:
    layer = build_norm(member(), 64)
    arguments = inspect.signature(type(layer).__init__).parameters
    shared = [name for name in member.model_fields if name in arguments]
    assert {name: member.model_fields[name].default for name in shared} == {
        name: arguments[name].default for name in shared
    }
