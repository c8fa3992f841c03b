"""Networks of sequences: built as planned, computing what their papers say, blind to what padding holds."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore.networks import build_network
from bncore.norm import valid_positions
from bncore.recurrent import BatchNormGRU, BatchNormLSTM
from bncore.spec import load_spec
from bncore.spec.blueprint import Signal, lay
from bncore.spec.network import NetworkSpec
from tests.bncore.networks.test_networks import assert_planned
from tests.bncore.recurrent.oracle import run

STEPS, FEATURES = 6, 3
PADDED = Signal((STEPS, FEATURES), "sequence", lengths=True)
LENGTHS = torch.tensor([4, 2, 6, 1, 4])
VALID = torch.arange(STEPS) < LENGTHS.unsqueeze(1)
NORMS = ["none", "sequence_batch_norm", "step_batch_norm", "layer_norm"]
WITHOUT_NOISE = {"step_batch_norm": {"initial_noise": 0.0}}
RECURRENT = [(kind, norm) for kind in ("rnn", "lstm", "gru") for norm in NORMS]
ENCODER = {"kind": "transformer_encoder", "width": 4, "heads": 2, "blocks": 2, "mlp_width": 5}


def spec_of(network: dict[str, Any], data: dict[str, Any] | None = None) -> NetworkSpec:
    """The spec of a network that the data, padded sequences by themselves, fit."""
    tag = network.get("output") == "each_step"
    data = data or {"kind": "variable_length", "max_length": STEPS, "classes": FEATURES, "tag": tag}
    return load_spec({"network": network, "data": data}).network


def built(network: dict[str, Any], seed: int = 3) -> nn.Module:
    """In double precision, with no parameter or statistic at a value that hides a mistake."""
    made = build_network(spec_of(network), PADDED, 5, seed=seed).double()
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for tensor in (*made.parameters(), *(buffer for buffer in made.buffers() if buffer.is_floating_point())):
            tensor.add_(0.2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64))
    return made


def batch(padding: float = 0.0) -> Tensor:
    x = torch.randn(len(LENGTHS), STEPS, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.where(VALID.unsqueeze(-1), x * 1.7 + 0.6, padding)


@pytest.mark.parametrize(("kind", "norm"), RECURRENT)
@pytest.mark.parametrize("tag", [False, True], ids=["classes", "tags"])
def test_a_recurrent_network_is_built_as_planned(kind: str, norm: str, tag: bool) -> None:
    network = {"kind": kind, "norm": {"kind": norm}, "hidden": [5, 4], "dropout": 0.1, "normalize_input": True}
    network |= {"bidirectional": tag, "bias": tag, "output": "each_step" if tag else "last"}
    data = {"kind": "variable_length", "min_length": 1, "max_length": 2, "tag": tag}
    assert_planned(load_spec({"network": network, "data": data}))


@pytest.mark.parametrize("norm", ["none", "batch_norm", "rms_norm", "power_norm", "weight_norm", "dynamic_tanh"])
@pytest.mark.parametrize(
    ("data", "options"),
    [
        ({"kind": "digits", "as": "row"}, {"placement": "post_norm", "output": "first_token"}),
        ({"kind": "digits"}, {"patch": 2, "positions": "sinusoidal", "dropout": 0.1, "attention_dropout": 0.1}),
    ],
    ids=["rows", "patches"],
)
def test_a_transformer_is_built_as_planned(norm: str, data: dict[str, Any], options: dict[str, Any]) -> None:
    network = {**ENCODER, "norm": {"kind": norm}, "normalize_input": True, **options}
    assert_planned(load_spec({"network": network, "data": data}))


def test_parameters_are_those_of_the_papers_formulas() -> None:
    """4 (H I + H H) and biases for an LSTM; 12 d^2 + 13 d a block of a transformer with an inner width of 4 d."""
    rows = Signal((28, 28), "sequence")
    lstm = spec_of({"kind": "lstm", "hidden": [100]})
    bare = 4 * (100 * 28 + 100 * 100) + 400
    # One gamma for each projection, gamma and beta for the cell.
    assert count(lstm, rows) == bare + 400 + 400 + 200 + 1010
    encoder = spec_of({"kind": "transformer_encoder", "width": 32, "mlp_width": 128, "blocks": 3})
    embedding, head = 28 * 32 + 32 + 28 * 32, 32 * 10 + 10
    assert count(encoder, rows) == 3 * (12 * 32**2 + 13 * 32) + 2 * 32 + embedding + head


def count(spec: NetworkSpec, signal: Signal) -> int:
    return sum(parameter.numel() for parameter in build_network(spec, signal, 10, device="meta").parameters())


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("kind", "norm", "output"),
    [
        ("lstm", {"kind": "step_batch_norm", "max_steps": 3, "initial_noise": 0.0}, "last"),
        ("gru", {"kind": "layer_norm"}, "mean"),
        ("rnn", {"kind": "sequence_batch_norm"}, "each_step"),
    ],
    ids=str,
)
def test_it_computes_what_the_papers_say_sequence_by_sequence(
    kind: str, norm: dict[str, Any], output: str, training: bool
) -> None:
    spec = {"kind": kind, "norm": norm, "hidden": [4, 3], "bidirectional": True, "output": output}
    network = built(spec).train(training)
    xs = [x[:length] for x, length in zip(batch(), LENGTHS, strict=True)]
    expected = run(network.recurrent2, run(network.recurrent1, xs)[0])[0]
    if output == "last":
        expected = [torch.cat((y[-1, :3], y[0, 3:])) for y in expected]
    elif output == "mean":
        expected = [y.mean(0) for y in expected]
    expected = [network.output(y) for y in expected]
    y = network(batch(float("nan")), LENGTHS)
    if output == "each_step":
        assert torch.isfinite(y).all()
        torch.testing.assert_close(y[VALID], torch.cat(expected), rtol=1e-12, atol=1e-12)
    else:
        torch.testing.assert_close(y, torch.stack(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("kind", "plain"), [("rnn", nn.RNN), ("lstm", nn.LSTM), ("gru", nn.GRU)])
def test_without_a_norm_the_state_of_each_layer_loads_into_torchs_own(
    kind: str, plain: type[nn.RNNBase], bidirectional: bool
) -> None:
    spec = {
        "kind": kind,
        "norm": {"kind": "none"},
        "hidden": [4],
        "bidirectional": bidirectional,
        "output": "each_step",
    }
    network = built(spec)
    theirs = plain(FEATURES, 4, batch_first=True, bidirectional=bidirectional).double()
    theirs.load_state_dict(network.recurrent1.state_dict(), strict=True)
    y = network(batch(1e30), LENGTHS)
    for n, length in enumerate(LENGTHS):
        expected = network.output(theirs(batch()[n : n + 1, :length])[0])
        torch.testing.assert_close(y[n : n + 1, :length], expected, rtol=1e-12, atol=1e-12)


class OfValid(nn.Module):
    """torch's batch norm of the valid rows alone."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = nn.BatchNorm1d(4).double()
        self.layer.load_state_dict(layer.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[VALID] = self.layer(x[VALID])
        return y


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm", ["layer_norm", "batch_norm"])
@pytest.mark.parametrize("placement", ["pre_norm", "post_norm"])
def test_a_transformer_is_torchs_with_the_same_weights(placement: str, norm: str, training: bool) -> None:
    network = built({**ENCODER, "placement": placement, "norm": {"kind": norm}}).train(training)
    x = network.embedding(batch()) + network.positions.weight
    for block in (network.block1, network.block2):
        x = in_torch(block, placement == "pre_norm", norm).train(training)(x, src_key_padding_mask=~VALID)
    if placement == "pre_norm":
        x = (
            OfValid(network.norm).train(training)(x)
            if norm == "batch_norm"
            else F.layer_norm(x, (4,), *network.norm.parameters())
        )
    kept = torch.where(VALID.unsqueeze(-1), x, 0.0)
    expected = network.output(kept.sum(1) / LENGTHS.unsqueeze(1))
    torch.testing.assert_close(network(batch(float("inf")), LENGTHS), expected, rtol=1e-10, atol=1e-12)


def in_torch(block: nn.Module, norm_first: bool, norm: str) -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 5, 0.0, F.relu, batch_first=True, norm_first=norm_first).double()
    attention, mlp = block.attention.body, block.mlp.body
    norms = (attention.norm, mlp.norm) if norm_first else (block.norm1, block.norm2)
    layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias = attention.qkv.weight, attention.qkv.bias
    for theirs, ours in (
        (layer.self_attn.out_proj, attention.out),
        (layer.linear1, mlp.linear1),
        (layer.linear2, mlp.linear2),
    ):
        theirs.load_state_dict(ours.state_dict())
    if norm == "batch_norm":
        layer.norm1, layer.norm2 = (OfValid(one) for one in norms)
        layer.activation_relu_or_gelu = 0
    else:
        for theirs, ours in zip((layer.norm1, layer.norm2), norms, strict=True):
            theirs.load_state_dict(ours.state_dict())
    return layer


