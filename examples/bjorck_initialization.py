"""Bjorck et al. (arXiv 1806.02375) before training: moments by depth, and the gradient by image and class.

The ResNet with 110 layers, with batch norm and without, He initialization, on 128 images of MNIST (28x28) instead of
CIFAR-10: before training there is nothing yet that the data could have taught.
"""

from asking import ask

from client import Client

QUESTION = "bjorck-initialization"

arms = {
    norm: {
        "data": {"kind": "mnist5k"},
        "network": {"kind": "resnet", "depth": 110, "norm": {"kind": norm}, "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "lr": 1e-6},
        "train": {"steps": 1, "batch_size": 16},
        "diagnostics": [
            {"kind": "norm_health", "enabled": False},
            {"kind": "activation_moments", "at": [0], "examples": 128},
            {"kind": "gradient_heatmap", "at": [0], "examples": 128},
        ],
    }
    for norm in ("none", "batch_norm")
}

MEASURES = (
    "diagnostics/activation_moments/slope",
    "diagnostics/gradient_heatmap/mode",
    "diagnostics/gradient_heatmap/maxcol",
    "diagnostics/gradient_heatmap/median_ratio",
)

with Client() as client:
    answer = ask(client, QUESTION, arms, MEASURES, seeds=1)
    firsts = [ids[0] for ids in answer.experiments.values()]
    for figure in ("moments", "gradient_heatmap", "kernel_ratios"):
        print(client.figure(firsts, figure).save(f"{QUESTION}-{figure}.png"))
