"""Figure 4 of Santurkar et al. (arXiv 1805.11604): how smooth the loss is along the gradient, by normalization.

The rate (0.1), the batches (128) and the probes (half to four times the rate) are the paper's. Its network, VGG on
CIFAR-10 for 15,000 steps, is not: here are eight hidden layers of 100 ReLU with He initialization, 5,000 images of
MNIST, and 300 steps. A VGG with 11 layers of a quarter of the width and Glorot's initialization was tried first:
without batch norm it stayed at the loss of chance for all 300 steps, and where nothing is learned there is nothing to
compare.
"""

from asking import ask

from client import Client

QUESTION = "santurkar-landscape"

arms = {
    norm: {
        "data": {"kind": "mnist5k"},
        "network": {
            "kind": "mlp",
            "hidden": [100] * 8,
            "norm": {"kind": norm},
            "init": {"kind": "kaiming"},
        },
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "train": {"steps": 300, "batch_size": 128},
        "evaluation": {"every_steps": 50},
        "diagnostics": [{"kind": "loss_landscape", "every_steps": 10, "examples": 256}],
    }
    for norm in ("none", "batch_norm")
}

MEASURES = (
    "test/accuracy",
    "diagnostics/loss_landscape/max",
    "diagnostics/loss_landscape/predictiveness",
    "diagnostics/loss_landscape/effective_smoothness",
)

with Client() as client:
    answer = ask(client, QUESTION, arms, MEASURES)
    everything = [one for ids in answer.experiments.values() for one in ids]
    print(client.figure(everything, "landscape").save(f"{QUESTION}.png"))
