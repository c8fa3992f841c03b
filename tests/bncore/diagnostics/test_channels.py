"""Whatever the layout, a unit is a channel, and padding is no value of it: against NumPy in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bncore import diagnostics
from bncore.networks import build_network
from bncore.recording import Recording
from bncore.spec.blueprint import Signal

EXAMPLES, STEPS, FEATURES = 12, 7, 6
LENGTHS = torch.tensor([7, 1, 4, 6, 2, 7, 5, 3, 6, 1, 2, 4])
VALID = (torch.arange(STEPS) < LENGTHS[:, None]).numpy()
LABELS = torch.arange(EXAMPLES) % 3


class Tokens(nn.Module):
    """A norm and an activation of (N, T, C), or of (N, C, T) where their channels come second."""

    def __init__(self, norm: nn.Module, *, second: bool = False) -> None:
        super().__init__()
        self.enter, self.norm, self.act = nn.Linear(FEATURES, FEATURES), norm, nn.Tanh()
        self.leave, self.second = nn.Linear(FEATURES, 3), second

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = self.enter(x)
        x = self.act(self.norm(x.transpose(1, 2))).transpose(1, 2) if self.second else self.act(self.norm(x))
        return self.leave(x).mean(1)


class ChannelsLast(nn.Module):
    """Convolution, then all of (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm, self.act = nn.Conv2d(1, FEATURES, 3), nn.LayerNorm(FEATURES), nn.Tanh()
        self.widen, self.shrink = nn.Linear(FEATURES, 5), nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.enter(x).permute(0, 2, 3, 1))
        return self.shrink(self.widen(self.norm(x))).mean((1, 2))


