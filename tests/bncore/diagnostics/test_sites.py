"""Layers of any model come in the order of the pass, as deep as they lie on the longest way; two features at once."""

import copy
import threading
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from bncore import diagnostics
from bncore.networks import build_network
from bncore.norm import convert
from bncore.spec import data_shape, load_spec
from tests.bncore.diagnostics.by_hand import build
from tests.bncore.diagnostics.test_no_trace import ALL, network_and_batch


class Block(nn.Module):
    """As of torchvision's: one activation called twice, in place, and a sum that is no module."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        # Declared in another order than they are passed.
        self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width))
        self.bn2, self.bn1 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.downsample(x)
        return self.relu(y)


class Transposed(nn.Module):
    """Tokens, a batch norm along channels in the middle, and attention whose projection is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, 5, 8) * 0.1)
        self.embedding = nn.Embedding(10, 8)
        self.norm = nn.BatchNorm1d(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.position
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_positions_that_are_added_make_nothing_deeper() -> None:
    def found(positions: str) -> dict[str, int]:
        spec = {
            "data": {"kind": "digits", "as": "row"},
            "network": {"kind": "transformer_encoder", "width": 8, "heads": 2, "blocks": 1, "positions": positions},
        }
        planned = load_spec(spec)
        network = build_network(planned.network, data_shape(planned.data).signal, 10, 0, torch.device("cpu"))
        return dict(places(diagnostics.weight_norms(network, torch.randn(4, 8, 8), lr=0.1)))

    learned, others = found("learned"), found("sinusoidal")
    added = learned.keys() - others.keys()
    assert {learned[name] for name in added} == {1}
    assert {name: depth for name, depth in learned.items() if name not in added} == others


def places(found: Any, role: str = "weights") -> list[tuple[str, int]]:
    return [(site.name, site.depth) for site in found.sites if site.role == role]


def test_a_residual_network_of_torchs_is_walked_along_its_longest_way() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Block(1, 3), Block(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    x, labels = torch.randn(6, 1, 5, 5), torch.randint(3, (6,))
    found = diagnostics.gradient_norms(model, x, labels)
    first = [("0.conv1", 1), ("0.conv2", 2), ("0.downsample.0", 1)]
    assert places(found) == [*first, ("1.conv1", 3), ("1.conv2", 4), ("1.downsample.0", 3), ("4", 5)]
    moments = diagnostics.activation_moments(model, x)
    assert places(moments, "activation") == [("0.relu", 1), ("0.relu#2", 2), ("1.relu", 3), ("1.relu#2", 4)]
    # Before it works in place.
    at = [site.name for site in moments.sites].index("0.bn1")
    y = model[0].conv1(x).detach().double()
    expected = y.var((0, 2, 3), correction=0).mean()
    assert moments.arrays["variance"][at] == pytest.approx(expected.item(), rel=1e-5)
    assert moments.arrays["saturated"][at + 2] == pytest.approx((model[0].bn1(y.float()) <= 0).double().mean().item())
    for measure in ALL.values():
        measure(model, x, labels)


def test_tokens_transposes_and_attention_of_torchs() -> None:
    torch.manual_seed(0)
    model, tokens, labels = Transposed(), torch.randint(10, (7, 5)), torch.randint(3, (7,))
    found = diagnostics.weight_norms(model, tokens)
    attention = [("attention", 2), ("attention.out_proj", 3)]
    assert places(found) == [("position", 1), ("embedding", 1), *attention, ("head", 4)]
    moments = diagnostics.activation_moments(model, tokens)
    x = (model.embedding(tokens) + model.position).detach().double()
    before = moments.arrays["variance"][[site.role == "before_norm" for site in moments.sites]]
    np.testing.assert_allclose(before, x.var((0, 1), correction=0).mean(), rtol=1e-5)
    for name, measure in ALL.items():
        if name != "scale_invariance":
            measure(model, tokens, labels)


def test_layers_of_a_recurrent_module_lie_behind_one_another() -> None:
    model = nn.LSTM(3, 4, num_layers=2, batch_first=True)
    found = diagnostics.weight_norms(model, torch.randn(5, 6, 3))
    assert places(found) == [("weight_ih_l0", 1), ("weight_hh_l0", 1), ("weight_ih_l1", 2), ("weight_hh_l1", 2)]


def test_a_layer_that_is_used_twice_is_one_matrix_and_two_calls() -> None:
    torch.manual_seed(0)
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(4, 4, bias=False))
    model[4].weight = shared.weight
    x, labels = torch.randn(9, 4), torch.randint(4, (9,))
    found = diagnostics.gradient_norms(model, x, labels)
    assert places(found) == [("0", 1)]
    F.cross_entropy(model(x), labels).backward()
    assert found.arrays["norm"].tolist() == [pytest.approx(shared.weight.grad.norm().item(), rel=1e-5)]
    moments = diagnostics.activation_moments(model, x)
    assert places(moments) == [("0", 1), ("0#2", 2), ("4", 3)]


@pytest.mark.parametrize("parametrize", [weight_norm, spectral_norm, nn.utils.weight_norm], ids=["new", "svd", "old"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_are_computed_count_as_they_are_used(parametrize: Any) -> None:
    torch.manual_seed(0)
    layers = [parametrize(nn.Linear(4, 6)), nn.BatchNorm1d(6), nn.Tanh(), parametrize(nn.Linear(6, 5)), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(5, 3)).double()
    x, labels = torch.randn(9, 4).double(), torch.randint(3, (9,))
    model(x)
    plain = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    plain.double()
    used: list[Tensor] = []
    twin = copy.deepcopy(model) if parametrize is not nn.utils.weight_norm else model
    with nn.utils.parametrize.cached():
        twin(x)
        used = [twin[at].weight.detach().clone() for at in (0, 3, 5)]
    with torch.no_grad():
        for at, weight in zip((0, 3, 5), used, strict=True):
            plain[at].weight.copy_(weight)
            plain[at].bias.copy_(model[at].bias)
    for measure in (diagnostics.gradient_norms, diagnostics.weight_norms):
        np.testing.assert_allclose(
            measure(model, x, labels).arrays["norm"], measure(plain, x, labels).arrays["norm"], rtol=1e-9
        )
    one, two = (diagnostics.scale_invariance(each, x, labels, factors=(0.1,)) for each in (model, plain))
    np.testing.assert_allclose(one.arrays["output_error_as_trained"], two.arrays["output_error_as_trained"], rtol=1e-9)
    for measured in ALL.values():
        measured(model, x, labels)


def test_precision_is_the_callers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 3))
    x, labels = torch.randn(32, 4), torch.randint(3, (32,))
    whole = diagnostics.step_probe(model, x, labels, distances=(0.1, 1.0))
    with torch.autocast("cpu", torch.bfloat16):
        half = diagnostics.step_probe(model, x, labels, distances=(0.1, 1.0))
        by_hand = F.cross_entropy(copy.deepcopy(model)(x).float(), labels).item()
        for measure in ALL.values():
            measure(model, x, labels)
    assert half.scalars["loss_0"] == by_hand != whole.scalars["loss_0"]
    # Weights that moved are cast anew.
    np.testing.assert_allclose(half.arrays["loss"], whole.arrays["loss"], rtol=0.05)
    assert len(set(half.arrays["loss"])) == 2


def test_layout_and_precision_of_a_model_change_nothing_but_rounding() -> None:
    net = build("cnn", "torch")
    twin = copy.deepcopy(net.model).float().to(memory_format=torch.channels_last)
    x = net.inputs.float().contiguous(memory_format=torch.channels_last)
    for name, measure in ALL.items():
        one, two = measure(net.model, net.inputs, net.labels), measure(twin, x, net.labels)
        assert [*one.arrays] == [*two.arrays]
        if name not in ("scale_invariance", "hessian_top_eigenvalue"):
            for key, array in one.arrays.items():
                np.testing.assert_allclose(two.arrays[key], array, rtol=2e-3, atol=2e-4, err_msg=f"{name} {key}")


@pytest.mark.parametrize("norm", ["ghost_batch_norm", "noisy_batch_norm", "cross_iteration_batch_norm", "iter_norm"])
def test_layers_with_a_state_of_their_own_begin_every_pass_alike(norm: str) -> None:
    network, batch = network_and_batch("cnn", "batch_norm")
    model = convert(network, {"kind": norm}).train()
    inputs, labels = torch.cat([batch.inputs] * 3)[:32], torch.cat([batch.targets] * 3)[:32]
    for _ in range(2):
        model(inputs)
    before = [buffer.clone() for buffer in model.buffers()]
    along = diagnostics.loss_landscape(model, inputs, labels, lr=1e-12, steps=(1.0, 2.0))
    np.testing.assert_allclose(along.arrays["loss"], along.scalars["loss_0"], rtol=1e-6)
    for name, measure in ALL.items():
        if (name, norm) != ("scale_invariance", "cross_iteration_batch_norm"):
            measure(model, inputs, labels)
    assert all(torch.equal(one, two) for one, two in zip(before, model.buffers(), strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found_and_not_raised(value: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    with torch.no_grad():
        model[3].weight[0] = value
    x, labels = torch.randn(9, 4), torch.randint(3, (9,))
    found = {name: measure(model, x, labels) for name, measure in ALL.items()}
    assert not np.isfinite(found["step_probe"].arrays["loss"]).any()
    assert found["step_probe"].scalars["exploded"] == 1.0
    assert found["activation_moments"].arrays["variance"][-1] != 0
    assert np.isfinite(found["activation_moments"].arrays["variance"][0])


def test_a_rate_that_has_come_to_0_is_no_error() -> None:
    net = build("mlp", "torch")
    found = net.measured(diagnostics.loss_landscape, lr=0.0)
    assert set(found.arrays["loss"]) == {found.scalars["loss_0"]}
    assert np.isnan(found.scalars["effective_smoothness"])
    assert found.scalars["predictiveness"] == 0.0
    assert net.measured(diagnostics.covariate_shift, lr=0.0).scalars["mean_relative"] == 0.0
    assert net.measured(diagnostics.weight_norms, lr=0.0).arrays["effective_lr"].max() == 0.0
    with pytest.raises(ValueError, match="cannot be below 0"):
        net.measured(diagnostics.loss_landscape, lr=-0.1)


def test_regression_images_of_classes_and_own_losses() -> None:
    torch.manual_seed(0)
    x, model = torch.randn(8, 2, 4, 4), nn.Sequential(nn.Conv2d(2, 3, 3, padding=1))
    classes = torch.randint(-1, 3, (8, 4, 4))
    expected = F.cross_entropy(model(x), classes, ignore_index=-1).item()
    assert diagnostics.step_probe(model, x, classes).scalars["loss_0"] == pytest.approx(expected, rel=1e-6)
    numbers = torch.randn(8, 3, 4, 4)
    squared = diagnostics.step_probe(model, x, numbers).scalars["loss_0"]
    assert squared == pytest.approx(F.mse_loss(model(x), numbers).item(), rel=1e-6)
    own = diagnostics.step_probe(model, x, numbers, loss=lambda y, t: (y - t).abs().mean()).scalars["loss_0"]
    assert own == pytest.approx((model(x) - numbers).abs().mean().item(), rel=1e-6)
    flat = diagnostics.gradient_heatmap(
        model, x, numbers[:, :, 0, 0], forward=lambda network, given: network(given).mean((2, 3))
    )
    by_hand = 2 / 3 * (model(x).mean((2, 3)) - numbers[:, :, 0, 0]).detach().numpy()
    np.testing.assert_allclose(flat.arrays["gradient"], by_hand, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [
        (nn.Linear(4, 3), None, "a loss needs labels"),
        (nn.LazyLinear(3), torch.zeros(9, dtype=torch.long), "run the model on a batch first"),
        (nn.Linear(4, 3, device="meta"), torch.zeros(9, dtype=torch.long), "no values yet"),
        (nn.Linear(4, 3), torch.zeros(8, dtype=torch.long), "do not fit classes"),
        (nn.Linear(4, 3), torch.zeros(9, 2), "differ in shape"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_words(model: nn.Module, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diagnostics.gradient_norms(model, torch.randn(9, 4), labels)


def test_what_others_hung_on_a_layer_need_not_be_copied() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    x, labels = torch.randn(9, 4), torch.randint(3, (9,))
    expected = diagnostics.gradient_norms(model, x, labels).to_bytes()
    model[0].lock = threading.Lock()
    assert diagnostics.gradient_norms(model, x, labels).to_bytes() == expected
    assert diagnostics.gradient_norms(nn.DataParallel(model), x, labels).to_bytes() == expected
