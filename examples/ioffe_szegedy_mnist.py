"""Figure 1 of Ioffe and Szegedy (arXiv 1502.03167), on 5,000 images of MNIST instead of 60,000.

Three hidden layers of 100 sigmoid units, batches of 60, plain SGD, with and without batch norm. The paper does not give
the learning rate and the scale of the first weights; here these are 0.5 and 0.1. It has binary pixels and 50,000 steps;
here they are grey, and 3,000.
"""

from asking import ask

from client import Client

QUESTION = "ioffe-szegedy-mnist"

arms = {
    norm: {
        "data": {"kind": "mnist5k"},
        "network": {
            "kind": "mlp",
            "hidden": [100] * 3,
            "activation": "sigmoid",
            "norm": {"kind": norm},
            "init": {"kind": "normal", "std": 0.1},
        },
        "optimizer": {"kind": "sgd", "lr": 0.5},
        "train": {"steps": 3000, "batch_size": 60, "target": {"test_accuracy": 0.85}},
        "evaluation": {"every_steps": 50},
        "diagnostics": [{"kind": "covariate_shift", "every_steps": 50}],
    }
    for norm in ("none", "batch_norm")
}

with Client() as client:
    answer = ask(client, QUESTION, arms, ("test/accuracy", "steps_to_target", "diagnostics/covariate_shift/last_drift"))
    everything = [one for ids in answer.experiments.values() for one in ids]
    for figure, file, look in (
        ("curves", "accuracy", {"keys": ["test/accuracy"]}),
        ("percentiles", "percentiles", {}),
    ):
        print(client.figure(everything, figure, **look).save(f"{QUESTION}-{file}.png"))