def tokens() -> Tensor:
    drawn = torch.randn(EXAMPLES, STEPS, FEATURES, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return drawn * torch.arange(1, FEATURES + 1) + torch.arange(FEATURES)


def came_out(model: nn.Module, layer: nn.Module, *inputs: Tensor) -> np.ndarray:
    seen = []
    handle = layer.register_forward_hook(lambda *passed: seen.append(passed[2].detach().clone()))
    model(*inputs)
    handle.remove()
    return seen[0].numpy()


def assert_moments(found: Recording, name: str, role: str, values: np.ndarray) -> None:
    """`values` (M, C)."""
    (at,) = (at for at, site in enumerate(found.sites) if (site.name, site.role) == (name, role))
    mean, variance = values.mean(0), values.var(0)
    expected = {
        "mean_magnitude": np.abs(mean).mean(),
        "variance": variance.mean(),
        "kurtosis": (((values - mean) ** 4).mean(0) / variance**2).mean(),
    }
    for array, number in expected.items():
        assert found.arrays[array][at] == pytest.approx(number, rel=1e-9), (name, role, array)


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
@pytest.mark.parametrize(
    "model",
    [
        Tokens(nn.LayerNorm(FEATURES)),
        Tokens(nn.RMSNorm(FEATURES)),
        Tokens(nn.BatchNorm1d(FEATURES), second=True),
        Tokens(nn.GroupNorm(2, FEATURES), second=True),
    ],
    ids=lambda model: type(model.norm).__name__,
)
def test_channels_of_sequences_are_found_on_either_axis_and_padding_left_out(model: Tokens, padded: bool) -> None:
    model, lengths = model.double(), LENGTHS if padded else None
    found = diagnostics.activation_moments(model, tokens(), lengths=lengths)
    shift = diagnostics.covariate_shift(model, tokens(), lengths=lengths)
    kept = VALID if padded else np.ones_like(VALID)
    out = {
        name: came_out(model, getattr(model, name), tokens(), LENGTHS).swapaxes(1, 2 if model.second else 1)[kept]
        for name in ("norm", "act")
    }
    assert_moments(found, "enter", "weights", came_out(model, model.enter, tokens())[kept])
    assert_moments(found, "norm", "before_norm", came_out(model, model.enter, tokens())[kept])
    assert_moments(found, "norm", "after_norm", out["norm"])
    assert_moments(found, "act", "activation", out["act"])
    expected = np.percentile(out["norm"], (15, 50, 85), axis=0).T
    np.testing.assert_allclose(shift.arrays["unit_percentiles"], expected, rtol=1e-9, atol=1e-12)


def test_channels_that_were_moved_to_the_end_are_followed() -> None:
    model = ChannelsLast().double()
    x = tokens().unsqueeze(1)
    found = diagnostics.activation_moments(model, x)
    for name, role in (("act", "activation"), ("norm", "after_norm"), ("widen", "weights"), ("shrink", "activation")):
        values = came_out(model, getattr(model, name), x)
        assert_moments(found, name, role, values.reshape(-1, values.shape[-1]))


def test_features_that_become_images_have_their_channels_second() -> None:
    act = nn.Tanh()
    model = nn.Sequential(nn.Linear(FEATURES, 12), nn.Unflatten(1, (3, 2, 2)), act, nn.Conv2d(3, 2, 2), nn.Flatten())
    x = tokens()[:, 0]
    found = diagnostics.activation_moments(model.double(), x)
    assert_moments(found, "2", "activation", np.moveaxis(came_out(model, act, x), 1, -1).reshape(-1, 3))


def test_a_norm_that_is_not_told_of_padding_is_measured_without_it() -> None:
    spec = {"kind": "transformer_encoder", "width": 8, "heads": 2, "blocks": 1, "mlp_width": 8}
    model = build_network(spec, Signal((STEPS, FEATURES), "sequence", lengths=True), 3).double()
    found = diagnostics.activation_moments(model, tokens(), lengths=LENGTHS)
    layers = [(name, layer) for name, layer in model.named_modules() if name.endswith("norm")]
    assert len(layers) == 3
    for name, layer in layers:
        assert_moments(found, name, "after_norm", came_out(model, layer, tokens(), LENGTHS)[VALID])


def test_the_heat_map_has_a_row_a_step_where_classes_come_second() -> None:
    model = nn.Conv1d(STEPS, 4, 3, padding=1).double()
    labels = torch.arange(EXAMPLES * FEATURES).reshape(EXAMPLES, FEATURES) % 5 - 1
    found = diagnostics.gradient_heatmap(model, tokens(), labels)
    logits = model(tokens()).detach().numpy().swapaxes(1, 2)[labels.numpy() >= 0]
    odds = np.exp(logits)
    gradient = odds / odds.sum(1, keepdims=True) - np.eye(4)[labels[labels >= 0].numpy()]
    np.testing.assert_allclose(found.arrays["gradient"], gradient, rtol=1e-6, atol=1e-9)
    assert found.scalars["mode"] == np.bincount(logits.argmax(1)).max() / len(logits)


def test_the_median_of_an_even_number_of_ratios_is_between_the_two_in_the_middle() -> None:
    model = nn.Sequential(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    found = diagnostics.gradient_heatmap(model, tokens()[:, 0], LABELS)
    low, high = sorted(found.arrays["ratio"])
    assert low < high
    assert found.scalars["median_ratio"] == pytest.approx((low + high) / 2, rel=1e-12)


def test_gradients_that_come_sparse_are_those_that_come_dense() -> None:
    words, norms = torch.arange(EXAMPLES * 2).reshape(EXAMPLES, 2) % 5, []
    for sparse in (True, False):
        model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 3)).double()
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.5)
            parameter.data.flatten()[::3] = -1.0
        found = diagnostics.gradient_norms(model, words, LABELS)
        norms.append([*found.arrays["norm"], *diagnostics.loss_landscape(model, words, LABELS, lr=0.1).arrays["loss"]])
    assert norms[0] == pytest.approx(norms[1], rel=1e-12)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_sequences_that_torch_nests_are_measured_without_padding() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(FEATURES, 2, 8, batch_first=True), 1)
    # A part that is frozen in evaluation mode stays there.
    model = nn.Sequential(encoder.eval(), nn.Identity()).double()

    def forward(network: nn.Module, x: Tensor) -> Tensor:
        return network.get_submodule("0")(x, src_key_padding_mask=torch.from_numpy(~VALID))

    found = diagnostics.activation_moments(model.requires_grad_(False), tokens(), lengths=LENGTHS, forward=forward)
    assert_moments(found, "output", "output", forward(model, tokens()).numpy()[VALID])
