"""What a network's spec says that no layer of it uses changes nothing of it, to the bit; and what is used does."""

from typing import Any

import pytest
import torch

from bncore.networks import build_network
from bncore.spec import ExperimentSpec, load_spec
from bncore.spec.data import data_shape
from bncore.spec.effective import norm_pointers, unused_fields
from tests.network_specs import KINDS, NORMS, small_spec

RENORM, LAYER = {"kind": "batch_renorm"}, {"kind": "layer_norm"}
OTHERS: dict[str, tuple[Any, ...]] = {
    "norm": ({"kind": "none"}, {"kind": "layer_norm"}, {"kind": "batch_norm"}, {"kind": "weight_norm"}),
    "activation": ("tanh", "sigmoid"),
    "placement": ("before_activation", "after_activation", "after_sum", "pre_norm", "post_norm"),
    "norm_positions": ([], ["hidden"], ["logits"]),
    "bias": (True, False, "auto"),
    "dropout": (0.0, 0.3),
    "zero_init_last_gamma": (True, False),
}  # fmt: skip


def unused(spec: ExperimentSpec) -> frozenset[str]:
    sizes = data_shape(spec.data)
    return unused_fields(spec.network, sizes.signal, sizes.outputs)


def tensors(spec: ExperimentSpec) -> dict[str, torch.Tensor]:
    """Of the network by name, and for one batch of an image or vector what comes out of it in training."""
    sizes = data_shape(spec.data)
    network = build_network(spec.network, sizes.signal, sizes.outputs, seed=3).train()
    found = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if sizes.signal.kind in ("image", "vector"):
        batch = torch.randn(6, *sizes.signal.shape, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        found["/out"] = network(batch)
    return found


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return [*one] == [*other] and all(torch.equal(one[name], other[name]) for name in one)


def changed(document: dict[str, Any], name: str) -> list[ExperimentSpec]:
    """The spec with every other value of a field of its network that it may have."""
    found = []
    for value in OTHERS.get(name, ()):
        try:
            found.append(load_spec({**document, "network": {**document["network"], name: value}}))
        except ValueError:
            continue
    return found


def own_norms(**network: Any) -> dict[str, Any]:
    """Layers that each say their own norm, activation and bias."""
    one = [
        {"kind": "linear", "width": 9, "bias": True},
        {"kind": "norm", "norm": RENORM},
        {"kind": "activation", "activation": "tanh"},
    ]
    return {"network": {"kind": "layers", "layers": [{"kind": "flatten"}, *one, *one], **network}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_that_is_called_unused_changes_no_weight_and_no_output(kind: str) -> None:
    checked = 0
    for norm in ("none", *NORMS[kind]):
        document = small_spec(kind, norm)
        spec = load_spec(document)
        whole = tensors(spec)
        for name in unused(spec):
            for other in changed(document, name):
                assert are_equal(tensors(other), whole), (norm, name)
                checked += 1
    # Of a network without a norm, where norms would stand is nothing at all.
    assert checked or kind in ("rnn", "lstm", "gru", "transformer_encoder")


def test_what_layers_say_themselves_is_not_taken_from_the_network() -> None:
    document = own_norms()
    spec = load_spec(document)
    assert {"norm", "activation", "bias", "dropout"} <= unused(spec)
    assert "normalize_input" not in unused(spec)
    for name in unused(spec):
        assert all(are_equal(tensors(other), tensors(spec)) for other in changed(document, name)), name


@pytest.mark.parametrize(
    ("left_open", "used"), [("norm", "norm"), ("activation", "activation"), ("linear", "bias"), ("dropout", "dropout")]
)
def test_one_layer_that_leaves_something_open_uses_what_the_network_says(left_open: str, used: str) -> None:
    document = own_norms()
    more = {"kind": left_open, **({"width": 7} if left_open == "linear" else {})}
    document["network"]["layers"] = [*document["network"]["layers"], more]
    spec = load_spec(document)
    assert used not in unused(spec)
    assert not all(are_equal(tensors(other), tensors(spec)) for other in changed(document, used))


def test_the_layer_to_the_classes_uses_the_norm_where_it_is_named() -> None:
    assert "norm" not in unused(load_spec(own_norms(norm_positions=["hidden", "logits"])))


def test_norms_stand_where_their_fields_are() -> None:
    def pointers(document: dict[str, Any]) -> tuple[str, ...]:
        spec = load_spec(document)
        sizes = data_shape(spec.data)
        return norm_pointers(spec.network, sizes.signal, sizes.outputs)

    assert pointers(own_norms()) == ("/layers/2/norm", "/layers/5/norm")
    assert pointers({"network": {"kind": "mlp"}}) == ("/norm",)
    assert pointers({"network": {"kind": "mlp", "norm_positions": []}}) == ()
    rows = {"kind": "digits", "as": "row"}
    at = {"hidden_to_hidden": {"kind": "layer_norm"}, "head": {"kind": "batch_norm"}}
    network = {"kind": "lstm", "norm_positions": ["cell"], "norms_at": at}
    assert set(pointers({"data": rows, "network": network})) == {
        "/norm", "/norms_at/hidden_to_hidden", "/norms_at/head"
    }  # fmt: skip
