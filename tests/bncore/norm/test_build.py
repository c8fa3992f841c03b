"""From a spec to a layer: what neither says is the same number on both sides."""

import inspect

import pytest
import torch

from bncore.norm import build_norm, convert
from bncore.spec import SpecError
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


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "batch_norm", "p": 1}, "/p: Unknown field of batch_norm; lp_batch_norm has it"),
        ({"kind": "batch_norm", "momentun": 1}, "/momentun: Unknown field; did you mean momentum?"),
        ({"kind": "batchnorm"}, "/kind: Unknown kind; did you mean batch_norm?"),
        ({}, "/kind: Is required"),
        ({"kind": "batch_renorm", "r_max": 0.5}, "/r_max: Should be greater than or equal to 1"),
        ("batch_norm", 'body: Must be an object, such as {"kind": "batch_norm"}'),
    ],
    ids=str,
)
def test_what_is_no_spec_is_refused_in_words_that_name_the_field(spec: object, words: str) -> None:
    for refuse in (lambda: build_norm(spec, 4), lambda: convert(torch.nn.BatchNorm1d(4), spec)):
        with pytest.raises(SpecError) as raised:
            refuse()
        assert str(raised.value) == words
