"""Normalizations of networks of sequences stand where they are put: built as planned, computing what the papers say."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bncore.networks import build_network
from bncore.norm import recalibrate
from bncore.recurrent import StepBatchNorm
from bncore.spec import load_spec
from tests.bncore.networks.test_networks import assert_planned
from tests.bncore.networks.test_sequences import ENCODER, LENGTHS, PADDED, STEPS, VALID, batch, built, spec_of
from tests.bncore.recurrent.oracle import run

NAN = float("nan")
INSIDE = {
    "none": {"kind": "none"},
    "step": {"kind": "step_batch_norm", "max_steps": 4, "initial_noise": 0.0},
    "layer": {"kind": "layer_norm"},
    "sequence": {"kind": "sequence_batch_norm"},
}
PLACES = {
    "rnn": ("input_to_hidden", "hidden_to_hidden", "sum"),
    "lstm": ("input_to_hidden", "hidden_to_hidden", "cell"),
    "gru": ("input_to_hidden", "hidden_to_hidden"),
}


def mixtures(kind: str) -> list[dict[str, Any]]:
    """Every choice of a normalization, or none, for each place in the cell, but for none at all."""
    others = PLACES[kind][1:]
    choices = itertools.product(INSIDE, *(list(INSIDE)[:3] for _ in others))
    found = [{place: INSIDE[name] for place, name in zip(PLACES[kind], one, strict=True)} for one in choices]
    return [one for one in found if any(norm["kind"] != "none" for norm in one.values())]


def ragged(x: Tensor) -> list[Tensor]:
    return [one[:length] for one, length in zip(x, LENGTHS, strict=True)]


@pytest.mark.parametrize("kind", PLACES)
def test_every_mixture_in_a_cell_computes_its_equations_and_keeps_the_statistics_of_its_steps(kind: str) -> None:
    for number, norms in enumerate(mixtures(kind)):
        spec = {"kind": kind, "norms_at": norms, "hidden": [3], "bidirectional": number % 4 == 0}
        network = built({**spec, "output": "each_step"})
        for training in (True, False):
            layer = network.train(training).recurrent1
            expected, _, record = run(layer, ragged(batch()))
            steps = [norm for norm in layer.modules() if training and isinstance(norm, StepBatchNorm)]
            wanted = [(norm, record.statistics(norm)) for norm in steps]
            y = network(batch(NAN), LENGTHS)
            torch.testing.assert_close(y[VALID], network.output(torch.cat(expected)), rtol=1e-11, atol=1e-12)
            for norm, statistics in wanted:
                for name, value in statistics.items():
                    torch.testing.assert_close(norm.get_buffer(name), value, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", PLACES)
def test_every_mixture_in_a_cell_is_built_as_planned(kind: str) -> None:
    data = {"kind": "variable_length", "min_length": 1, "max_length": 2}
    for number, norms in enumerate(mixtures(kind)[::3]):
        outside = {
            "between_layers": {"kind": "rms_norm"},
            "head": {"kind": "batch_norm"},
            "logits": {"kind": "l1_batch_norm"},
        }
        network = {"kind": kind, "norms_at": {**norms, **outside}, "hidden": [5, 4], "bias": bool(number % 2)}
        assert_planned(load_spec({"network": {**network, "bidirectional": number % 4 == 0}, "data": data}))


@pytest.mark.parametrize(
    ("kind", "norm", "usual"),
    [
        ("lstm", "step_batch_norm", ["input_to_hidden", "hidden_to_hidden", "cell"]),
        ("lstm", "layer_norm", ["input_to_hidden", "hidden_to_hidden", "cell"]),
        ("gru", "layer_norm", ["hidden_to_hidden", "input_to_hidden"]),
        ("rnn", "step_batch_norm", ["hidden_to_hidden", "input_to_hidden"]),
        ("rnn", "layer_norm", ["sum"]),
        ("rnn", "sequence_batch_norm", ["input_to_hidden"]),
        ("transformer_encoder", "batch_norm", ["final", "mlp", "attention"]),
    ],
)
def test_left_out_the_positions_are_those_of_the_papers(kind: str, norm: str, usual: list[str]) -> None:
    network = {"kind": kind, "norm": {"kind": norm}}
    said, unsaid = (
        build_network(spec_of(one), PADDED, 5, seed=3) for one in ({**network, "norm_positions": usual}, network)
    )
    assert said.state_dict().keys() == unsaid.state_dict().keys()
    assert all(torch.equal(said.state_dict()[name], value) for name, value in unsaid.state_dict().items())


def over_valid(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm by hand: of each step by itself, or by the steps of the batch that are no padding; (..., C)."""
    if not hasattr(norm, "running_mean"):
        mean, var = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
    elif norm.training:
        valid = x[VALID] if x.dim() == 3 else x
        mean, var = valid.mean(0), valid.var(0, correction=0)
    else:
        mean, var = norm.running_mean, norm.running_var
    return (x - mean) / torch.sqrt(var + norm.eps) * norm.weight + norm.bias


