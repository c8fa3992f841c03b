"""b / a of every kind of convolution is that of its products, one by one, in float64."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bncore import diagnostics

EXAMPLES, CLASSES = 5, 3
_NUMPY_PADS = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}

KINDS: dict[str, tuple[type[nn.Module], int, dict[str, Any]]] = {
    "1d": (nn.Conv1d, 1, {"padding": 1}),
    "2d": (nn.Conv2d, 2, {"padding": 1}),
    "2d, strided, dilated, in groups": (nn.Conv2d, 2, {"padding": (2, 1), "stride": 2, "dilation": 2, "groups": 2}),
    "2d, one channel a group": (nn.Conv2d, 2, {"groups": 4}),
    "2d, the same size": (nn.Conv2d, 2, {"padding": "same"}),
    "2d, circular": (nn.Conv2d, 2, {"padding": 1, "padding_mode": "circular"}),
    "2d, reflected": (nn.Conv2d, 2, {"padding": 1, "padding_mode": "reflect"}),
    "3d": (nn.Conv3d, 3, {"padding": 1}),
}


def patches(layer: Any, x: np.ndarray, shape: tuple[int, ...]) -> Any:
    """By place of the output, what each of its weights is multiplied with: (N, groups, channels a group, kernel)."""
    axes = x.ndim - 2
    pads = [1] * axes if layer.padding == "same" else list(layer.padding)
    x = np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in pads)], mode=_NUMPY_PADS[layer.padding_mode])  # type: ignore[call-overload]
    for place in itertools.product(*map(range, shape)):
        reach = [
            slice(at * stride, at * stride + dilation * (size - 1) + 1, dilation)
            for at, stride, dilation, size in zip(place, layer.stride, layer.dilation, layer.kernel_size, strict=True)
        ]
        patch = x[(slice(None), slice(None), *reach)]
        yield place, patch.reshape(len(x), layer.groups, -1, *patch.shape[2:])


@pytest.mark.parametrize("kind", KINDS)
def test_products_of_a_convolution_are_summed_one_by_one(kind: str) -> None:
    layer_of, axes, options = KINDS[kind]
    torch.manual_seed(3)
    x = torch.randn(EXAMPLES, 4, *(5, 6, 4)[:axes], dtype=torch.float64)
    labels = torch.randint(CLASSES, (EXAMPLES,))
    layer: Any = layer_of(4, 8, 3, **options, dtype=torch.float64)
    outputs = layer(x)
    last = nn.Linear(outputs[0].numel(), CLASSES, dtype=torch.float64)

    found = diagnostics.gradient_heatmap(nn.Sequential(layer, nn.Flatten(), last), x, labels)

    blame = blamed(last, outputs, labels).reshape(EXAMPLES, layer.groups, -1, *outputs.shape[2:])
    pulled, pulling = 0.0, 0.0
    for place, patch in patches(layer, x.numpy(), outputs.shape[2:]):
        products = np.einsum("ngo,ngi...->ngoi...", blame[(..., *place)], patch)
        pulled, pulling = pulled + products.sum(0), pulling + np.abs(products).sum(0)
    assert found.arrays["ratio"][0] == pytest.approx(np.abs(pulled).sum() / np.sum(pulling), rel=1e-12)


def blamed(last: nn.Linear, outputs: Tensor, labels: Tensor) -> np.ndarray:
    """The gradient of the loss, cross entropy, by what the convolution puts out."""
    logits = last(outputs.flatten(1))
    by_logits = torch.softmax(logits, 1) - nn.functional.one_hot(labels, CLASSES)
    return (by_logits @ last.weight).detach().numpy()
