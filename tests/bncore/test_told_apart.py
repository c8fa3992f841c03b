"""What tells networks apart is what they are made of: each norm where it really stands, and no default that no layer
uses."""

from collections.abc import Mapping
from typing import Any

import pytest

from bncore.comparison.differing import following
from bncore.comparison.meant import norm_kinds, told_apart
from bncore.figures.arms import arms_of
from bncore.spec import SpecError, load_spec
from bncore.spec.study import StudySpec
from bncore.studies.asking import checked, document_of
from bncore.studies.reporting import document

BATCH, RENORM, LAYER = {"kind": "batch_norm"}, {"kind": "batch_renorm"}, {"kind": "layer_norm"}
FIRST, SECOND = "network.layers.2.norm.kind", "network.layers.5.norm.kind"


def whole(network: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return load_spec({"network": network, **parts}).model_dump(mode="json")


def listed(own: Mapping[str, Any] | None, **network: Any) -> dict[str, Any]:
    """A network written as a list: two hidden layers with a norm each, null as the network says."""
    one = [
        {"kind": "linear", "width": 20},
        {"kind": "norm", "norm": own},
        {"kind": "activation", "activation": "tanh"},
    ]
    return whole({"kind": "layers", "layers": [{"kind": "flatten"}, *one, *one], **network})


def labels(*specs: dict[str, Any]) -> list[str]:
    return arms_of({f"exp_{at}": spec for at, spec in enumerate(specs)}).labels


def test_lists_are_told_apart_by_the_norms_in_them_and_not_by_defaults_that_no_layer_uses() -> None:
    specs = [listed(RENORM, norm=BATCH, activation="relu"), listed(LAYER, norm=LAYER, activation="gelu")]
    told = told_apart(specs)
    assert told.paths == (FIRST, SECOND)
    assert told.wheres[0] == {FIRST: "batch_renorm", SECOND: "batch_renorm"}
    # Of two layers that say the same, one is shown.
    assert following(told.paths, told.wheres) == {SECOND: FIRST}
    assert labels(*specs) == ["batch_renorm", "layer_norm"]


def test_what_differs_in_nothing_but_unused_fields_is_one_group() -> None:
    specs = [listed(RENORM, norm=BATCH), listed(RENORM, norm=LAYER, activation="elu")]
    assert told_apart(specs).paths == ()
    assert labels(*specs) == ["layers, batch_renorm"]
    plain = [whole({"kind": "mlp", "norm": {"kind": "none"}, "placement": where}) for where in
             ("before_activation", "after_activation")]  # fmt: skip
    assert told_apart(plain).paths == ()


def test_networks_of_unlike_kinds_each_have_their_own_norm() -> None:
    specs = [listed(RENORM), listed(LAYER), whole({"kind": "mlp", "norm": LAYER})]
    told = told_apart(specs)
    assert set(told.paths) >= {"network.kind", FIRST, SECOND, "network.norm.kind"}
    assert [at.get(FIRST) for at in told.wheres] == ["batch_renorm", "layer_norm", None]
    assert [at.get("network.norm.kind") for at in told.wheres] == [None, None, "layer_norm"]
    assert not {FIRST, "network.norm.kind"} & set(following(told.paths, told.wheres))
    assert labels(*specs) == ["layers, batch_renorm", "layers, layer_norm", "mlp, layer_norm"]
    assert [norm_kinds(spec) for spec in specs] == [["batch_renorm"], ["layer_norm"], ["layer_norm"]]


def test_a_list_that_takes_the_networks_norm_shows_it_beside_one_with_its_own() -> None:
    specs = [listed(RENORM, norm=LAYER), listed(None, norm=BATCH)]
    told = told_apart(specs)
    assert [at.get("network.norm.kind") for at in told.wheres] == [None, "batch_norm"]
    assert labels(*specs) == ["batch_renorm", "batch_norm"]
    # The same list with several norms of the network differs in that.
    assert told_apart([listed(None, norm=BATCH), listed(None, norm=LAYER)]).paths == ("network.norm.kind",)


def test_lists_of_different_lengths_name_their_norms_too() -> None:
    longer = listed(LAYER)
    longer["network"]["layers"] = [*longer["network"]["layers"], {"kind": "linear", "width": 9, "bias": None}]
    longer["network"]["layers"] += [{"kind": "norm", "norm": LAYER}]
    told = told_apart([listed(RENORM), load_spec(longer).model_dump(mode="json")])
    assert [at.get(FIRST) for at in told.wheres] == ["batch_renorm", "layer_norm"]


def test_what_some_networks_leave_unused_is_no_difference_of_the_others() -> None:
    specs = [whole({"kind": "mlp", "norm": {"kind": "none"}}), whole({"kind": "mlp", "norm": BATCH}),
             whole({"kind": "mlp", "norm": LAYER, "placement": "after_activation"})]  # fmt: skip
    assert told_apart(specs[:2]).paths == ("network.norm.kind",)
    told = told_apart(specs)
    assert [at.get("network.placement") for at in told.wheres] == [None, "before_activation", "after_activation"]


def test_a_report_says_which_norms_arms_have() -> None:
    asked = {"baseline": listed(RENORM, norm=LAYER), "other": listed(LAYER, norm=BATCH, activation="relu")}
    spec = StudySpec.model_validate({"compare": asked, "delta": 0.01})
    completed, one = checked(spec, lambda given: given)
    shown = {"study": {"id": "stu_1", "spec": completed.model_dump(mode="json")}, "design": document_of(one.design)}
    (first, second) = document(shown)["arms"]
    assert first["differs"] == {}
    assert second["differs"] == {FIRST: ["batch_renorm", "layer_norm"], SECOND: ["batch_renorm", "layer_norm"]}


def test_arms_that_differ_in_unused_fields_alone_are_refused() -> None:
    asked = {"baseline": listed(RENORM, norm=LAYER), "other": listed(RENORM, norm=BATCH)}
    with pytest.raises(SpecError) as caught:
        checked(StudySpec.model_validate({"compare": asked, "delta": 0.01}), lambda given: given)
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [("/compare/other", "same_spec")]
