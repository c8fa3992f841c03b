"""Can dropout go where there is batch norm? (arXiv 1502.03167, section 3.4.)

Three hidden layers of 200 ReLU learn 300 digits by heart, where regularization matters; the other 900 are held out and
not used.
"""

from asking import ask, print_differences

from client import Client

RATES = (0.0, 0.2, 0.5)
NORMS = ("none", "batch_norm")

arms = {
    f"{norm}, dropout {rate:g}": {
        "data": {"kind": "digits", "validation": {"count": 900}},
        "network": {"kind": "mlp", "hidden": [200] * 3, "norm": {"kind": norm}, "dropout": rate},
        "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
        "train": {"steps": 600, "batch_size": 60},
        "evaluation": {"every_steps": 600},
    }
    for norm in NORMS
    for rate in RATES
}

with Client() as client:
    answer = ask(client, "dropout", arms, ("test/accuracy", "test/loss"), seeds=5)
    pairs = [(f"{norm}, dropout {rate:g}", f"{norm}, dropout 0") for norm in NORMS for rate in RATES[1:]]
    print_differences(answer, "test/accuracy", [("batch_norm, dropout 0", "none, dropout 0"), *pairs])
