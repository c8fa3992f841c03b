"""What does depth do before training: activations, gradients, predictions? (arXiv 1806.02375; 1902.08129.)

Plain and batch-normalized ReLU networks of 100 units a layer, with two initializations, measured before the first step.
"""

from asking import ask

from client import Client

DEPTHS = (5, 20, 50)
INITIALIZATIONS = ("kaiming", "xavier")

arms = {
    f"{norm}, {init}, {depth} layers": {
        "network": {"kind": "mlp", "hidden": [100] * depth, "norm": {"kind": norm}, "init": {"kind": init}},
        "optimizer": {"kind": "sgd", "lr": 1e-6},
        "train": {"steps": 1},
        "diagnostics": [
            {"kind": "activation_moments", "at": [0]},
            {"kind": "gradient_norms", "at": [0]},
            {"kind": "gradient_heatmap", "at": [0]},
        ],
    }
    for init in INITIALIZATIONS
    for norm in ("none", "batch_norm")
    for depth in DEPTHS
}

MEASURES = (
    "diagnostics/activation_moments/slope",
    "diagnostics/gradient_norms/growth",
    "diagnostics/gradient_heatmap/mode",
    "diagnostics/gradient_heatmap/colcons",
)

with Client() as client:
    ask(client, "depth-at-initialization", arms, MEASURES)
