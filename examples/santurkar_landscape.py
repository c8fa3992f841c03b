"""Figure 4 of Santurkar et al. (arXiv 1805.11604): how smooth the loss is along the gradient, by normalization.

VGG as in the paper, a quarter as wide and with 11 layers, on 5,000 images of MNIST instead of CIFAR-10; Glorot
initialization, SGD at 0.1, batches of 128. The paper has 15,000 steps; here are the first 300.
"""

from asking import ask

from client import Client

QUESTION = "santurkar-landscape"

arms = {
    norm: {
        "data": {"kind": "mnist5k"},
        "network": {"kind": "vgg", "depth": 11, "width": 16, "norm": {"kind": norm}, "init": {"kind": "xavier"}},
        "optimizer": {"kind": "sgd", "lr": 0.1},
        "train": {"steps": 300, "batch_size": 128},
        "evaluation": {"every_steps": 50},
        "diagnostics": [{"kind": "loss_landscape", "every_steps": 10, "examples": 128}],
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
    answer = ask(client, QUESTION, arms, MEASURES, seeds=1)
    everything = [one for ids in answer.experiments.values() for one in ids]
    print(client.figure(everything, "landscape").save(f"{QUESTION}.png"))