WITH_PADDING = [
    *(
        {"kind": kind, "norm": {"kind": norm, **WITHOUT_NOISE.get(norm, {})}, "hidden": [4, 3], "bidirectional": True}
        for kind, norm in RECURRENT
    ),
    *(
        {**ENCODER, "norm": {"kind": norm, **({"num_groups": 2} if norm == "group_norm" else {})}, "output": output}
        for norm, output in (
            ("none", "each_step"),
            ("batch_norm", "first_token"),
            ("masked_batch_norm", "each_step"),
            ("layer_norm", "first_token"),
            ("rms_norm", "mean"),
            ("group_norm", "mean"),
            ("dynamic_tanh", "each_step"),
            ("global_response_norm", "mean"),
        )
    ),
]


@pytest.mark.parametrize("network", WITH_PADDING, ids=str)
def test_what_padding_holds_reaches_nothing(network: dict[str, Any]) -> None:
    found = []
    for padding in (0.0, float("nan")):
        made = built({**network, "normalize_input": True})
        x = batch(padding).requires_grad_()
        y = made(x, LENGTHS)
        y = y[VALID] if y.dim() == 3 else y
        y.sin().sum().backward()
        evaluated = made.eval()(batch(padding), LENGTHS)
        evaluated = evaluated[VALID] if evaluated.dim() == 3 else evaluated
        assert x.grad[~VALID].abs().max() == 0
        gradients = {name: parameter.grad for name, parameter in made.named_parameters()}
        found.append({"y": y, "x": x.grad, "evaluated": evaluated, **gradients, **dict(made.named_buffers())})
    for name, clean in found[0].items():
        torch.testing.assert_close(found[1][name], clean, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("network", WITH_PADDING, ids=str)
def test_how_much_padding_there_is_does_not_matter(network: dict[str, Any]) -> None:
    made = built({**network, "normalize_input": True}).eval()
    y = made(batch(), LENGTHS)
    for n, length in enumerate(LENGTHS):
        alone = made(batch()[n : n + 1, :length])
        mine = y[n : n + 1, :length] if y.dim() == 3 else y[n : n + 1]
        torch.testing.assert_close(mine, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_training_begins_with_noise_where_steps_have_statistics_of_their_own(kind: str) -> None:
    network = built({"kind": kind, "hidden": [4], "bidirectional": True, "norm": {"kind": "step_batch_norm"}})
    twin = {"lstm": BatchNormLSTM, "gru": BatchNormGRU}[kind](
        FEATURES, 4, batch_first=True, bidirectional=True, max_length=STEPS
    ).double()
    twin.load_state_dict(network.recurrent1.state_dict())
    torch.manual_seed(5)
    h = 0.1 * torch.randn(2, len(LENGTHS), 4, dtype=torch.float64)
    expected, _ = twin(batch(), (h, torch.zeros_like(h)) if kind == "lstm" else h, LENGTHS, 0)
    torch.manual_seed(5)
    with valid_positions(network, lengths=LENGTHS):
        assert torch.equal(network.recurrent1(batch()), expected)
    network.eval()
    assert torch.equal(network(batch(), LENGTHS), network(batch(), LENGTHS))


def test_tokens_are_embedded() -> None:
    tokens = Signal((STEPS,), "tokens", lengths=True, vocabulary=11)
    network = build_network(spec_of({**ENCODER}), tokens, 5, seed=1).eval()
    ids = torch.randint(11, (5, STEPS), generator=torch.Generator().manual_seed(2))
    assert network.embedding.weight.shape == (11, 4)
    torch.testing.assert_close(network(ids, LENGTHS), network(torch.where(VALID, ids, 7), LENGTHS), rtol=0, atol=0)
    assert network(ids).shape == (5, 5)


def test_patches_are_those_of_a_convolution_with_their_stride() -> None:
    image = Signal((3, 4, 6), "image")
    network = build_network(spec_of({**ENCODER, "patch": 2}, {"kind": "digits"}), image, 5, seed=1)
    x = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(4))
    weight = network.embedding.weight.view(4, 3, 2, 2)
    expected = F.conv2d(x, weight, network.embedding.bias, stride=2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(network.embedding(network.patches(x)), expected)


def test_sines_and_cosines_are_the_papers() -> None:
    network = build_network(spec_of({**ENCODER, "positions": "sinusoidal"}), PADDED, 5)
    added = network.positions(torch.zeros(1, STEPS, 4))[0].double()
    t = torch.arange(STEPS, dtype=torch.float64)
    expected = torch.stack((t.sin(), t.cos(), (t / 100).sin(), (t / 100).cos()), 1)
    torch.testing.assert_close(added, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_recurrent_networks_that_differ_in_norm_share_every_weight(kind: str) -> None:
    def weights(norm: str, seed: int = 3) -> dict[str, Tensor]:
        network = {"kind": kind, "norm": {"kind": norm}, "hidden": [4, 4], "bidirectional": True}
        state = build_network(spec_of(network), PADDED, 5, seed=seed).state_dict()
        ahead = {key.replace("_l0", ""): value for key, value in state.items() if not key.endswith("_reverse")}
        return {**ahead, **{key.replace("_l0", ""): value for key, value in state.items() if key.endswith("_reverse")}}

    plain, other = weights("none"), weights("none", seed=4)
    assert not torch.equal(plain["recurrent1.weight_ih"], other["recurrent1.weight_ih"])
    for norm in NORMS[1:]:
        state = weights(norm)
        for layer in ("recurrent1", "recurrent2"):
            for name in ("weight_ih", "weight_hh"):
                assert torch.equal(state[f"{layer}.cells.0.{name}"], plain[f"{layer}.{name}"])
                assert torch.equal(state[f"{layer}.reverse_cells.0.{name}"], plain[f"{layer}.{name}_reverse"])
            inner = "norm_h.bias" if (kind, norm) == ("rnn", "layer_norm") else "bias"
            assert torch.equal(state[f"{layer}.cells.0.{inner}"], plain[f"{layer}.bias_ih"])
            assert not plain[f"{layer}.bias_hh"].any()
        assert torch.equal(state["output.weight"], plain["output.weight"])


@pytest.mark.parametrize("network", [{"kind": "gru", "hidden": [4], "recurrent_init": "as_init"}, ENCODER], ids=str)
def test_init_scale_multiplies_what_init_draws(network: dict[str, Any]) -> None:
    def weights(**options: Any) -> dict[str, Tensor]:
        made = build_network(spec_of({**network, "norm": {"kind": "none"}, **options}), PADDED, 5, seed=3)
        return {name: value for name, value in made.named_parameters() if "weight" in name and "positions" not in name}

    scaled, plain = weights(init_scale=0.25), weights()
    assert all(torch.equal(scaled[name], 0.25 * value) for name, value in plain.items())


@pytest.mark.parametrize("placement", ["pre_norm", "post_norm"])
def test_transformers_that_differ_in_norm_share_every_weight(placement: str) -> None:
    def weights(norm: str) -> dict[str, Tensor]:
        spec = spec_of({**ENCODER, "placement": placement, "norm": {"kind": norm}, "output": "first_token"})
        state = build_network(spec, PADDED, 5, seed=3).state_dict()
        return {key: value for key, value in state.items() if "norm" not in key}

    plain, normalized = weights("none"), weights("batch_norm")
    assert plain.keys() == normalized.keys()
    assert all(torch.equal(plain[key], normalized[key]) for key in plain)
    assert 0.005 < plain["positions.weight"].std() < 0.05
    assert plain["first_token.token"].any()


@pytest.mark.parametrize("norm", ["none", "step_batch_norm"])
def test_recurrent_weights_start_as_asked(norm: str) -> None:
    def parameters(recurrent_init: str, init: str = "default") -> tuple[Tensor, Tensor, Tensor]:
        network = {"kind": "lstm", "norm": {"kind": norm}, "hidden": [6], "init": {"kind": init}, "forget_bias": 2.0}
        spec = spec_of({**network, "recurrent_init": recurrent_init})
        layer = build_network(spec, PADDED, 5, seed=3).recurrent1
        if norm == "none":
            return layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0
        return layer.cells[0].weight_ih, layer.cells[0].weight_hh, layer.cells[0].bias

    _, hidden, bias = parameters("orthogonal")
    torch.testing.assert_close(hidden.T @ hidden, torch.eye(6))
    drawn = bias - torch.tensor([0.0, 2.0, 0.0, 0.0]).repeat_interleave(6)
    assert 0.7 * 6**-0.5 < drawn.abs().max() <= 6**-0.5 + 1e-6
    assert parameters("orthogonal", "normal")[2].tolist() == [*(0.0,) * 6, *(2.0,) * 6, *(0.0,) * 12]
    _, other, _ = parameters("identity")
    assert torch.equal(other[12:18], torch.eye(6))
    assert torch.equal(other[:12], hidden[:12])
    given, drawn, _ = parameters("as_init", "normal")
    assert 0.05 < drawn.std() < 0.2
    assert given.abs().max() > 0.1
    assert given.std() < 0.2


def test_the_state_that_step_statistics_count_is_what_the_layer_keeps() -> None:
    spec = load_spec({"network": {"kind": "lstm", "bidirectional": True}, "data": {"kind": "digits", "as": "row"}})
    kept = build_network(spec.network, Signal((8, 8), "sequence"), 10, device="meta").buffers()
    laid = lay(spec.network.blueprint(Signal((8, 8), "sequence"), 10), Signal((8, 8), "sequence"), "/network")
    assert sum(buffer.numel() for buffer in kept) == laid.state


def test_a_mask_does_not_say_where_a_recurrence_ends() -> None:
    network = built({"kind": "lstm", "hidden": [4]})
    with valid_positions(network, mask=VALID), pytest.raises(ValueError, match="lengths"):
        network(batch())


@pytest.mark.parametrize("lengths", [LENGTHS[:4], LENGTHS.double()], ids=["too few", "not whole"])
def test_lengths_that_do_not_fit_are_refused(lengths: Tensor) -> None:
    with pytest.raises(ValueError, match="lengths are integers"):
        built({"kind": "gru", "hidden": [4]})(batch(), lengths)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_steps_without_a_position_are_refused(positions: str) -> None:
    # The one row of a single step fits any number of steps, as far as torch is concerned.
    for steps in (1, STEPS - 1):
        network = build_network(spec_of({**ENCODER, "positions": positions}), Signal((steps, FEATURES), "sequence"), 5)
        assert network(batch().float()[:, :steps]).shape == (len(LENGTHS), 5)
        with pytest.raises(ValueError, match=f"{STEPS} steps, and positions of {steps}"):
            network(batch().float())


@pytest.mark.parametrize("network", WITH_PADDING[2:16:3], ids=str)
def test_it_runs_under_autocast(network: dict[str, Any]) -> None:
    made = build_network(spec_of(network), PADDED, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = made(batch().float(), LENGTHS)
    y.float().sum().backward()
    assert torch.isfinite(y).all()
