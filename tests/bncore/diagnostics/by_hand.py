"""Three networks written out in float64, by which measurements are held: nothing of them calls the code under test.

Each takes its parameters as a list, in the order in which a model has them, and gives logits and what its layers put
out, rows for examples and positions, columns for units.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bncore.networks import build_network
from bncore.spec.blueprint import Signal

EPS = 1e-5


@dataclass(frozen=True)
class Net:
    """A model of torch's or ours, and the same by hand."""

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    lengths: Tensor | None
    by_hand: Callable[[Sequence[Tensor], "Net"], tuple[Tensor, dict[str, Tensor]]]
    matrices: tuple[int, ...]
    """Which parameters are matrices of weights, ..."""
    depths: tuple[int, ...]
    """... how deep they lie, ..."""
    before: tuple[int, ...]
    """... and how many parameters are passed before each of them."""

    @property
    def parameters(self) -> list[Tensor]:
        return [parameter.detach().clone().requires_grad_() for parameter in self.model.parameters()]

    def loss(self, parameters: Sequence[Tensor]) -> Tensor:
        logits, _ = self.by_hand(parameters, self)
        chosen = logits.logsumexp(1) - logits[torch.arange(len(logits)), self.labels]
        return chosen.mean()

    def gradient(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        leaves = [one.detach().requires_grad_() for one in parameters]
        return list(torch.autograd.grad(self.loss(leaves), leaves))

    def measured(self, diagnostic: Callable[..., Any], **options: Any) -> Any:
        return diagnostic(self.model, self.inputs, self.labels, lengths=self.lengths, **options)


def _norm(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    mean = x.mean(axes).view(shape)
    var = ((x - mean) ** 2).mean(axes).view(shape)
    return (x - mean) / (var + EPS).sqrt() * scale.view(shape) + shift.view(shape)


def _rows(x: Tensor) -> Tensor:
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def mlp(p: Sequence[Tensor], net: Net) -> tuple[Tensor, dict[str, Tensor]]:
    x, seen = net.inputs, {}
    for layer in (1, 2):
        weight, bias, scale, shift = p[4 * layer - 4 : 4 * layer]
        seen[f"u{layer}"] = x
        seen[f"w{layer}"] = x @ weight.T + bias
        seen[f"n{layer}"] = _norm(seen[f"w{layer}"], scale, shift)
        x = seen[f"a{layer}"] = torch.tanh(seen[f"n{layer}"])
    seen["u3"] = x
    seen["w3"] = x @ p[8].T + p[9]
    return seen["w3"], seen


def cnn(p: Sequence[Tensor], net: Net) -> tuple[Tensor, dict[str, Tensor]]:
    x, seen = net.inputs, {}
    for layer in (1, 2):
        weight, bias, scale, shift = p[4 * layer - 4 : 4 * layer]
        n, _, height, width = x.shape
        columns = nn.functional.unfold(x, 3, padding=1)
        y = (weight.flatten(1) @ columns + bias[:, None]).view(n, len(weight), height, width)
        seen[f"u{layer}"] = columns.movedim(1, -1).reshape(-1, columns.shape[1])
        seen[f"w{layer}"] = y
        seen[f"n{layer}"] = _norm(y, scale, shift)
        x = seen[f"a{layer}"] = torch.tanh(seen[f"n{layer}"])
        x = x.view(n, -1, height // 2, 2, width // 2, 2).amax((3, 5))
    seen["u3"] = x.mean((2, 3))
    seen["w3"] = seen["u3"] @ p[8].T + p[9]
    return seen["w3"], seen


def lstm(p: Sequence[Tensor], net: Net) -> tuple[Tensor, dict[str, Tensor]]:
    over_x, over_h, bias_x, bias_h, weight, bias = p
    x, size = net.inputs, over_h.shape[1]
    h = c = x.new_zeros(len(x), size)
    outputs = []
    for step in range(x.shape[1]):
        i, f, g, o = (x[:, step] @ over_x.T + bias_x + h @ over_h.T + bias_h).split(size, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    every = torch.stack(outputs, 1)
    assert net.lengths is not None
    last = torch.stack([every[row, length - 1] for row, length in enumerate(net.lengths.tolist())])
    valid = torch.cat([every[row, :length] for row, length in enumerate(net.lengths.tolist())])
    logits = last @ weight.T + bias
    return logits, {"w1": valid, "u2": last, "w2": logits}


class TorchLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][torch.arange(len(x)), lengths - 1])


def _torch_mlp() -> nn.Module:
    hidden = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh()]
    return nn.Sequential(*hidden, nn.Linear(5, 3))


def _torch_cnn() -> nn.Module:
    first = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Tanh(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def _ours(kind: str) -> nn.Module:
    norm = {"norm": {"kind": "batch_norm"}, "activation": "tanh"}
    if kind == "mlp":
        return build_network({"kind": "mlp", "hidden": [6, 5], **norm}, Signal((4,), "vector"), 3)
    if kind == "cnn":
        return build_network({"kind": "cnn", "channels": [3, 4], **norm}, (1, 8, 8), 3)
    signal = Signal((5, 3), "sequence", lengths=True)
    return build_network({"kind": "lstm", "hidden": [4], "norm": {"kind": "none"}}, signal, 3)


NETS = [(kind, whose) for kind in ("mlp", "cnn", "lstm") for whose in ("torch", "ours")]


def build(kind: str, whose: str) -> Net:
    torch.manual_seed(3)
    torchs = {"mlp": _torch_mlp, "cnn": _torch_cnn, "lstm": TorchLstm}
    model = (torchs[kind]() if whose == "torch" else _ours(kind)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            # Scales and shifts other than 1 and 0, too.
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    shape = {"mlp": (12, 4), "cnn": (6, 1, 8, 8), "lstm": (8, 5, 3)}[kind]
    labels = torch.randint(3, shape[:1])
    lengths = torch.tensor([5, 3, 1, 4, 5, 2, 3, 5]) if kind == "lstm" else None
    by_hand = {"mlp": mlp, "cnn": cnn, "lstm": lstm}[kind]
    places = ((0, 1, 4), (1, 1, 2), (0, 0, 4)) if kind == "lstm" else ((0, 4, 8), (1, 2, 3), (0, 4, 8))
    return Net(model, torch.randn(shape, dtype=torch.float64), labels, lengths, by_hand, *places)
