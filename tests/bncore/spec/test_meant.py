"""What was probably meant is said, and a kind that need not be said is the usual one."""

from typing import Any

import pytest
import torch

from bncore.norm import convert
from bncore.spec import CATALOG, ExperimentSpec, SpecError, load_spec, members
from bncore.spec.strict import fields_of


def refused(document: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as raised:
        load_spec(document)
    return {fault.pointer: fault.detail for fault in raised.value.faults}


@pytest.mark.parametrize(
    ("document", "pointer", "detail"),
    [
        ({"lr": 0.1}, "/lr", "Unknown field; did you mean optimizer.lr?"),
        ({"epochs": 3}, "/epochs", "Unknown field; did you mean train.epochs?"),
        ({"model": {}}, "/model", "Unknown field; did you mean network?"),
        ({"train": {"learning_rate": 1.0}}, "/train/learning_rate", "Unknown field; did you mean optimizer.lr?"),
        ({"optimizer": {"learning_rate": 1.0}}, "/optimizer/learning_rate", "Unknown field; did you mean lr?"),
        ({"momentum": 0.1}, "/momentum", "Unknown field; did you mean optimizer.momentum or network.norm.momentum?"),
        ({"network": {"momentum": 0.1}}, "/network/momentum", "Unknown field; did you mean network.norm.momentum?"),
        ({"batchnorm": 1}, "/batchnorm", 'Unknown field; did you mean network.norm: {"kind": "batch_norm"}?'),
        ({"network": {"norm": {"kind": "BN"}}}, "/network/norm/kind", "Unknown kind; did you mean batch_norm?"),
        ({"optimizer": {"kind": "AdamW"}}, "/optimizer/kind", "Unknown kind; did you mean adamw?"),
        ({"optimizer": {"kind": "SGD"}}, "/optimizer/kind", "Unknown kind; did you mean sgd?"),
        ({"optimizer": {"kind": "RMSprop"}}, "/optimizer/kind", "Unknown kind; did you mean rmsprop?"),
        ({"network": {"kind": "LSTM"}}, "/network/kind", "Unknown kind; did you mean lstm?"),
        ({"network": {"kind": "VGG16"}}, "/network/kind", "Unknown kind; did you mean vgg?"),
        (
            {"network": {"norm": {"kind": "layer_norm", "r_max": 3.0}}}, "/network/norm/r_max",
            "Unknown field of layer_norm; batch_renorm and moving_average_batch_norm have it",
        ),
        ({"optimizer": {"betas": [0.9, 0.99]}}, "/optimizer/kind",
         "Is required; betas is a field of adam, adamw, lamb"),
        ({"network": {"norm": {"r_max": 3.0}}}, "/network/norm/kind",
         "Is required; r_max is a field of batch_renorm, moving_average_batch_norm"),
        ({"optimizer": "Adam"}, "/optimizer", 'Must be an object, such as {"kind": "adam"}'),
    ],
    ids=str,
)  # fmt: skip
def test_a_slip_is_answered_with_what_was_meant(document: Any, pointer: str, detail: str) -> None:
    assert refused(document) == {pointer: detail}


def test_every_field_of_a_section_is_found_from_the_top() -> None:
    """Where the answer leads to is a field: it says nothing of an unknown one there."""
    top = fields_of(ExperimentSpec)
    sections = {"train": fields_of(top["train"].annotation), "evaluation": fields_of(top["evaluation"].annotation)}  # type: ignore[arg-type]
    for noun, section in (("optimizers", "optimizer"), ("schedules", "schedule"), ("networks", "network")):
        sections[section] = {name: field for kind in members(CATALOG[noun]) for name, field in fields_of(kind).items()}
    for section, fields in sections.items():
        for name in set(fields) - {"kind"} - set(top):
            said = refused({name: 1})[f"/{name}"]
            places = (
                said.removeprefix("Unknown field; did you mean ").removesuffix("?").replace(" or ", ", ").split(", ")
            )
            assert "others" in places or f"{section}.{name}" in places, said
            for place in set(places) - {"others"}:
                head, *rest = place.split(".")
                assert head in top
                assert rest[-1] == name


def test_a_union_with_a_usual_kind_need_not_name_it_and_what_names_it_is_the_same() -> None:
    said = {
        "optimizer": {"lr": 0.5}, "schedule": {"warmup_steps": 5}, "network": {"hidden": [10], "init": {}},
        "data": {"sampler": {}}, "loss": {"label_smoothing": 0.1},
    }  # fmt: skip
    kinds = {"optimizer": "sgd", "schedule": "constant", "network": "mlp", "data": "digits", "loss": "cross_entropy"}
    named = {part: {"kind": kinds[part], **fields} for part, fields in said.items()}
    named["network"]["init"] = {"kind": "default"}
    named["data"]["sampler"] = {"kind": "shuffled"}
    assert load_spec(said) == load_spec(named)
    assert load_spec({part: {} for part in kinds}) == load_spec({})


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        ({"kind": "batchnorm"}, "Unknown kind; did you mean batch_norm"),
        ("batchnorm", 'Must be an object, such as {"kind": "batch_norm"}'),
        ({"momentum": 0.2}, "Is required; momentum is a field of batch_norm"),
        ({"kind": "layer_norm", "r_max": 3.0}, "Unknown field of layer_norm; batch_renorm"),
    ],
)
def test_convert_says_the_same(asked: Any, detail: str) -> None:
    with pytest.raises(SpecError, match="^[^\n]*" + detail.replace("{", r"\{").replace("}", r"\}")):
        convert(torch.nn.Sequential(torch.nn.BatchNorm1d(4)), asked)