OUTSIDE = [{"kind": "batch_norm"}, {"kind": "layer_norm"}, {"kind": "none"}]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("output", ["last", "mean", "each_step"])
def test_norms_around_a_recurrence_are_those_of_the_steps_that_are_no_padding(output: str, training: bool) -> None:
    for between, head, logits in itertools.product(OUTSIDE, repeat=3):
        norms = {"between_layers": between, "head": head, "logits": logits}
        spec = {"kind": "gru", "norm": {"kind": "layer_norm"}, "hidden": [4, 3], "output": output}
        network = built({**spec, "norms_at": norms}).train(training)
        y = nn.utils.rnn.pad_sequence(run(network.recurrent1, ragged(batch()))[0], batch_first=True)
        y = over_valid(network.norm1, y) if between["kind"] != "none" else y
        y = nn.utils.rnn.pad_sequence(run(network.recurrent2, ragged(y))[0], batch_first=True)
        if output == "last":
            y = torch.stack([one[-1] for one in ragged(y)])
        elif output == "mean":
            y = torch.stack([one.mean(0) for one in ragged(y)])
        y = network.output(over_valid(network.norm, y) if head["kind"] != "none" else y)
        y = over_valid(network.output_norm, y) if logits["kind"] != "none" else y
        found = network(batch(NAN), LENGTHS)
        here = VALID if output == "each_step" else slice(None)
        torch.testing.assert_close(found[here], y[here], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("placement", ["pre_norm", "post_norm"])
def test_norms_of_a_transformer_are_those_of_the_steps_that_are_no_padding(placement: str, training: bool) -> None:
    positions = ("embedding", "attention", "mlp", "final", "logits")
    for number, one in enumerate(itertools.product(OUTSIDE, repeat=5)):
        # Each pair of choices is among these.
        if sum(OUTSIDE.index(norm) for norm in one) % 3 or number % 2:
            continue
        norms = dict(zip(positions, one, strict=True))
        spec = {**ENCODER, "blocks": 1, "placement": placement, "norms_at": norms, "output": "each_step"}
        network = built(spec).train(training)

        def at(position: str, norm: str, x: Tensor, network: nn.Module = network, norms: Any = norms) -> Tensor:
            return x if norms[position]["kind"] == "none" else over_valid(network.get_submodule(norm), x)

        x = at("embedding", "embedding_norm", network.embedding(batch()) + network.positions.weight)
        for index, (name, inner) in enumerate((("attention", attended), ("mlp", fed)), start=1):
            body = network.block1.get_submodule(name).body
            if placement == "pre_norm":
                x = x + inner(body, at(name, f"block1.{name}.body.norm", x))
            else:
                x = at(name, f"block1.norm{index}", x + inner(body, x))
        x = at("logits", "output_norm", network.output(at("final", "norm", x)))
        torch.testing.assert_close(network(batch(NAN), LENGTHS)[VALID], x[VALID], rtol=1e-10, atol=1e-12)


def attended(body: nn.Module, x: Tensor) -> Tensor:
    """Two heads of two features, in softmax over the steps that are no padding."""
    query, key, value = (one.unflatten(-1, (2, 2)).transpose(1, 2) for one in body.qkv(x).split(4, -1))
    scores = query @ key.transpose(-1, -2) / 2**0.5
    weights = scores.masked_fill(~VALID[:, None, None], -torch.inf).softmax(-1)
    return body.out((weights @ value).transpose(1, 2).flatten(2))


def fed(body: nn.Module, x: Tensor) -> Tensor:
    return body.linear2(body.linear1(x).clamp_min(0))


def test_a_norm_of_weights_is_that_of_the_layers_in_its_positions() -> None:
    def normed(**options: Any) -> set[str]:
        state = build_network(spec_of({**ENCODER, "blocks": 1, **options}), PADDED, 5, device="meta").state_dict()
        return {
            name.partition(".parametrizations")[0].rpartition(".")[2] for name in state if "parametrizations" in name
        }

    weight_norm = {"kind": "weight_norm"}
    assert normed(norm=weight_norm) == {"embedding", "qkv", "out", "linear1", "linear2"}
    assert normed(norm=weight_norm, norm_positions=["mlp", "final"]) == {"linear1", "linear2"}
    assert normed(norms_at={"attention": weight_norm, "logits": weight_norm}) == {"qkv", "out", "output"}
    assert normed(norms_at={"embedding": weight_norm}) == {"embedding"}


def test_biases_are_left_out_where_every_reader_loses_them() -> None:
    def without(**options: Any) -> set[str]:
        network = build_network(spec_of({**ENCODER, "blocks": 1, "bias": "auto", **options}), PADDED, 5, device="meta")
        return {name.rpartition(".")[2] for name, layer in network.named_modules() if getattr(layer, "bias", 0) is None}

    batch_norm, layer_norm = {"kind": "batch_norm"}, {"kind": "layer_norm"}
    assert without(norm=batch_norm) == {"embedding", "out", "linear2"}
    assert without(norm=batch_norm, norms_at={"final": layer_norm}) == set()
    assert without(norm=batch_norm, norms_at={"embedding": batch_norm, "mlp": layer_norm}) == {"embedding"}
    assert without(norm=batch_norm, placement="post_norm", norms_at={"mlp": layer_norm}) == {"out"}
    assert without(norms_at={"logits": batch_norm}) == {"output"}


def test_precise_statistics_of_a_position_are_those_of_each_step_over_all_sequences() -> None:
    network = built({"kind": "lstm", "hidden": [4], "norm_positions": ["input_to_hidden"]})
    given = [(batch(), LENGTHS), (batch().flip(0) * 2.0, LENGTHS.flip(0))]
    recalibrate(network, given, forward=lambda model, one: model(*one))
    cell = network.recurrent1.cells[0]
    assert {name for name, _ in cell.named_children() if "norm" in name} == {"norm_ih", "norm_hh", "norm_c"}
    for step in range(STEPS):
        rows = torch.cat([x[:, step][lengths > step] for x, lengths in given]) @ cell.weight_ih.T
        torch.testing.assert_close(cell.norm_ih.running_mean[step], rows.mean(0), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(cell.norm_ih.running_var[step], rows.var(0), rtol=1e-10, atol=1e-12)
